using System.Reflection;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>Every kernel is compiled for GPUs, without one: what only a GPU's compiler would refuse shows here.</summary>
public sealed class CompilationTests(CpuAccelerator accelerator) : IClassFixture<CpuAccelerator>
{
    [Fact]
    public void Every_kernel_compiles_to_PTX()
    {
        using var context = Context.Create(builder => builder.EnableAlgorithms());
        foreach (var architecture in (CudaArchitecture[])[CudaArchitecture.SM_60, CudaArchitecture.SM_80, CudaArchitecture.SM_90])
        {
            using var backend = new PTXBackend(context, new CudaCapabilityContext(architecture), architecture, CudaInstructionSet.ISA_80, null);
            foreach (var method in accelerator.Backend.Loader.Methods)
            {
                var kernel = (PTXCompiledKernel)Compile(backend, method);
                Assert.Contains(".visible .entry", kernel.PTXAssembly, StringComparison.Ordinal);
            }
        }
    }

    private static CompiledKernel Compile(Backend backend, MethodInfo method)
    {
        try
        {
            return backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(method), KernelSpecialization.Empty);
        }
        catch (InternalCompilerException e)
        {
            throw new InvalidOperationException($"{method.DeclaringType!.Name}.{method.Name}: {e}", e);
        }
    }
}
