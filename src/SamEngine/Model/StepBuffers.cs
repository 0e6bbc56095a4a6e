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
    private readonly DeviceBuffer _deviceIds;
    private readonly DeviceBuffer _devicePositions;
    private readonly DeviceBuffer _deviceSlots;
    private readonly DeviceBuffer _deviceRowStarts;
    private readonly DeviceBuffer _deviceBlockTable;
    private readonly DeviceBuffer _deviceLogitRows;
    private readonly DeviceBuffer _deviceCopies;
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
        _deviceIds = backend.Allocate(ElementType.I32, _ids.Length, "step ids");
        _devicePositions = backend.Allocate(ElementType.I32, _positions.Length, "step positions");
        _deviceSlots = backend.Allocate(ElementType.I32, _slots.Length, "step slots");
        _deviceRowStarts = backend.Allocate(ElementType.I32, _rowStarts.Length, "step row starts");
        _deviceBlockTable = backend.Allocate(ElementType.I32, _blockTable.Length, "step block table");
        _deviceLogitRows = backend.Allocate(ElementType.I32, _logitRows.Length, "step logit rows");
        _deviceCopies = backend.Allocate(ElementType.I32, _copies.Length, "step block copies");
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
        if (_copyCount > 0)
        {
            var pairs = TensorView.Contiguous(_deviceCopies, 0, 1, _copyCount, 2);
            queue.Upload<int>(_copies.AsSpan(0, 2 * _copyCount), pairs);
            queue.CopyKvBlocks(cache, pairs);
        }
        var layout = new StepLayout(
            Put(queue, RowsOf(_devicePositions), _positions),
            Put(queue, RowsOf(_deviceSlots), _slots),
            Put(queue, _deviceRowStarts.View(1, _sequences + 1), _rowStarts),
            Put(queue, _deviceBlockTable.View(_sequences, _mostBlocks), _blockTable));
        var ids = Put(queue, RowsOf(_deviceIds), _ids);
        var logitRows = Put(queue, _deviceLogitRows.View(1, Math.Max(_logits, 1)), _logitRows);
        return (layout, ids, logitRows);
    }

    public void Dispose()
    {
        _deviceIds.Dispose();
        _devicePositions.Dispose();
        _deviceSlots.Dispose();
        _deviceRowStarts.Dispose();
        _deviceBlockTable.Dispose();
        _deviceLogitRows.Dispose();
        _deviceCopies.Dispose();
    }

    private TensorView RowsOf(DeviceBuffer buffer) => buffer.View(1, _rows);

    private static TensorView Put(ComputeQueue queue, TensorView view, int[] values)
    {
        queue.Upload<int>(values.AsSpan(0, (int)view.Count), view);
        return view;
    }
}
