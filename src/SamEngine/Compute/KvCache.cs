namespace SamEngine.Compute;

/// <summary>Shape of the key/value memory of the language model.</summary>
/// <param name="Layers">Layers of the language model.</param>
/// <param name="Heads">Key/value heads.</param>
/// <param name="HeadDim">Width of a head.</param>
/// <param name="BlockSize">Tokens in a block.</param>
/// <param name="Blocks">Number of blocks.</param>
internal readonly record struct KvCacheShape(int Layers, int Heads, int HeadDim, int BlockSize, int Blocks)
{
    /// <summary>Columns of one token's keys, or values, in one layer.</summary>
    public int Width => Heads * HeadDim;

    /// <summary>Elements of the keys, or of the values, over all layers.</summary>
    public long Elements => checked((long)Layers * Blocks * BlockSize * Width);
}

/// <summary>Keys and values of every layer in blocks of tokens. A token's slot is block * BlockSize + place in block.
/// How the memory is laid out is the backend's affair.</summary>
internal abstract class KvCache(KvCacheShape shape) : IDisposable
{
    public KvCacheShape Shape { get; } = shape;

    public abstract long ByteLength { get; }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>
/// Where the rows of one language-model step lie: a ragged batch of sequences. All views are I32 and live on the device,
/// so the same enqueued step serves other contents.
/// </summary>
/// <param name="Positions">[1, rows]: position of each row in its sequence, from 0.</param>
/// <param name="Slots">[1, rows]: cache slot that receives each row's key and value.</param>
/// <param name="RowStarts">[1, sequences + 1]: first row of each sequence; the last entry is the number of rows. The rows
/// of a sequence have consecutive positions.</param>
/// <param name="BlockTable">[sequences, most blocks]: block of tokens 0.., BlockSize.., ... of each sequence.</param>
internal readonly record struct StepLayout(
    TensorView Positions, TensorView Slots, TensorView RowStarts, TensorView BlockTable)
{
    public int Rows => Positions.Columns;

    public int Sequences => RowStarts.Columns - 1;
}
