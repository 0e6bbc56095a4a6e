using System.Runtime.InteropServices;

namespace SamEngine.Compute.Cpu;

/// <summary>One place where the native library was looked for.</summary>
/// <param name="Path">The file or name tried.</param>
/// <param name="Outcome">"loaded", or why not.</param>
public sealed record LibraryProbe(string Path, string Outcome);

/// <summary>
/// Finds and loads the native library once, when it is first needed: the file that <c>SAM_NATIVE_LIBRARY</c> names, beside
/// the application, in <c>runtimes/&lt;rid&gt;/native</c>, then wherever the system looks. Every place tried is kept for
/// <c>sam doctor</c>.
/// </summary>
internal static class NativeLibraryLoader
{
    private const string Variable = "SAM_NATIVE_LIBRARY";
    private static readonly Lock Gate = new();
    private static readonly List<LibraryProbe> Tried = [];
    private static nint _handle;
    private static string? _failure;
    private static bool _attempted;

    /// <summary>Loads the library if needed.</summary>
    /// <exception cref="BackendException">No place has a library of the right version; the message lists them.</exception>
    public static void Ensure()
    {
        lock (Gate)
        {
            if (!_attempted)
            {
                _attempted = true;
                Load();
            }
            if (_failure is not null)
            {
                throw new BackendException("cpu", _failure);
            }
        }
    }

    /// <summary>What was tried so far, in order.</summary>
    public static IReadOnlyList<LibraryProbe> Probes
    {
        get
        {
            lock (Gate)
            {
                return [.. Tried];
            }
        }
    }

    private static void Load()
    {
        foreach (string path in Candidates())
        {
            if (Path.IsPathRooted(path) && !File.Exists(path))
            {
                Tried.Add(new LibraryProbe(path, "not there"));
                continue;
            }
            try
            {
                _handle = Path.IsPathRooted(path)
                    ? NativeLibrary.Load(path)
                    : NativeLibrary.Load(path, typeof(NativeLibraryLoader).Assembly, null);
                Tried.Add(new LibraryProbe(path, "loaded"));
                break;
            }
            catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
            {
                Tried.Add(new LibraryProbe(path, e.Message));
            }
        }
        if (_handle == 0)
        {
            _failure = "the native library was not found. Tried:\n" +
                string.Join("\n", Tried.Select(p => $"  {p.Path}: {p.Outcome}")) +
                $"\nSet {Variable} to the file, or publish for a supported platform (linux-x64).";
            return;
        }
        NativeLibrary.SetDllImportResolver(typeof(NativeLibraryLoader).Assembly,
            (name, _, _) => name == NativeCpu.Library ? _handle : 0);
        if (!NativeLibrary.TryGetExport(_handle, nameof(NativeCpu.sam_abi_version), out _))
        {
            _failure = $"{Tried[^1].Path} is another library: it has no {nameof(NativeCpu.sam_abi_version)}";
            return;
        }
        int version = NativeCpu.sam_abi_version();
        if (version != NativeCpu.AbiVersion)
        {
            _failure = $"{Tried[^1].Path} has ABI version {version}, this build of SamEngine needs {NativeCpu.AbiVersion}: " +
                "an older copy of the library is in the way";
        }
    }

    private static IEnumerable<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } set)
        {
            // An explicit choice is the only candidate: another file in its place would be a silent fallback.
            yield return Path.GetFullPath(set);
            yield break;
        }
        string file = OperatingSystem.IsWindows() ? NativeCpu.Library + ".dll"
            : OperatingSystem.IsMacOS() ? $"lib{NativeCpu.Library}.dylib" : $"lib{NativeCpu.Library}.so";
        yield return Path.Combine(AppContext.BaseDirectory, file);
        yield return Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeInformation.RuntimeIdentifier, "native", file);
        string portable = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
        string architecture = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "arm64" : "x64";
        yield return Path.Combine(AppContext.BaseDirectory, "runtimes", $"{portable}-{architecture}", "native", file);
        yield return NativeCpu.Library;
    }
}
