using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SamEngine.Cuda.Driver;

/// <summary>Turns the driver's statuses into exceptions that name the call.</summary>
internal static class CudaErrors
{
    /// <summary>The backend's name in errors.</summary>
    public const string Backend = "cuda";

    /// <exception cref="BackendException">The status is an error.</exception>
    public static void Check(CudaStatus status, [CallerArgumentExpression(nameof(status))] string call = "")
    {
        if (status != CudaStatus.Success)
        {
            throw Failed(status, call);
        }
    }

    /// <summary>The error of a call, given as its source text, and of what it was to do.</summary>
    public static BackendException Failed(CudaStatus status, string call, string? what = null, bool isFatal = false) =>
        new(Backend, $"{Name(call)}{(what is null ? "" : $" of '{what}'")} failed: {Describe(status)}", isFatal);

    /// <summary>The status's name and what it means, as the driver puts it.</summary>
    public static unsafe string Describe(CudaStatus status)
    {
        byte* name = null;
        byte* text = null;
        _ = CudaDriver.cuGetErrorName(status, &name);
        _ = CudaDriver.cuGetErrorString(status, &text);
        return name == null ? $"CUDA error {(int)status}"
            : text == null ? Marshal.PtrToStringUTF8((nint)name)!
            : $"{Marshal.PtrToStringUTF8((nint)name)} ({Marshal.PtrToStringUTF8((nint)text)})";
    }

    /// <summary>"cuInit" of "CudaDriver.cuInit(0)".</summary>
    private static string Name(string call)
    {
        int end = call.IndexOf('(', StringComparison.Ordinal);
        string function = end < 0 ? call : call[..end];
        return function[(function.LastIndexOf('.') + 1)..];
    }
}
