using System.Runtime.InteropServices;
using SamEngine.Compute;
using SamEngine.Decoding;

namespace SamEngine.Model;

/// <summary>Inputs and outputs of the token selection of a step, for all requests in it. Allocated once for the largest
/// step; nothing is allocated per step.</summary>
internal sealed class SelectionBuffers : IDisposable
{
    /// <summary>Lists of penalised ids are as wide as a multiple of this.</summary>
    private const int IdUnit = 64;

    private readonly int _mostIds;
    private readonly int _mostBanned;
    private readonly int _mostCandidates;
    private readonly int[] _groups;
    private readonly int[] _logitRows;
    private readonly float[] _rowScores;
    private readonly int[] _penaltyIds;
    private readonly int[] _bannedIds;
    private readonly float[] _scores;
    private readonly int[] _chosen;
    private readonly int[] _wanted;
    private readonly bool[] _exact;
    private readonly int[] _first;
    private readonly int[] _ends;
    private readonly int[] _callCandidates;
    private readonly PackedInts _packed;
    private readonly DeviceBuffer _deviceRowScores;
    private readonly DeviceBuffer _deviceScores;
    private readonly DeviceBuffer _deviceChosen;
    private int _groupCount;
    private int _rowCount;
    private int _idColumns;
    private int _bannedColumns;
    private int _count;
    private int _calls;

