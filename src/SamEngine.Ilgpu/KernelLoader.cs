using System.Reflection;
using ILGPU;
using ILGPU.Runtime;

namespace SamEngine.Ilgpu;

/// <summary>Compiles kernels for an accelerator and keeps their list, from which a test compiles them for other ones.</summary>
internal sealed class KernelLoader(Accelerator accelerator)
{
    private readonly List<MethodInfo> _methods = [];

    /// <summary>Every kernel compiled so far.</summary>
    public IReadOnlyList<MethodInfo> Methods => _methods;

    /// <summary>Compiles a kernel for launches with explicit groups.</summary>
    public Action<KernelConfig, T1> Load<T1>(Action<T1> kernel)
        where T1 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    /// <inheritdoc cref="Load{T1}"/>
    public Action<KernelConfig, T1, T2> Load<T1, T2>(Action<T1, T2> kernel)
        where T1 : struct
        where T2 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    /// <inheritdoc cref="Load{T1}"/>
    public Action<KernelConfig, T1, T2, T3> Load<T1, T2, T3>(Action<T1, T2, T3> kernel)
        where T1 : struct
        where T2 : struct
        where T3 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    /// <inheritdoc cref="Load{T1}"/>
    public Action<KernelConfig, T1, T2, T3, T4> Load<T1, T2, T3, T4>(Action<T1, T2, T3, T4> kernel)
        where T1 : struct
        where T2 : struct
        where T3 : struct
        where T4 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    /// <inheritdoc cref="Load{T1}"/>
    public Action<KernelConfig, T1, T2, T3, T4, T5> Load<T1, T2, T3, T4, T5>(Action<T1, T2, T3, T4, T5> kernel)
        where T1 : struct
        where T2 : struct
        where T3 : struct
        where T4 : struct
        where T5 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    /// <inheritdoc cref="Load{T1}"/>
    public Action<KernelConfig, T1, T2, T3, T4, T5, T6> Load<T1, T2, T3, T4, T5, T6>(Action<T1, T2, T3, T4, T5, T6> kernel)
        where T1 : struct
        where T2 : struct
        where T3 : struct
        where T4 : struct
        where T5 : struct
        where T6 : struct => Noted(kernel, accelerator.LoadStreamKernel(kernel));

    private TLauncher Noted<TLauncher>(Delegate kernel, TLauncher launcher)
    {
        _methods.Add(kernel.Method);
        return launcher;
    }
}
