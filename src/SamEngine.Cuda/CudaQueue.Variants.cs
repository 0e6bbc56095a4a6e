using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>What <see cref="CudaVariants"/> asks for.</summary>
internal sealed unsafe partial class CudaQueue
{
    /// <summary>Fewer rows would leave more than half of a tile of 128 empty.</summary>
    private const int LeastWgmmaRows = 65;

    /// <summary>Two warpgroups that multiply and a warp that copies; three stages of 128 rows of 128 bytes of both operands, and
    /// room to align them: kernels/linear_wgmma.cu.</summary>
    private const int WgmmaThreads = 288;
    private const int WgmmaSharedBytes = 3 * 2 * 128 * 128 + 1024;

    private TensorMaps? _maps;

    /// <summary>Rows of all batch entries lie at one distance, each where the copy engine can begin; weights are of the activation
    /// type.</summary>
    private bool IsForWgmma(in DeviceView x, WeightFormat format, int rows) => rows >= LeastWgmmaRows
        && format == (_backend.ActivationType == ElementType.BF16 ? WeightFormat.BF16 : WeightFormat.F16)
        && HasVectorRows(x) && (x.Batch == 1 || x.BatchStride == x.Rows * x.RowStride);

    private void LaunchWgmma(LinearArguments arguments, int rows, Weight weight)
    {
        var tiled = LinearTiles.Of(isLarge: true, _backend.Multiprocessors, rows, weight);
        Split(ref arguments, tiled, rows);
        _maps ??= new TensorMaps(_backend);
        Launch(_backend.Kernels.LinearWgmma!, new LaunchShape((uint)tiled.Down, WgmmaThreads, WgmmaSharedBytes, (uint)tiled.Across,
            (uint)tiled.Splits), new WgmmaArguments
            {
                XMap = _maps.For(arguments.X.Data, rows, arguments.X.Columns, arguments.X.RowStride),
                WeightMap = _maps.For(arguments.Weight.Data, arguments.Weight.Rows, arguments.Weight.Columns, arguments.Weight.RowStride),
                Linear = arguments,
            });
    }

    /// <summary>A launch that may begin while the kernel before it still runs.</summary>
    private void LaunchDependent(CudaKernel kernel, LaunchShape shape, void** argument)
    {
        var attribute = new CudaLaunchAttribute { Id = CudaLaunchAttribute.ProgrammaticStreamSerialization, Value = 1 };
        var config = new CudaLaunchConfig
        {
            GridX = shape.GridX,
            GridY = shape.GridY,
            GridZ = shape.GridZ,
            BlockX = shape.Block,
            BlockY = 1,
            BlockZ = 1,
            SharedBytes = shape.SharedBytes,
            Stream = _stream,
            Attributes = &attribute,
            AttributeCount = 1,
        };
        var status = CudaDriver.cuLaunchKernelEx(&config, kernel.Function, argument, null);
        if (status != CudaStatus.Success)
        {
            throw _backend.Fail(status, nameof(CudaDriver.cuLaunchKernelEx), kernel.Name);
        }
        kernel.WasLaunched = true;
    }
}
