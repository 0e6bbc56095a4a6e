using SamEngine.Compute;

namespace SamEngine.Cuda;

/// <summary>Linear layers: which kernel serves which shape. The plain kernel takes what no other can.</summary>
internal sealed partial class CudaQueue
{
    /// <summary>Rows up to which weights are read by the vector kernels.</summary>
    private const int MostFewRows = 16;

    protected override void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual)
    {
        var arguments = new LinearArguments
        {
            X = Native(x),
            Y = Native(y),
            Residual = Native(residual),
            Weight = ((CudaWeight)weight).Native,
            Bias = Data(bias),
            Activation = activation,
            Splits = 1,
        };
        int rows = x.TotalRows;
        if (rows <= MostFewRows && x.Columns % 8 == 0 && HasVectorRows(arguments.X)
            && _backend.Kernels.LinearFew(weight.Format, sixteen: rows > 8) is { } few)
        {
            Launch(few, FewShape(arguments.Weight, weight.Format, rows), arguments);
            return;
        }
        long tiles = CeilDiv(weight.Rows, 4) * (rows <= 2 ? rows : CeilDiv(rows, 4));
        Launch(_backend.Kernels.Linear(weight.Format), Shared(tiles, 128), arguments);
    }

    /// <summary>Whether every row begins where 16 bytes can be loaded at once.</summary>
    private static bool HasVectorRows(in DeviceView view) =>
        view.Data % 16 == 0 && view.RowStride % 8 == 0 && view.BatchStride % 8 == 0;

    /// <summary>linear_few.cu: a block of warps for every 16 (Q4: 32) rows of the weights, which divide the columns among
    /// themselves.</summary>
    private LaunchShape FewShape(in DeviceWeight weight, WeightFormat format, int rows)
    {
        bool sixteen = rows > 8;
        bool isQ4 = format == WeightFormat.Q4;
        int tile = isQ4 ? 32 : 16;
        int run = format.IsQuantized() && weight.GroupSize % 64 == 0 ? 64 : 32;
        int warps = (int)Math.Clamp(CeilDiv(weight.Columns, run), 1, isQ4 && !sixteen ? 16 : 8);
        int shared = sizeof(float) * warps * tile * (sixteen ? 16 : 8);
        long tiles = CeilDiv(weight.Rows, tile);
        // Q4 makes a table in every block: as many blocks as run at a time, which go on with the next rows.
        return isQ4
            ? new LaunchShape((uint)Math.Min(tiles, _backend.Multiprocessors), (uint)(warps * Warp), (uint)(shared + Q4TableBytes))
            : new LaunchShape((uint)tiles, (uint)(warps * Warp), (uint)shared);
    }

    /// <summary>Pairs of levels for every byte of Q4, once for each lane.</summary>
    private const int Q4TableBytes = 256 * Warp * sizeof(int);
}
