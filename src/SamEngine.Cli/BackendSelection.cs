using SamEngine.Cuda;
using SamEngine.Ilgpu;

namespace SamEngine.Cli;

/// <summary>What <c>--backend</c> can name.</summary>
internal enum BackendName
{
    /// <summary>The best there is.</summary>
    Auto,

    /// <summary>The native CPU backend.</summary>
    Cpu,

    /// <summary>NVIDIA GPUs, through their driver.</summary>
    Cuda,

    /// <summary>ILGPU.</summary>
    Ilgpu,
}

/// <summary>A backend chosen.</summary>
/// <param name="Provider">Null: the native CPU backend.</param>
/// <param name="Reason">Why, as text behind the backend's name; empty when it was named.</param>
internal sealed record BackendSelection(BackendProvider? Provider, string Reason)
{
    /// <summary>What <c>--backend</c>, <c>--device</c> and <c>--activations</c> mean here. Auto takes the first GPU that CUDA can use,
    /// else that ILGPU can use, else the native CPU backend; a GPU that then fails is an error, not a reason to go
    /// elsewhere.</summary>
    /// <exception cref="RequestException">An option of another backend.</exception>
    public static BackendSelection Choose(BackendName backend, int? device, CudaActivationType? activations)
    {
        if (device is not null && backend is not (BackendName.Cuda or BackendName.Ilgpu))
        {
            throw new RequestException(nameof(IlgpuProvider.Device), $"is {device}, but goes with --backend cuda and --backend ilgpu only");
        }
        if (activations is not null && backend != BackendName.Cuda)
        {
            throw new RequestException(nameof(CudaProvider.ActivationType),
                $"is {activations.ToString()!.ToLowerInvariant()}, but goes with --backend cuda only");
        }
        return backend switch
        {
            BackendName.Cuda => new BackendSelection(
                new CudaProvider { Device = device, ActivationType = activations ?? CudaActivationType.F16 }, ""),
            BackendName.Ilgpu => new BackendSelection(new IlgpuProvider { Device = device }, ""),
            BackendName.Cpu => new BackendSelection(null, ""),
            _ => Auto(),
        };
    }

    /// <summary>What auto chooses on this machine.</summary>
    public static BackendSelection Auto()
    {
        const string Taken = ", the first GPU; --backend cpu computes without it";
        string? refusal = CudaProvider.DriverFailure;
        if (refusal is null)
        {
            var gpus = CudaProvider.Devices;
            if (gpus.FirstOrDefault(d => d.Refusal is null) is { } gpu)
            {
                return new BackendSelection(new CudaProvider { Device = gpu.Number }, Taken);
            }
            refusal = gpus.Count == 0 ? "the driver finds no GPU" : string.Join("; ", gpus.Select(d => $"{d.Name}: {d.Refusal}"));
        }
        if (IlgpuProvider.ForFirstGpu(out string problems) is { } other)
        {
            return new BackendSelection(other, $"{Taken}; not cuda: {refusal}");
        }
        // ILGPU asks for the same driver, and says when it is not there.
        string cuda = CudaProvider.HasDriver ? $"cuda: {refusal}; " : "";
        return new BackendSelection(null, $", as no GPU can be used ({cuda}{problems})");
    }
}
