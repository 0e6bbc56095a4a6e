namespace SamEngine.Decoding;

/// <summary>Greedy search and plain sampling: one row, the device's first candidate each time.</summary>
internal sealed class SingleSearch : TokenSearch
{
    private readonly int[] _tokens;
    private readonly int[] _penalty;
    private readonly int[] _parent = [0];
    private int _penaltyCount = 1;
    private int _count;
    private int _visible;
    private double _score;
    private FinishReason _reason = FinishReason.Length;

    public SingleSearch(GenerationSettings settings, Func<ReadOnlySpan<int>, bool>? endsText)
        : base(settings, endsText)
    {
        _tokens = new int[settings.MaxLength];
        _penalty = new int[settings.MaxLength + 1];
        _penalty[0] = settings.BosTokenId;
    }

    public override int Candidates => 1;

    public override int SelectionRows => 1;

    public override ReadOnlySpan<int> Parents => IsDone ? [] : _parent;

    public override ReadOnlySpan<int> Tokens => IsDone ? [] : _tokens.AsSpan(_count - 1, 1);

    public override ReadOnlySpan<int> StableTokens => _tokens.AsSpan(0, _visible);

    public override int LogitsRow(int row) => 0;

    public override float RowScore(int row) => 0;

    public override ReadOnlySpan<int> PenaltyIds(int row) => _penalty.AsSpan(0, _penaltyCount);

    public override void Advance(ReadOnlySpan<float> scores, ReadOnlySpan<int> rows, ReadOnlySpan<int> tokens)
    {
        int token = tokens[0];
        if (token < 0)
        {
            throw new InvalidOperationException("the selection left no token to choose");
        }
        _tokens[_count++] = token;
        _score += scores[0];
        Steps++;
        if (!_penalty.AsSpan(0, _penaltyCount).Contains(token))
        {
            _penalty[_penaltyCount++] = token;
        }
        if (token == Settings.EosTokenId)
        {
            _reason = FinishReason.EndOfText;
            IsDone = true;
            return;
        }
        _visible = _count;
        if (EndsText?.Invoke(_tokens.AsSpan(0, _count)) == true)
        {
            _reason = FinishReason.StopString;
            IsDone = true;
        }
        IsDone |= Length >= Settings.MaxLength;
    }

    public override IReadOnlyList<Hypothesis> Results() => [new(_tokens[.._count], _score, _reason)];
}
