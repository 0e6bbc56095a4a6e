using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace SamEngine.Training;

/// <summary>
/// What TorchSharp needs before it loads: a library of two lines, opened into the global scope first.
/// On Debian 12, TorchSharp's library wants one symbol, <c>_ZSt21ios_base_library_initv</c>, in version GLIBCXX_3.4.32 of GCC
/// 13's libstdc++; Debian 12 has GCC 12's. In the copy of the library that lies beside this program, that symbol is made
/// unversioned and the need for the version weak (two bytes); an empty function of that name comes from the small library.
/// On AMD processors, the BLAS inside libtorch takes kernels without AVX-512 unless it believes the processor to be Intel's;
/// <c>mkl_serv_intel_cpu_true</c> of the small library says so, and training takes little more than half the time.
/// </summary>
internal static class TorchLibrary
{
    private const string Symbol = "_ZSt21ios_base_library_initv";
    private const string Version = "GLIBCXX_3.4.32";
    private const int RtldNow = 2;
    private const int RtldGlobal = 0x100;

    /// <summary>Call before TorchSharp is touched.</summary>
    public static void Ensure()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }
        if (!HasVersion())
        {
            PatchLibrary();
        }
        string shim = Path.Combine(AppContext.BaseDirectory, "libtorch_shim.so");
        if (!File.Exists(shim))
        {
            string source = Path.ChangeExtension(shim, ".c");
            File.WriteAllText(source, $"void {Symbol}(void) {{}}\nint mkl_serv_intel_cpu_true(void) {{ return 1; }}\n");
            using var compiler = Process.Start("cc", ["-shared", "-fPIC", "-o", shim, source]);
            compiler.WaitForExit();
            if (compiler.ExitCode != 0)
            {
                throw new InvalidOperationException($"cc could not build {shim}");
            }
        }
        if (dlopen(shim, RtldNow | RtldGlobal) == 0)
        {
            throw new InvalidOperationException($"{shim} can't be opened");
        }
    }

    private static void PatchLibrary()
    {
        string library = Directory.EnumerateFiles(AppContext.BaseDirectory, "libLibTorchSharp.so", SearchOption.AllDirectories)
            .FirstOrDefault() ?? throw new InvalidOperationException("libLibTorchSharp.so is not beside the program");
        Patch(library);
    }

    /// <summary>Whether the system's libstdc++ names the version.</summary>
    private static bool HasVersion()
    {
        string[] places = ["/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
            "/usr/lib64/libstdc++.so.6"];
        return places.Where(File.Exists).Take(1).Any(p =>
            File.ReadAllBytes(p).AsSpan().IndexOf(Encoding.ASCII.GetBytes(Version + "\0")) >= 0);
    }

    private static void Patch(string path)
    {
        byte[] elf = File.ReadAllBytes(path);
        var sections = Sections(elf);
        var (symbols, strings) = (sections[".dynsym"], sections[".dynstr"]);
        var (versions, needs) = (sections[".gnu.version"], sections[".gnu.version_r"]);
        bool changed = false;
        for (int i = 0; i < symbols.Size / 24; i++)
        {
            int name = (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(symbols.Offset + 24 * i));
            if (Text(elf, strings.Offset + name) == Symbol)
            {
                // 1: global, no version.
                changed |= Write(elf, versions.Offset + 2 * i, 1);
            }
        }
        for (int file = needs.Offset; ;)
        {
            int entry = file + (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(file + 8));
            int count = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(file + 2));
            for (int i = 0; i < count; i++)
            {
                int name = (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(entry + 8));
                if (Text(elf, strings.Offset + name) == Version)
                {
                    // VER_FLG_WEAK.
                    changed |= Write(elf, entry + 4, 2);
                }
                entry += (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(entry + 12));
            }
            int next = (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(file + 12));
            if (next == 0)
            {
                break;
            }
            file += next;
        }
        if (changed)
        {
            // A new file: the old one may be a link into a package folder.
            File.Delete(path);
            File.WriteAllBytes(path, elf);
        }
    }

    private static Dictionary<string, (int Offset, int Size)> Sections(byte[] elf)
    {
        int table = (int)BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(0x28));
        int entry = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x3A));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x3C));
        int names = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x3E));
        int Offset(int i) => (int)BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(table + i * entry + 0x18));
        return Enumerable.Range(0, count).Select(i => (
            Name: Text(elf, Offset(names) + (int)BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(table + i * entry))),
            Place: (Offset(i), (int)BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(table + i * entry + 0x20)))))
            .GroupBy(s => s.Name).ToDictionary(g => g.Key, g => g.First().Place);
    }

    private static string Text(byte[] elf, int at) => Encoding.ASCII.GetString(elf, at, Array.IndexOf(elf, (byte)0, at) - at);

    private static bool Write(byte[] elf, int at, ushort value)
    {
        bool changes = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(at)) != value;
        BinaryPrimitives.WriteUInt16LittleEndian(elf.AsSpan(at), value);
        return changes;
    }

    [DllImport("libc")]
    private static extern nint dlopen([MarshalAs(UnmanagedType.LPStr)] string path, int flags);
}