    public SelectionBuffers(Backend backend, int mostRows, int mostIds, int mostBanned)
    {
        _mostIds = mostIds;
        _mostBanned = mostBanned;
        _mostCandidates = 2 * GenerationSettings.MostBeams;
        _groups = new int[mostRows * SelectionGroup.Columns];
        _logitRows = new int[mostRows];
        _rowScores = new float[mostRows];
        _penaltyIds = new int[mostRows * mostIds];
        _bannedIds = new int[mostRows * mostBanned];
        _scores = new float[mostRows * _mostCandidates];
        _chosen = new int[2 * _scores.Length + mostRows];
        _wanted = new int[mostRows];
        _exact = new bool[mostRows];
        _first = new int[mostRows];
        _ends = new int[mostRows];
        _callCandidates = new int[mostRows];
        try
        {
            _packed = new PackedInts(backend, _groups.Length + _logitRows.Length + _penaltyIds.Length + _bannedIds.Length,
                "selection inputs");
            _deviceRowScores = backend.Allocate(ElementType.F32, _rowScores.Length, "selection scores");
            _deviceScores = backend.Allocate(ElementType.F32, _scores.Length, "candidate scores");
            _deviceChosen = backend.Allocate(ElementType.I32, _chosen.Length, "candidates");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Starts a step; lists get as wide as the widest search needs.</summary>
    public void Clear() => _groupCount = _rowCount = _idColumns = _bannedColumns = 0;

    /// <summary>First pass: finds the widths all searches of the step need.</summary>
    public void Measure(TokenSearch search)
    {
        for (int row = 0; row < search.SelectionRows; row++)
        {
            _idColumns = Math.Max(_idColumns, search.PenaltyIds(row).Length);
        }
        _bannedColumns = Math.Max(Math.Max(_bannedColumns, search.BannedIds.Length), 1);
        // Lists grow with the text; steps of one width can share a recording.
        _idColumns = Math.Min((_idColumns + IdUnit - 1) / IdUnit * IdUnit, _mostIds);
    }

    /// <summary>Second pass: adds a search whose first fed row gave logits row <paramref name="firstLogitsRow"/>.</summary>
    public void Add(TokenSearch search, int firstLogitsRow)
    {
        var group = new SelectionGroup { FirstRow = _rowCount };
        search.Fill(ref group);
        MemoryMarshal.Write(MemoryMarshal.AsBytes(_groups.AsSpan(_groupCount * SelectionGroup.Columns)), in group);
        Put(search.BannedIds, _bannedIds.AsSpan(_groupCount * _bannedColumns, _bannedColumns));
        for (int row = 0; row < search.SelectionRows; row++)
        {
            _logitRows[_rowCount] = firstLogitsRow + search.LogitsRow(row);
            _rowScores[_rowCount] = search.RowScore(row);
            Put(search.PenaltyIds(row), _penaltyIds.AsSpan(_rowCount * _idColumns, _idColumns));
            _rowCount++;
        }
        _wanted[_groupCount] = search.Candidates;
        _exact[_groupCount] = search.TakesExactSet;
        _groupCount++;
    }

    /// <summary>Runs the selection and waits for its result.</summary>
    public void Run(ComputeQueue queue, TensorView logits)
    {
        Select(queue, logits, Upload(queue));
        ReadBack(queue);
    }

    /// <summary>Uploads the inputs of the step and gives each group its place in the outputs.</summary>
    public SelectionInputs Upload(ComputeQueue queue)
    {
        _count = 0;
        _calls = 0;
        for (int group = 0, end; group < _groupCount; group = end)
        {
            int candidates = _wanted[group];
            for (end = group + 1; end < _groupCount && _exact[end] == _exact[group]
                && (!_exact[end] || _wanted[end] == candidates); end++)
            {
                candidates = Math.Max(candidates, _wanted[end]);
            }
            _ends[_calls] = end;
            _callCandidates[_calls] = candidates;
            _calls++;
            for (int i = group; i < end; i++)
            {
                _first[i] = _count;
                _count += candidates;
            }
        }
        _packed.Clear();
        var rowScores = _deviceRowScores.View(1, _rowCount);
        var inputs = new SelectionInputs(_packed.Put(_groups, _groupCount, SelectionGroup.Columns),
            _packed.Put(_logitRows, 1, _rowCount), rowScores, _packed.Put(_penaltyIds, _rowCount, _idColumns),
            _packed.Put(_bannedIds, _groupCount, _bannedColumns));
        _packed.Upload(queue);
        queue.Upload<float>(_rowScores.AsSpan(0, _rowCount), rowScores);
        return inputs;
    }

    /// <summary>What the calls of <see cref="Select"/> depend on; null when one width of candidates does not serve all.</summary>
    public StepKey? KeyFor(int rows) => _calls != 1 ? null
        : new StepKey(rows, _rowCount, _groupCount, _callCandidates[0], _idColumns, _bannedColumns);

    /// <summary>Runs the selection: one call for all neighbours that one width serves.</summary>
    public void Select(ComputeQueue queue, TensorView logits, SelectionInputs inputs)
    {
        int group = 0;
        for (int call = 0; call < _calls; call++)
        {
            int groups = _ends[call] - group;
            int first = _first[group];
            int candidates = _callCandidates[call];
            queue.SelectTokens(logits, inputs with
            {
                Groups = inputs.Groups.SliceRows(group, groups),
                BannedIds = inputs.BannedIds.SliceRows(group, groups),
            }, new SelectionOutputs(
                TensorView.Contiguous(_deviceScores, first, 1, groups, candidates),
                TensorView.Contiguous(_deviceChosen, first, 1, groups, candidates),
                TensorView.Contiguous(_deviceChosen, _count + first, 1, groups, candidates),
                TensorView.Contiguous(_deviceChosen, 2 * _count + group, 1, 1, groups)));
            group = _ends[call];
        }
    }

    /// <summary>Waits for the result.</summary>
    public void ReadBack(ComputeQueue queue)
    {
        queue.EnqueueReadBack(_deviceScores.View(1, _count), _scores);
        // Rows, tokens, and for each group whether a logit is not finite.
        queue.EnqueueReadBack(_deviceChosen.View(1, 2 * _count + _groupCount), _chosen);
        queue.Synchronize();
    }

    /// <summary>Hands the candidates of group <paramref name="index"/> to its search.</summary>
    /// <exception cref="NumericException">The logits held NaN or infinity.</exception>
    public void Advance(int index, TokenSearch search)
    {
        if (_chosen[2 * _count + index] != 0)
        {
            throw new NumericException("logits", $"NaN or infinity at step {search.Steps}: the weights are damaged, or a " +
                "half-precision format overflowed; load the model with F32 weights, or check it with 'sam model inspect'");
        }
        int first = _first[index];
        search.Advance(_scores.AsSpan(first, search.Candidates), _chosen.AsSpan(first, search.Candidates),
            _chosen.AsSpan(_count + first, search.Candidates));
    }

    public void Dispose()
    {
        _packed?.Dispose();
        _deviceRowScores?.Dispose();
        _deviceScores?.Dispose();
        _deviceChosen?.Dispose();
    }

    private static void Put(ReadOnlySpan<int> ids, Span<int> list)
    {
        ids.CopyTo(list);
        list[ids.Length..].Fill(-1);
    }
}
