
namespace SamEngine;

/// <summary>How <see cref="SamModel.LoadAsync"/> opens a model and what it may use.</summary>
public sealed record SamModelOptions
{
    /// <summary>Where to compute. Without a <see cref="BackendProvider"/>: on the processor.</summary>
    public BackendChoice Backend { get; init; } = BackendChoice.Auto;

    /// <summary>A backend from a package of its own, such as <c>IlgpuProvider</c> of SamEngine.Ilgpu; null leaves the choice to
    /// <see cref="Backend"/>.</summary>
    public BackendProvider? BackendProvider { get; init; }

    /// <summary>Formats of the weight matrices in memory, one for all or part by part; null keeps them as stored, mapped from
    /// the file without a copy. Asking for another format converts them while loading: for a large model, quantize a folder
    /// once instead (<see cref="Checkpoints.ModelQuantizer"/>, <c>sam model quantize</c>).</summary>
    public WeightFormats? Weights { get; init; }

    /// <summary>Map weight files (the default) instead of reading them. A mapped file must not be changed or truncated
    /// while the model is loaded; when that can't be promised, switch this off.</summary>
    public bool UseMmap { get; init; } = true;

    /// <summary>A file with SAM's trained tensors to put over the folder's: safetensors, or a torch file where
    /// <see cref="AllowTorchFiles"/> says so.</summary>
    public string? Adapters { get; init; }

    /// <summary>Open torch files (<c>.pth</c>, <c>.bin</c>) as well as safetensors. Nothing in them is executed.</summary>
    public bool AllowTorchFiles { get; init; }

    /// <summary>Most threads to compute with; 0 takes one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>Instruction set of the CPU backend: "scalar", "avx2", "avx512", "avx512-vnni" or "avx512-bf16"; null takes
    /// the best there is.</summary>
    public string? InstructionSet { get; init; }

    /// <summary>Tokens that the key/value memory holds over all running requests; 0 takes twice the model's context, or what five
    /// beams of 256 tokens need if that is more. Memory
    /// is touched only as it is used. Requests that do not fit wait for others to end.</summary>
    public int KvCacheTokens { get; init; }

    /// <summary>Most that a picture may demand.</summary>
    public ImageLimits ImageLimits { get; init; } = new();
}

/// <summary>A kind of backend.</summary>
public enum BackendChoice
{
    /// <summary><see cref="SamModelOptions.BackendProvider"/>'s; without a provider the native CPU backend, even where there is a
    /// GPU. (The command's <c>--backend auto</c> does look for one: it has the providers.)</summary>
    Auto,

    /// <summary>The native CPU backend; a <see cref="SamModelOptions.BackendProvider"/> beside it is an error.</summary>
    Cpu,
}
