namespace SamEngine.Decoding;

/// <summary>
/// Beam search and beam sampling as transformers 4.33.2 does them (<c>BeamSearchScorer</c>, early_stopping False): twice
/// as many candidates as beams; an end-of-text candidate is finished only when it ranks among the first
/// <c>num_beams</c>; the best <c>num_beams</c> finished texts are kept by sum / length^length_penalty, the length counting
/// the start id but not the end id; the search is done when that many are kept and the worst of them is at least as good
/// as the best candidate of the step could be now. Open beams compete at the end with their full length.
/// </summary>
internal sealed class BeamSearch : TokenSearch
{
    private readonly int _beams;
    private readonly int[] _parents;
    private readonly int[] _tokens;
    private readonly float[] _scores;
    private readonly float[] _nextScores;
    private readonly int[][] _history;
    private readonly int[][] _nextHistory;
    private readonly int[][] _penalty;
    private readonly int[][] _nextPenalty;
    private readonly int[] _penaltyCount;
    private readonly int[] _nextPenaltyCount;
    private readonly List<Finished> _finished;
    private readonly Finished[] _slots;
    private Finished _spare;
    private readonly int[] _stable;
    private int _stableCount;
    private int _live;
    private bool _doneByScore;

    public BeamSearch(GenerationSettings settings, Func<ReadOnlySpan<int>, bool>? endsText)
        : base(settings, endsText)
    {
        _beams = settings.NumBeams;
        _parents = new int[_beams];
        _tokens = new int[_beams];
        _scores = new float[_beams];
        _nextScores = new float[_beams];
        _history = Rows(_beams, settings.MaxLength);
        _nextHistory = Rows(_beams, settings.MaxLength);
        _penalty = Rows(_beams, settings.MaxLength + 1);
        _nextPenalty = Rows(_beams, settings.MaxLength + 1);
        _penaltyCount = new int[_beams];
        _nextPenaltyCount = new int[_beams];
        _finished = new List<Finished>(_beams);
        _slots = [.. Enumerable.Range(0, _beams + 1).Select(_ => new Finished(settings.MaxLength))];
        _spare = _slots[0];
        _stable = new int[settings.MaxLength];
        for (int i = 0; i < _beams; i++)
        {
            _penalty[i][0] = settings.BosTokenId;
            _penaltyCount[i] = 1;
        }
        // Beam search starts from one beam (the reference gives the others -1e9); beam sampling from equal beams.
        _live = settings.DoSample ? _beams : 1;
    }

    public override int Candidates => 2 * _beams;

    public override int SelectionRows => _live;

    public override ReadOnlySpan<int> Parents => IsDone ? [] : _parents.AsSpan(0, _live);

    public override ReadOnlySpan<int> Tokens => IsDone ? [] : _tokens.AsSpan(0, _live);

    public override ReadOnlySpan<int> StableTokens => _stable.AsSpan(0, _stableCount);

    /// <summary>Finished texts kept so far, for tests: ids without start and end id, and normalised score.</summary>
    internal IEnumerable<(int[] Tokens, double Score)> FinishedSoFar =>
        _finished.Select(f => (f.Tokens.ToArray(), f.Score));

    /// <summary>Scores of the live beams, for tests.</summary>
    internal ReadOnlySpan<float> LiveScores => _scores.AsSpan(0, _live);

    public override int LogitsRow(int row) => Steps == 0 ? 0 : row;

    public override float RowScore(int row) => _scores[row];

    public override ReadOnlySpan<int> PenaltyIds(int row) => _penalty[row].AsSpan(0, _penaltyCount[row]);

    public override void Advance(ReadOnlySpan<float> scores, ReadOnlySpan<int> rows, ReadOnlySpan<int> tokens)
    {
        if (tokens[0] < 0)
        {
            // Warped sums are carried on, as in the reference: low temperatures multiply them step by step.
            throw new NumericException("scores", $"no token is left to choose at step {Steps}: the beams' scores overflowed " +
                $"with Temperature {Settings.Temperature}, RepetitionPenalty {Settings.RepetitionPenalty}; move them towards 1");
        }
        int length = Length;
        int next = 0;
        for (int rank = 0; rank < tokens.Length && next < _beams && tokens[rank] >= 0; rank++)
        {
            int row = rows[rank];
            int token = tokens[rank];
            if (token == Settings.EosTokenId)
            {
                if (rank < _beams)
                {
                    Keep(_history[row].AsSpan(0, Steps), scores[rank], length, FinishReason.EndOfText);
                }
                continue;
            }
            var history = _nextHistory[next];
            _history[row].AsSpan(0, Steps).CopyTo(history);
            history[Steps] = token;
            if (EndsText?.Invoke(history.AsSpan(0, Steps + 1)) == true)
            {
                if (rank < _beams)
                {
                    Keep(history.AsSpan(0, Steps + 1), scores[rank], length + 1, FinishReason.StopString);
                }
                continue;
            }
            var penalty = _nextPenalty[next];
            int count = _penaltyCount[row];
            _penalty[row].AsSpan(0, count).CopyTo(penalty);
            if (!penalty.AsSpan(0, count).Contains(token))
            {
                penalty[count++] = token;
            }
            _nextPenaltyCount[next] = count;
            _parents[next] = Steps == 0 ? 0 : row;
            _tokens[next] = token;
            _nextScores[next] = scores[rank];
            next++;
        }
        for (int i = 0; i < next; i++)
        {
            (_history[i], _nextHistory[i]) = (_nextHistory[i], _history[i]);
            (_penalty[i], _nextPenalty[i]) = (_nextPenalty[i], _penalty[i]);
            _penaltyCount[i] = _nextPenaltyCount[i];
            _scores[i] = _nextScores[i];
        }
        _live = next;
        Steps++;
        _doneByScore = _finished.Count >= _beams
            && _finished[Worst(_finished)].Score >= scores[0] / Math.Pow(length + 1, Settings.LengthPenalty);
        // Stop strings can close every beam; the reference, which has none, never runs dry.
        IsDone = _doneByScore || _live == 0 || Length >= Settings.MaxLength;
        FindStable();
    }

