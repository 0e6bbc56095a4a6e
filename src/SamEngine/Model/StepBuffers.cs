using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// What changes from step to step of the language model, staged on the host and uploaded at once: token ids, positions,
/// cache slots, block tables. Allocated once for the largest step.
/// </summary>
internal sealed class StepBuffers : IDisposable
{
    private readonly int _mostBlocks;
    private readonly int[] _ids;
    private readonly int[] _positions;
    private readonly int[] _slots;
    private readonly int[] _rowStarts;
    private readonly int[] _blockTable;
    private readonly int[] _logitRows;
    private readonly int[] _copies;
    private readonly PackedInts _packed;
    private int _rows;
    private int _sequences;
    private int _logits;
    private int _copyCount;

    public StepBuffers(Backend backend, int mostRows, int mostSequences, int mostBlocks)
    {
        MostRows = mostRows;
        MostSequences = mostSequences;
        _mostBlocks = mostBlocks;
        _ids = new int[mostRows];
        _positions = new int[mostRows];
        _slots = new int[mostRows];
        _rowStarts = new int[mostSequences + 1];
        _blockTable = new int[mostSequences * mostBlocks];
        _logitRows = new int[mostRows];
        _copies = new int[2 * mostSequences];
        _packed = new PackedInts(backend, _ids.Length + _positions.Length + _slots.Length + _rowStarts.Length + _blockTable.Length
            + _logitRows.Length + _copies.Length, "step inputs");
    }

    public int MostRows { get; }

    public int MostSequences { get; }

    /// <summary>Rows added so far.</summary>
    public int Rows => _rows;

    public void Clear() => _rows = _sequences = _logits = _copyCount = 0;

    /// <summary>Appends one token of a sequence as a row. Call for all rows of a sequence, then <see cref="EndSequence"/>.</summary>
    public void AddRow(KvSequence sequence, int tokenId)
    {
        int position = sequence.Length;
        int slot = sequence.Append(out int from, out int to);
        if (from >= 0)
        {
            _copies[2 * _copyCount] = from;
            _copies[2 * _copyCount + 1] = to;
            _copyCount++;
        }
        _ids[_rows] = tokenId;
        _positions[_rows] = position;
        _slots[_rows] = slot;
        _rows++;
    }

    /// <summary>Wants logits of the row added last.</summary>
    public void WantLogits() => _logitRows[_logits++] = _rows - 1;

    /// <summary>Closes the sequence whose rows were added since the last call.</summary>
    public void EndSequence(KvSequence sequence)
    {
        sequence.Blocks.CopyTo(_blockTable.AsSpan(_sequences * _mostBlocks, _mostBlocks));
        _sequences++;
        _rowStarts[_sequences] = _rows;
    }

    /// <summary>Uploads everything and returns the layout, the ids and the rows whose logits are wanted.</summary>
    public (StepLayout Layout, TensorView Ids, TensorView LogitRows) Upload(ComputeQueue queue, KvCache cache)
    {
        _packed.Clear();
        var layout = new StepLayout(_packed.Put(_positions, 1, _rows), _packed.Put(_slots, 1, _rows),
            _packed.Put(_rowStarts, 1, _sequences + 1), _packed.Put(_blockTable, _sequences, _mostBlocks));
        var ids = _packed.Put(_ids, 1, _rows);
        var logitRows = _packed.Put(_logitRows, 1, Math.Max(_logits, 1));
        // Last: how many there are is no part of the step's shape.
        var pairs = _copyCount > 0 ? _packed.Put(_copies, _copyCount, 2) : default;
        _packed.Upload(queue);
        if (_copyCount > 0)
        {
            queue.CopyKvBlocks(cache, pairs);
        }
        return (layout, ids, logitRows);
    }

    public void Dispose() => _packed.Dispose();
}
