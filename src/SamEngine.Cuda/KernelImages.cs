using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>One compilation of all kernels, embedded in the assembly.</summary>
/// <param name="Resource">Name of the resource.</param>
/// <param name="Architecture">What it was compiled for: "sm_80", "sm_90a".</param>
/// <param name="Capability">10 * major + minor of it.</param>
/// <param name="IsSpecific">Uses instructions of this very architecture ("sm_90a"): serves no later one.</param>
/// <param name="IsPtx">Compiled further by the driver, for this or a later architecture; else machine code.</param>
internal sealed record KernelImage(string Resource, string Architecture, int Capability, bool IsSpecific, bool IsPtx)
{
    /// <summary>"PTX sm_80".</summary>
    public override string ToString() => $"{(IsPtx ? "PTX" : "cubin")} {Architecture}";

    /// <summary>Whether a device of this compute capability can run it: machine code within its generation, PTX on anything
    /// later.</summary>
    public bool Serves(int capability) => IsSpecific ? capability == Capability
        : IsPtx ? capability >= Capability
        : capability >= Capability && capability / 10 == Capability / 10;
}

/// <summary>The images that the build embedded.</summary>
internal static partial class KernelImages
{
    public static IReadOnlyList<KernelImage> All { get; } = [.. typeof(KernelImages).Assembly.GetManifestResourceNames()
        .Select(Parse).OfType<KernelImage>().OrderBy(i => i.Capability).ThenBy(i => i.IsSpecific).ThenBy(i => i.IsPtx)];

    /// <summary>The best image for a device: machine code before PTX, the closest architecture first; null when none serves
    /// it.</summary>
    public static KernelImage? For(int capability) => All.Where(i => i.Serves(capability))
        .OrderBy(i => i.IsPtx).ThenByDescending(i => i.Capability).ThenByDescending(i => i.IsSpecific).FirstOrDefault();

    /// <summary>An image for one type of activations, with a zero behind, which ends PTX. Of PTX the kernels for other types are
    /// left out: the driver compiles all that it is given, which takes seconds.</summary>
    public static byte[] Read(KernelImage image, string activation)
    {
        using var stream = typeof(KernelImages).Assembly.GetManifestResourceStream(image.Resource)!;
        byte[] bytes = new byte[stream.Length + 1];
        stream.ReadExactly(bytes, 0, (int)stream.Length);
        return image.IsPtx ? Encoding.ASCII.GetBytes(Only(Encoding.ASCII.GetString(bytes), activation)) : bytes;
    }

    /// <summary>PTX without the kernels for other types of activations. An entry goes from its first line to a brace at the
    /// beginning of a line.</summary>
    internal static string Only(string ptx, string activation)
    {
        const string Entry = "\n.visible .entry ";
        const string End = "\n}\n";
        var kept = new StringBuilder(ptx.Length);
        int at = 0;
        for (int entry; (entry = ptx.IndexOf(Entry, at, StringComparison.Ordinal)) >= 0;)
        {
            int name = entry + Entry.Length;
            int end = ptx.IndexOf(End, name, StringComparison.Ordinal) + End.Length;
            kept.Append(ptx, at, entry - at);
            if (IsFor(ptx[name..ptx.IndexOf('(', name)], activation))
            {
                kept.Append(ptx, entry, end - entry);
            }
            else
            {
                kept.Append('\n');
            }
            at = end;
        }
        return kept.Append(ptx, at, ptx.Length - at).ToString();
    }

    /// <summary>The first type in a kernel's name is that of the activations; copies are between any two.</summary>
    private static bool IsFor(string kernel, string activation) => Conversion().IsMatch(kernel)
        || ActivationType().Match(kernel) is not { Success: true } match || match.Groups["type"].ValueSpan.SequenceEqual(activation);

    /// <summary>What a device lacks when no image serves it.</summary>
    public static string WhyNone(int capability) => All.Count == 0
        ? "this build of SamEngine.Cuda has no kernels: when it was built, no compiler for them was found; install clang++ 18 or " +
            "later (Debian: apt install clang-19) or nvcc, and build again"
        : $"it has compute capability {capability / 10}.{capability % 10}; the kernels are compiled for {string.Join(", ", All)}";

    /// <summary>The image of a driver that has the kernels in itself, as the emulator of the tests.</summary>
    public static bool DriverHasKernels => CudaLibrary.Has("samEmulatorFail");

    private static KernelImage? Parse(string resource)
    {
        var match = Name().Match(resource);
        return match.Success ? new KernelImage(resource, match.Groups["name"].Value,
            int.Parse(match.Groups["number"].ValueSpan, CultureInfo.InvariantCulture), match.Groups["specific"].Length > 0,
            match.Groups["kind"].ValueSpan is "ptx") : null;
    }

    [GeneratedRegex(@"(?<name>sm_(?<number>\d+)(?<specific>a?))\.(?<kind>ptx|cubin)$")]
    private static partial Regex Name();

    [GeneratedRegex("^copy_(f32|f16|bf16)_")]
    private static partial Regex Conversion();

    [GeneratedRegex(@"_(?<type>f32|f16|bf16)(_|$)")]
    private static partial Regex ActivationType();
}
