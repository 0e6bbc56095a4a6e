using System.Reflection;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.OpenCL;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>Every kernel is compiled for GPUs, without one: what only a GPU's compiler would refuse shows here.</summary>
public sealed class CompilationTests(CpuAccelerator threads, GroupAccelerator groups)
    : IClassFixture<CpuAccelerator>, IClassFixture<GroupAccelerator>
{
    /// <summary>Those for the CPU accelerator, those for GPUs, and what both use.</summary>
    private IEnumerable<MethodInfo> Kernels => threads.Backend.Loader.Methods.Concat(groups.Backend.Loader.Methods).Distinct();

    [Fact]
    public void No_kernel_is_missing()
    {
        // A kernel is what looks like one: public, static, returns nothing.
        var written = typeof(IlgpuBackend).Assembly.GetTypes().Where(t => t.Namespace == "SamEngine.Ilgpu" && t.IsAbstract && t.IsSealed)
            .SelectMany(t => t.GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly))
            .Where(m => m.ReturnType == typeof(void)).Select(Name)
            // Parts of kernels, and what is none.
            .Except(["Linear.Store", "GroupReduction.Wait", "DriverLibraries.Ensure"]);
        Assert.Equal(written.Distinct().Order(StringComparer.Ordinal), Kernels.Select(Name).Distinct().Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_kernel_compiles_to_PTX()
    {
        using var context = Context.Create(builder => builder.EnableAlgorithms());
        foreach (var architecture in (CudaArchitecture[])[CudaArchitecture.SM_60, CudaArchitecture.SM_80, CudaArchitecture.SM_90])
        {
            using var backend = new PTXBackend(context, new CudaCapabilityContext(architecture), architecture, CudaInstructionSet.ISA_80, null);
            foreach (var method in Kernels)
            {
                var kernel = (PTXCompiledKernel)Compile(backend, method);
                Assert.Contains(".visible .entry", kernel.PTXAssembly, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void Every_kernel_compiles_to_OpenCL_C()
    {
        using var context = Context.Create(builder => builder.EnableAlgorithms());
        var everything = new CLCapabilityContext(true, true, true, true, true);
        using var backend = new CLBackend(context, everything, CLDeviceVendor.Other, CLBackend.MinimumVersion);
        foreach (var method in Kernels)
        {
            var kernel = (CLCompiledKernel)Compile(backend, method);
            Assert.Contains("kernel void", kernel.Source, StringComparison.Ordinal);
        }
    }

    private static string Name(MethodInfo method) => $"{method.DeclaringType!.Name}.{method.Name}";

    private static CompiledKernel Compile(Backend backend, MethodInfo method)
    {
        try
        {
            return backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(method), KernelSpecialization.Empty);
        }
        catch (InternalCompilerException e)
        {
            throw new InvalidOperationException($"{Name(method)}: {e}", e);
        }
    }
}
