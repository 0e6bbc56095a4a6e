using SamEngine.Compute;

namespace SamEngine.Cuda;

/// <summary>Linear layers: which kernel serves which shape. The plain kernel takes what no other can.</summary>
internal sealed partial class CudaQueue
{
    /// <summary>Rows up to which linear_few.cu serves; behind them linear_few64.cu.</summary>
    private const int MostVectorRows = 16;

    /// <summary>Pairs of levels for every byte of Q4, once for each lane.</summary>
    private const int Q4TableBytes = 256 * Warp * sizeof(int);

    private DeviceMemory? _tickets;

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
        if (x.Columns % 8 == 0 && HasVectorRows(arguments.X) && _backend.Kernels.LinearFew(weight.Format, rows) is { } few)
        {
            var shape = rows <= MostVectorRows ? FewShape(arguments.Weight, weight.Format, rows) : FewRowsShape(ref arguments, weight.Format, rows);
            Launch(few, shape, arguments);
            return;
        }
        if ((_backend.Variants & CudaVariants.Wgmma) != 0 && IsForWgmma(arguments.X, weight.Format, rows))
        {
            LaunchWgmma(arguments, rows, weight);
            return;
        }
        if (rows > MostVectorRows && HasEvenRows(arguments.X)
            && LinearTiles.For(_backend.Multiprocessors, rows, weight) is var tiled
            && _backend.Kernels.LinearMma(weight.Format, tiled.IsLarge) is { } mma)
        {
            Split(ref arguments, tiled, rows);
            Launch(mma, tiled.Shape(weight.Format), arguments);
            return;
        }
        long tiles = CeilDiv(weight.Rows, 4) * (rows <= 2 ? rows : CeilDiv(rows, 4));
        Launch(_backend.Kernels.Linear(weight.Format), Shared(tiles, 128), arguments);
    }

    /// <summary>Memory for the parts of a product split along K.</summary>
    private void Split(ref LinearArguments arguments, in LinearTiles tiled, int rows)
    {
        if (tiled.Splits > 1)
        {
            arguments.Splits = tiled.Splits;
            arguments.Partials = Scratch((long)tiled.Splits * rows * tiled.Across * tiled.Tile * sizeof(float));
            arguments.Tickets = Tickets(tiled.Down * tiled.Across);
        }
    }

    /// <summary>Whether every row begins where 16 bytes can be loaded at once.</summary>
    private static bool HasVectorRows(in DeviceView view) =>
        view.Data % 16 == 0 && view.RowStride % 8 == 0 && view.BatchStride % 8 == 0;

    /// <summary>Whether every row begins where 4 bytes can be loaded at once.</summary>
    private static bool HasEvenRows(in DeviceView view) =>
        view.Data % 4 == 0 && view.RowStride % 2 == 0 && view.BatchStride % 2 == 0;

    /// <summary>linear_few.cu: a block of warps for every 16 (Q4: 32) rows of the weights, which divide the columns among
    /// themselves.</summary>
    private LaunchShape FewShape(in DeviceWeight weight, WeightFormat format, int rows)
    {
        bool sixteen = rows > 8;
        bool isQ4 = format == WeightFormat.Q4;
        int tile = isQ4 ? 32 : 16;
        int run = format.IsQuantized() && weight.GroupSize % 64 == 0 ? 64 : 32;
        int warps = (int)Math.Clamp(CeilDiv(weight.Columns, run), 1, isQ4 && !sixteen ? 12 : 8);
        int shared = sizeof(float) * warps * tile * (sixteen ? 16 : 8);
        long tiles = CeilDiv(weight.Rows, tile);
        // Q4 makes a table in every block: as many blocks as run at a time, which go on with the next rows.
        return isQ4
            ? new LaunchShape((uint)Math.Min(tiles, _backend.Multiprocessors), (uint)(warps * Warp), (uint)(shared + Q4TableBytes))
            : new LaunchShape((uint)tiles, (uint)(warps * Warp), (uint)shared);
    }

    /// <summary>linear_few64.cu: as many blocks as run at a time, which divide all the work evenly.</summary>
    private LaunchShape FewRowsShape(ref LinearArguments arguments, WeightFormat format, int rows)
    {
        const int Run = 64;
        const int Stages = 4;
        const int MostTile = 256;
        const int LeastUnits = 2; // of a block: the first one only fills the pipeline
        var weight = arguments.Weight;
        // Large tiles read x less often; small ones are put together by fewer blocks.
        int parts = 3 * CeilDiv(weight.Rows, MostTile) >= _backend.Multiprocessors ? 1 : 2;
        int tile = MostTile / parts;
        int tiles = (int)CeilDiv(weight.Rows, tile);
        long units = tiles * CeilDiv(weight.Columns, Run * parts);
        int blocks = (int)Math.Min(CeilDiv(units, LeastUnits), _backend.Multiprocessors);
        arguments.Splits = parts;
        arguments.Partials = Scratch(2L * blocks * rows * tile * sizeof(float));
        arguments.Tickets = Tickets(tiles);
        int kernelRows = rows <= 32 ? 32 : 64;
        int shared = kernelRows * Math.Max(Stages * parts * Run * sizeof(ushort), (MostTile + 4) * sizeof(float))
            + (format == WeightFormat.Q4 ? Q4TableBytes : 0);
        return new LaunchShape((uint)blocks, 256, (uint)shared);
    }

    /// <summary>Zeros that linear_few64, linear_mma on and leaves zero. Grown and kept as <see cref="Scratch"/> is.</summary>
    private nint Tickets(int count)
    {
        long bytes = (long)count * sizeof(int);
        if (_tickets is null || _tickets.ByteLength < bytes)
        {
            _tickets?.Dispose();
            _tickets = null;
            _tickets = _backend.AllocateBytes((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes), "tickets", 0);
        }
        return _tickets.Value;
    }

    /// <summary>linear_mma.cu: the tiles of a shape.</summary>
    /// <param name="IsLarge">Of 128 rows and outputs, else 64.</param>
    /// <param name="Down">Tiles for all rows.</param>
    /// <param name="Across">Tiles for all outputs.</param>
    /// <param name="Splits">Parts of K, each a block's work.</param>
    private readonly record struct LinearTiles(bool IsLarge, int Down, int Across, int Splits)
    {
        /// <summary>Columns of K in a stage.</summary>
        private const int Depth = 64;

        /// <summary>Stages that a block is to have at least: the first ones only fill the pipeline.</summary>
        private const int LeastStages = 4;

        private const int MostSplits = 8;

        public int Tile => IsLarge ? 128 : 64;

        /// <summary>Large tiles read less for each product; small ones, and parts of K, fill the chip where there is little to
        /// do.</summary>
        public static LinearTiles For(int multiprocessors, int rows, Weight weight) =>
            Of(2 * CeilDiv(rows, 128) * CeilDiv(weight.Rows, 128) >= multiprocessors, multiprocessors, rows, weight);

        public static LinearTiles Of(bool isLarge, int multiprocessors, int rows, Weight weight)
        {
            int tile = isLarge ? 128 : 64;
            int down = (int)CeilDiv(rows, tile);
            int across = (int)CeilDiv(weight.Rows, tile);
            int stages = (int)CeilDiv(weight.Columns, Depth);
            int atOnce = multiprocessors * (isLarge ? 1 : 2);
            int splits = Math.Clamp(atOnce / (down * across), 1, Math.Clamp(stages / LeastStages, 1, MostSplits));
            return new LinearTiles(isLarge, down, across, splits);
        }

        public LaunchShape Shape(WeightFormat format)
        {
            int bits = format switch { WeightFormat.Q8 => 8, WeightFormat.Q4 => 4, _ => 16 };
            int shared = (IsLarge ? 3 : 4) * Tile * (16 + bits) * Depth / 8 + (format == WeightFormat.Q4 ? Q4TableBytes : 0);
            return new LaunchShape((uint)Down, IsLarge ? 256u : 128u, (uint)shared, (uint)Across, (uint)Splits);
        }
    }
}
