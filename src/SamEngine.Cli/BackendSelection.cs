using SamEngine.Ilgpu;

namespace SamEngine.Cli;

/// <summary>What <c>--backend</c> can name.</summary>
internal enum BackendName
{
    /// <summary>The best there is.</summary>
    Auto,

    /// <summary>The native CPU backend.</summary>
    Cpu,

    /// <summary>ILGPU.</summary>
    Ilgpu,
}

/// <summary>A backend chosen.</summary>
/// <param name="Provider">Null: the native CPU backend.</param>
/// <param name="Reason">Why, as text behind the backend's name; empty when it was named.</param>
internal sealed record BackendSelection(BackendProvider? Provider, string Reason)
{
    /// <summary>What <c>--backend</c> and <c>--device</c> mean here. Auto takes the first GPU that ILGPU can use, else the native CPU
    /// backend; a GPU that then fails is an error, not a reason to go elsewhere.</summary>
    /// <exception cref="RequestException">A device of another backend.</exception>
    public static BackendSelection Choose(BackendName backend, int? device)
    {
        if (device is not null && backend != BackendName.Ilgpu)
        {
            throw new RequestException(nameof(IlgpuProvider.Device), $"is {device}, but goes with --backend ilgpu only");
        }
        return backend switch
        {
            BackendName.Ilgpu => new BackendSelection(new IlgpuProvider { Device = device }, ""),
            BackendName.Cpu => new BackendSelection(null, ""),
            _ => Auto(),
        };
    }

    /// <summary>What auto chooses on this machine.</summary>
    public static BackendSelection Auto() => IlgpuProvider.ForFirstGpu(out string problems) is { } gpu
        ? new BackendSelection(gpu, ", the first GPU; --backend cpu computes without it")
        : new BackendSelection(null, $", as no GPU can be used ({problems})");
}
