using SamEngine.Compute;

namespace SamEngine.Cuda;

/// <summary>Attention: which kernel serves which shape. The plain kernels take what no other can.</summary>
internal sealed partial class CudaQueue
{
    /// <summary>Query rows and keys of a tile of flash_attention.cu.</summary>
    private const int FlashTile = 64;

    /// <summary>Rows that a block of paged_decode.cu serves.</summary>
    private const int DecodeRows = 16;

    private const int FlashThreads = 128;

    protected override void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities)
    {
        var arguments = new AttentionArguments
        {
            Q = Native(q),
            K = Native(k),
            V = Native(v),
            Y = Native(y),
            Probabilities = Native(probabilities),
            Heads = heads,
            Scale = scale,
        };
        int width = q.Columns / heads;
        if (probabilities.IsEmpty && width % 8 == 0 && HasVectorRows(arguments.Q) && HasVectorRows(arguments.K)
            && HasVectorRows(arguments.V) && _backend.Kernels.FlashAttention(width) is var (flash, columns))
        {
            Launch(flash, new LaunchShape((uint)CeilDiv(q.Rows, FlashTile), FlashThreads, FlashBytes(5, columns), (uint)heads,
                (uint)q.Batch), arguments);
            return;
        }
        Launch(_backend.Kernels.Attention, Shared((long)q.TotalRows * heads * Warp, 128), arguments);
    }

    protected override void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y)
    {
        var arguments = new PagedAttentionArguments
        {
            Q = Native(q),
            Y = Native(y),
            Cache = ((CudaKvCache)cache).Native,
            Layout = Native(layout),
            Layer = layer,
            Heads = heads,
            Scale = scale,
            Splits = 1,
        };
        int width = cache.Shape.HeadDim;
        bool isAligned = width % 8 == 0 && HasVectorRows(arguments.Q);
        if (isAligned && (q.Rows <= DecodeRows || q.Rows == layout.Sequences)
            && _backend.Kernels.PagedDecode(width) is var (decode, decodeColumns))
        {
            // About two blocks for every multiprocessor, each with a tile of keys at least.
            int groups = (int)CeilDiv(q.Rows, DecodeRows);
            long tiles = CeilDiv((long)layout.BlockTable.Columns * cache.Shape.BlockSize, FlashTile);
            int splits = (int)Math.Clamp(2 * _backend.Multiprocessors / (heads * groups), 1, tiles);
            arguments.Splits = splits;
            arguments.Partials = Scratch((long)q.Rows * heads * splits * (width + 2) * sizeof(float));
            arguments.Tickets = Tickets(heads * groups);
            Launch(decode, new LaunchShape((uint)splits, FlashThreads, FlashBytes(3, decodeColumns), (uint)heads, (uint)groups),
                arguments);
            return;
        }
        if (isAligned && _backend.Kernels.FlashPaged(width) is var (flash, columns))
        {
            uint tiles = (uint)(CeilDiv(q.Rows, FlashTile) + layout.Sequences - 1);
            Launch(flash, new LaunchShape(tiles, FlashThreads, FlashBytes(5, columns), (uint)heads), arguments);
            return;
        }
        Launch(_backend.Kernels.PagedAttention, Shared((long)q.Rows * heads * Warp, 128), arguments);
    }

    /// <summary>Shared memory of tiles whose rows are 16 bytes longer than their columns.</summary>
    private static uint FlashBytes(int tiles, int columns) => (uint)(tiles * FlashTile * (columns + 8) * sizeof(ushort));
}
