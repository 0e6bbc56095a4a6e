using SamEngine.Compute;
using SamEngine.Decoding;

namespace SamEngine.Testing.Reference;

/// <summary>What a step of beam search leaves behind.</summary>
/// <param name="Scores">Of the open beams.</param>
/// <param name="Tokens">The last token of each.</param>
/// <param name="Parents">The beam of the step before that each continues.</param>
/// <param name="Finished">Best first: ids with the start id and without the end id, normalised score.</param>
/// <param name="Done">Whether the score rule ended the search.</param>
internal sealed record BeamStep(float[] Scores, int[] Tokens, int[] Parents, List<(int[] Ids, double Score)> Finished, bool Done);

/// <summary>
/// <c>GenerationMixin.beam_search</c>, <c>beam_sample</c> and <c>BeamSearchScorer</c> of transformers 4.33.2 for one prompt,
/// early_stopping False, with lists and no thought of speed. Where the reference draws from its generator, this takes the
/// engine's noise: the largest of score + noise are a draw without replacement.
/// </summary>
/// <param name="model">Logits after a beam's ids, the start id first.</param>
/// <param name="settings">Penalties, lengths and warpers.</param>
internal sealed class PlainBeamSearch(Func<IReadOnlyList<int>, float[]> model, GenerationSettings settings)
{
    private readonly int _beams = settings.NumBeams;
    private readonly List<(int[] Ids, double Score, bool Ended)> _hypotheses = [];
    private List<List<int>> _ids = [.. Enumerable.Range(0, settings.NumBeams).Select(_ => new List<int> { settings.BosTokenId })];
    private float[] _scores = [.. Enumerable.Range(0, settings.NumBeams).Select(i => i == 0 || settings.DoSample ? 0 : -1e9f)];

    public bool Done { get; private set; }

    public int Length => _ids[0].Count;

    /// <summary>Runs to the end, telling of every step.</summary>
    public void Run(Action<BeamStep> onStep)
    {
        do
        {
            onStep(Process(Candidates()));
        }
        while (!Done && Length < settings.MaxLength);
    }

    /// <summary><c>BeamSearchScorer.process</c> for candidates best first.</summary>
    public BeamStep Process(IReadOnlyList<(float Score, int Beam, int Token)> candidates)
    {
        var next = new List<(float Score, int Beam, int Token)>();
        for (int rank = 0; rank < candidates.Count && next.Count < _beams; rank++)
        {
            var candidate = candidates[rank];
            if (candidate.Token != settings.EosTokenId)
            {
                next.Add(candidate);
            }
            else if (rank < _beams)
            {
                Add(_ids[candidate.Beam], candidate.Score, ended: true);
            }
        }
        int currentLength = Length + 1;
        // All beams of the first step are the same row, the prompt's.
        int[] parents = [.. next.Select(c => Length == 1 ? 0 : c.Beam)];
        Done |= _hypotheses.Count >= _beams && _hypotheses.Min(h => h.Score)
            >= candidates.Max(c => c.Score) / Math.Pow(currentLength, settings.LengthPenalty);
        _ids = [.. next.Select(c => _ids[c.Beam].Append(c.Token).ToList())];
        _scores = [.. next.Select(c => c.Score)];
        return new BeamStep(_scores, [.. next.Select(c => c.Token)], parents,
            [.. _hypotheses.Select(h => (h.Ids, h.Score)).OrderByDescending(h => h.Score)], Done);
    }

    /// <summary><c>BeamSearchScorer.finalize</c>: generated ids with the end id where there is one, best first.</summary>
    public List<(int[] Tokens, double Score)> Finalize()
    {
        if (!Done)
        {
            for (int i = 0; i < _ids.Count; i++)
            {
                Add(_ids[i], _scores[i], ended: false);
            }
        }
        // A stable ascending sort, popped from its end.
        var sorted = _hypotheses.OrderBy(h => h.Score).ToList();
        sorted.Reverse();
        return [.. sorted.Take(settings.NumReturnSequences).Select(h =>
            ((int[])[.. h.Ids[1..], .. h.Ended ? [settings.EosTokenId] : Array.Empty<int>()], h.Score))];
    }

    private void Add(List<int> ids, float sum, bool ended)
    {
        double score = sum / Math.Pow(ids.Count, settings.LengthPenalty);
        if (_hypotheses.Count < _beams || score > _hypotheses.Min(h => h.Score))
        {
            _hypotheses.Add(([.. ids], score, ended));
            if (_hypotheses.Count > _beams)
            {
                double worst = _hypotheses.Min(h => h.Score);
                _hypotheses.RemoveAt(_hypotheses.FindIndex(h => h.Score == worst));
            }
        }
    }

    private List<(float Score, int Beam, int Token)> Candidates()
    {
        var all = new List<(float Score, float Key, int Beam, int Token)>();
        for (int beam = 0; beam < _beams; beam++)
        {
            float[] scores = Processed(beam);
            for (int token = 0; token < scores.Length; token++)
            {
                float noise = settings.DoSample ? Philox.Gumbel((uint)settings.Seed, (uint)(settings.Seed >> 32),
                    (uint)(Length - 1), (uint)beam, (uint)token) : 0;
                all.Add((scores[token], scores[token] + noise, beam, token));
            }
        }
        // OrderBy is stable: equals stay in order of beam and token.
        return [.. all.OrderByDescending(c => c.Key).Take(2 * _beams).OrderBy(c => c.Beam).ThenBy(c => c.Token)
            .OrderByDescending(c => c.Score).Select(c => (c.Score, c.Beam, c.Token))];
    }

    /// <summary>Log-probabilities, the processors, the beam's score, the warpers: in transformers' order.</summary>
    private float[] Processed(int beam)
    {
        float[] scores = LogSoftmax(model(_ids[beam]));
        foreach (int id in _ids[beam].Distinct())
        {
            scores[id] = scores[id] < 0 ? scores[id] * settings.RepetitionPenalty : scores[id] / settings.RepetitionPenalty;
        }
        if (Length < settings.MinLength)
        {
            scores[settings.EosTokenId] = float.NegativeInfinity;
        }
        foreach (int id in settings.SuppressTokens)
        {
            scores[id] = float.NegativeInfinity;
        }
        scores = [.. scores.Select(s => s + _scores[beam])];
        if (!settings.DoSample)
        {
            return scores;
        }
        // MinTokensToKeep is 2 with beams.
        scores = [.. scores.Select(s => s / settings.Temperature)];
        if (settings.TopK != 0)
        {
            float least = scores.OrderDescending().ElementAt(Math.Min(Math.Max(settings.TopK, 2), scores.Length) - 1);
            scores = [.. scores.Select(s => s < least ? float.NegativeInfinity : s)];
        }
        if (settings.TopP < 1)
        {
            float[] probabilities = [.. LogSoftmax(scores).Select(s => MathF.Exp(s))];
            double sum = 0;
            foreach (int token in Enumerable.Range(0, scores.Length).OrderBy(t => scores[t]).SkipLast(2))
            {
                sum += probabilities[token];
                if (sum <= 1 - settings.TopP)
                {
                    scores[token] = float.NegativeInfinity;
                }
            }
        }
        return scores;
    }

    private static float[] LogSoftmax(float[] values)
    {
        double total = ReferenceSelection.LogSumExp(values);
        return [.. values.Select(v => (float)(v - total))];
    }
}