    public override IReadOnlyList<Hypothesis> Results()
    {
        List<Finished> all = [.. _finished];
        if (!_doneByScore)
        {
            for (int i = 0; i < _live; i++)
            {
                var open = new Finished(Steps);
                open.Set(_history[i].AsSpan(0, Steps), _scores[i] / Math.Pow(Length, Settings.LengthPenalty),
                    FinishReason.Length);
                Insert(all, open);
            }
        }
        // Ties keep the later entry first, as the reference's stable sort popped from the end does.
        return [.. all.Select((f, i) => (f, i)).OrderByDescending(p => p.f.Score).ThenByDescending(p => p.i)
            .Take(Settings.NumReturnSequences).Select(p => p.f.ToHypothesis(Settings.EosTokenId))];
    }

    private static int[][] Rows(int count, int length)
    {
        int[][] rows = new int[count][];
        for (int i = 0; i < count; i++)
        {
            rows[i] = new int[length];
        }
        return rows;
    }

    private void Keep(ReadOnlySpan<int> tokens, float sum, int length, FinishReason reason)
    {
        _spare.Set(tokens, sum / Math.Pow(length, Settings.LengthPenalty), reason);
        // Slots are taken in order until the list is full; from then on one always comes back.
        _spare = Insert(_finished, _spare) ?? _slots[_finished.Count];
    }

    /// <summary>Adds to a list of at most one text for each beam and returns the text that has no place in it: the worst,
    /// among equals the earliest, but a new one only for a worse one.</summary>
    private Finished? Insert(List<Finished> list, Finished text)
    {
        if (list.Count < _beams)
        {
            list.Add(text);
            return null;
        }
        int worst = Worst(list);
        var dropped = list[worst];
        if (!(text.Score > dropped.Score))
        {
            return text;
        }
        list.RemoveAt(worst);
        list.Add(text);
        return dropped;
    }

    private static int Worst(List<Finished> list)
    {
        int worst = 0;
        for (int i = 1; i < list.Count; i++)
        {
            if (list[i].Score < list[worst].Score)
            {
                worst = i;
            }
        }
        return worst;
    }

    /// <summary>What all live beams and all kept texts begin with can't change any more: new texts continue live beams.</summary>
    private void FindStable()
    {
        if (IsDone)
        {
            var best = Results()[0];
            int count = best.Tokens.Length - (best.Reason == FinishReason.EndOfText ? 1 : 0);
            best.Tokens.AsSpan(0, count).CopyTo(_stable);
            _stableCount = count;
            return;
        }
        var first = _history[0].AsSpan(0, Steps);
        int common = Steps;
        for (int i = 1; i < _live; i++)
        {
            common = Math.Min(common, first.CommonPrefixLength(_history[i].AsSpan(0, Steps)));
        }
        foreach (var f in _finished)
        {
            common = Math.Min(common, first.CommonPrefixLength(f.Tokens));
        }
        first[..common].CopyTo(_stable);
        _stableCount = common;
    }

    /// <summary>A text that ended; its memory is used again.</summary>
    private sealed class Finished(int mostTokens)
    {
        private readonly int[] _tokens = new int[mostTokens];
        private int _count;

        public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, _count);

        public double Score { get; private set; }

        public FinishReason Reason { get; private set; }

        public void Set(ReadOnlySpan<int> tokens, double score, FinishReason reason)
        {
            tokens.CopyTo(_tokens);
            _count = tokens.Length;
            Score = score;
            Reason = reason;
        }

        public Hypothesis ToHypothesis(int eos) =>
            new(Reason == FinishReason.EndOfText ? [.. Tokens, eos] : Tokens.ToArray(), Score, Reason);
    }
}
