using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Tests.Decoding;

/// <summary>Beam search and beam sampling step by step: against the recorded steps of the reference, and against a plain
/// port of it on random models.</summary>
public sealed class BeamSearchTests
{
    private const double Close = 5e-4;

    [Fact]
    public void Recorded_candidates_lead_to_the_recorded_beams()
    {
        ForEachTrace((golden, what, recorded, trace) =>
        {
            var settings = Settings(golden, recorded);
            var search = new BeamSearch(settings, null);
            var plain = new PlainBeamSearch(_ => throw new InvalidOperationException("candidates are given"), settings);
            for (int step = 0; step < trace.Count; step++)
            {
                var top = trace[step].GetProperty("top").EnumerateArray().Select(c => (Score: c.GetProperty("score").GetSingle(),
                    Beam: c.GetProperty("beam").GetInt32(), Token: c.GetProperty("token").GetInt32())).ToList();
                Assert.Equal(search.Candidates, top.Count);
                search.Advance([.. top.Select(c => c.Score)], [.. top.Select(c => c.Beam)], [.. top.Select(c => c.Token)]);
                var expected = Step(trace[step]);
                // The port is itself held to the record.
                AssertSame($"{what}, step {step}, plain", expected, plain.Process(top), 1e-9);
                AssertStep($"{what}, step {step}", expected, search, 1e-9, last: step == trace.Count - 1);
            }
            AssertResults(what, plain.Finalize(), search);
        });
    }

    [Fact]
    public void The_model_takes_the_recorded_steps()
    {
        ForEachTrace((golden, what, recorded, trace) =>
        {
            using var checkpoint = SamCheckpoint.Open(golden.Folder);
            using var backend = new CpuBackend();
            using var weights = SamWeights.Load(checkpoint, backend);
            using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
            string source = golden.Cases.Contains(what) ? what : golden.Cases.First(c => GoldenModel.IsGuided(c));
            var input = new EngineInput(golden.Images(source), golden.Pixels(source), Ints(recorded.GetProperty("qformer_input_ids")),
                Ints(recorded.GetProperty("llm_prompt_ids")), GoldenModel.IsGuided(what));
            var settings = Settings(golden, recorded);
            int step = 0;
            var work = new GenerationWork(input, settings, TokenSearch.Create(settings), s =>
            {
                AssertStep($"{what}, step {step}", Step(trace[step]), (BeamSearch)s, Close, last: step == trace.Count - 1);
                step++;
            }, default);
            engine.Submit(work);
            work.Completion.GetAwaiter().GetResult();
            Assert.Equal(trace.Count, step);
        });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Random_models_take_the_steps_of_the_plain_port(bool sample)
    {
        using var backend = new CpuBackend();
        var reasons = new int[3];
        int stoppedEarly = 0;
        for (int round = 0; round < 600; round++)
        {
            var random = new Random(round);
            T One<T>(params T[] values) => values[random.Next(values.Length)];
            int vocabulary = One(24, 37, 64);
            int beams = One(2, 3, 5, 8);
            int maxLength = One(2, 3, 7, 12, 24);
            var settings = GenerationSettings.Create(new GenerationOptions
            {
                NumBeams = beams,
                MaxLength = maxLength,
                MinLength = One(0, 1, maxLength / 2, maxLength),
                RepetitionPenalty = One(1f, 1.5f, 0.7f, 3f),
                LengthPenalty = One(-1f, 0f, 0.5f, 1f, 2f),
                NumReturnSequences = 1 + random.Next(beams),
                SuppressTokens = One<int[]>([], [5], [3, 9, 10]),
                DoSample = sample,
                Temperature = One(0.5f, 1f, 1.5f),
                TopK = One(0, 1, 5, 50),
                TopP = One(0.3f, 0.9f, 1f),
                Seed = (ulong)random.NextInt64(),
            }, vocabulary, bosTokenId: 1, eosTokenId: 2);
            // Ties are met too where candidates are not drawn: coarse logits make many.
            bool coarse = random.Next(3) == 0;
            float ending = One(-2f, 1f, 4f);
            float[] Logits(IReadOnlyList<int> ids)
            {
                int hash = round;
                foreach (int id in ids)
                {
                    hash = unchecked(hash * 1000003 + id + 1);
                }
                var draw = new Random(hash);
                float[] logits = [.. Enumerable.Range(0, vocabulary).Select(_ => (float)(draw.NextDouble() * 8))];
                logits[2] += ending;
                return coarse ? [.. logits.Select(v => MathF.Round(v))] : logits;
            }
            string what = $"round {round}: {settings}";
            var steps = new List<BeamStep>();
            var plain = new PlainBeamSearch(Logits, settings);
            plain.Run(steps.Add);
            var search = Search(backend, settings, Logits, (s, step) =>
            {
                Assert.True(step < steps.Count, what);
                AssertStep($"{what}, step {step}", steps[step], s, 1e-5, last: step == steps.Count - 1);
            });
            Assert.Equal(steps.Count, search.Steps);
            AssertResults(what, plain.Finalize(), search);
            foreach (var result in search.Results())
            {
                reasons[(int)result.Reason]++;
            }
            stoppedEarly += plain.Done ? 1 : 0;
        }
        Assert.True(reasons[(int)FinishReason.EndOfText] > 200 && reasons[(int)FinishReason.Length] > 200 && stoppedEarly > 50,
            $"{string.Join(", ", reasons)} results by reason, {stoppedEarly} searches stopped by score");
    }

    [Fact]
    public void What_is_drawn_does_not_depend_on_the_searches_beside_it()
    {
        const int Vocabulary = 64;
        using var backend = new CpuBackend();
        using var queue = backend.CreateQueue();
        using var selection = new SelectionBuffers(backend, 64, 8, 4);
        var random = new Random(1);
        List<(int[], float[])> Step(float[][] rows, params GenerationSettings[] settings)
        {
            var searches = settings.Select(s => TokenSearch.Create(s)).ToList();
            using var logits = backend.Allocate(ElementType.F32, rows.Length * Vocabulary, "logits");
            queue.Upload<float>([.. rows.SelectMany(r => r)], logits.View(rows.Length, Vocabulary));
            selection.Clear();
            searches.ForEach(selection.Measure);
            for (int i = 0; i < searches.Count; i++)
            {
                selection.Add(searches[i], i);
            }
            selection.Select(queue, logits.View(rows.Length, Vocabulary), selection.Upload(queue));
            selection.ReadBack(queue);
            for (int i = 0; i < searches.Count; i++)
            {
                selection.Advance(i, searches[i]);
            }
            return [.. searches.Select(s => (s.Tokens.ToArray(), s is BeamSearch b ? b.LiveScores.ToArray() : []))];
        }
        for (int round = 0; round < 50; round++)
        {
            var settings = Enumerable.Range(0, 8).Select(_ => GenerationSettings.Create(new GenerationOptions
            {
                NumBeams = 1 + random.Next(6),
                DoSample = random.Next(3) > 0,
                MaxLength = 4,
                Seed = (ulong)random.Next(100),
            }, Vocabulary, bosTokenId: 1, eosTokenId: 2)).ToArray();
            float[][] rows = [.. settings.Select(_ =>
                Enumerable.Range(0, Vocabulary).Select(_ => (float)(random.NextDouble() * 6)).ToArray())];
            var together = Step(rows, settings);
            for (int i = 0; i < settings.Length; i++)
            {
                var alone = Step([rows[i]], settings[i]).Single();
                Assert.Equal(alone.Item1, together[i].Item1);
                Assert.Equal(alone.Item2, together[i].Item2);
            }
        }
    }

    /// <summary>Drives a search as the engine does, with logits from a function.</summary>
    private static BeamSearch Search(CpuBackend backend, GenerationSettings settings, Func<IReadOnlyList<int>, float[]> model,
        Action<BeamSearch, int> onStep)
    {
        using var queue = backend.CreateQueue();
        using var selection = new SelectionBuffers(backend, settings.NumBeams, settings.MaxLength + 1, 4);
        var search = new BeamSearch(settings, null);
        var rows = new List<List<int>> { new() { settings.BosTokenId } };
        for (int step = 0; !search.IsDone; step++)
        {
            float[] values = [.. rows.SelectMany(model)];
            using var logits = backend.Allocate(ElementType.F32, values.Length, "logits");
            queue.Upload<float>(values, logits.View(rows.Count, settings.VocabularySize));
            selection.Clear();
            selection.Measure(search);
            selection.Add(search, 0);
            selection.Select(queue, logits.View(rows.Count, settings.VocabularySize), selection.Upload(queue));
            selection.ReadBack(queue);
            selection.Advance(0, search);
            onStep(search, step);
            var next = new List<List<int>>();
            for (int i = 0; i < search.Parents.Length; i++)
            {
                next.Add([.. rows[search.Parents[i]], search.Tokens[i]]);
            }
            rows = next;
        }
        return search;
    }

    private static void AssertStep(string what, BeamStep expected, BeamSearch search, double tolerance, bool last)
    {
        Assert.True(search.IsDone == last, what);
        var actual = new BeamStep(search.LiveScores.ToArray(), search.Tokens.ToArray(), search.Parents.ToArray(),
            [.. search.FinishedSoFar.Select(f => ((int[])[1, .. f.Tokens], f.Score)).OrderByDescending(f => f.Item2)],
            expected.Done);
        // A search that is done feeds nothing any more.
        AssertSame(what, last ? expected with { Tokens = [], Parents = [] } : expected, actual, tolerance);
    }

    private static void AssertSame(string what, BeamStep expected, BeamStep actual, double tolerance)
    {
        Tolerance.AssertClose(what, actual.Scores, expected.Scores, tolerance, tolerance);
        Assert.True(expected.Tokens.SequenceEqual(actual.Tokens), what);
        Assert.True(expected.Parents.SequenceEqual(actual.Parents), what);
        Assert.True(expected.Finished.Count == actual.Finished.Count, what);
        for (int i = 0; i < expected.Finished.Count; i++)
        {
            Assert.True(expected.Finished[i].Ids.SequenceEqual(actual.Finished[i].Ids), what);
        }
        Tolerance.AssertClose(what + ", finished", [.. actual.Finished.Select(f => (float)f.Score)],
            [.. expected.Finished.Select(f => (float)f.Score)], tolerance, tolerance);
        Assert.True(expected.Done == actual.Done, what);
    }

    private static void AssertResults(string what, List<(int[] Tokens, double Score)> expected, BeamSearch search)
    {
        var actual = search.Results();
        Assert.True(expected.Count == actual.Count, what);
        for (int i = 0; i < expected.Count; i++)
        {
            Assert.True(expected[i].Tokens.SequenceEqual(actual[i].Tokens), $"{what}, result {i}");
        }
        Tolerance.AssertClose(what + ", results", [.. actual.Select(h => (float)h.Score)],
            [.. expected.Select(h => (float)h.Score)], 1e-5, 1e-5);
    }

    private static void ForEachTrace(Action<GoldenModel, string, JsonElement, List<JsonElement>> check)
    {
        int traces = 0;
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            foreach (var entry in golden.Generation.GetProperty("cases").EnumerateObject())
            {
                if (entry.Value.TryGetProperty("beam5_trace", out var trace))
                {
                    check(golden, entry.Name, entry.Value, [.. trace.EnumerateArray()]);
                    traces++;
                }
            }
        }
        Assert.True(traces > 0, "no recorded beam steps");
    }

    private static BeamStep Step(JsonElement recorded) => new(
        [.. recorded.GetProperty("next_beam_scores").EnumerateArray().Select(v => v.GetSingle())],
        Ints(recorded.GetProperty("next_beam_tokens")), Ints(recorded.GetProperty("next_beam_indices")),
        [.. recorded.GetProperty("finished").EnumerateArray().Select(f => (Ints(f.GetProperty("tokens")),
            f.GetProperty("score").GetDouble())).OrderByDescending(f => f.Item2)], recorded.GetProperty("done").GetBoolean());

    private static GenerationSettings Settings(GoldenModel golden, JsonElement recorded)
    {
        var basis = recorded.GetProperty("beam5");
        if (!basis.TryGetProperty("max_length", out _))
        {
            basis = recorded.GetProperty("beam5_return3");
        }
        var llm = golden.Config.Llm;
        return GenerationSettings.Create(new GenerationOptions
        {
            NumBeams = 5,
            RepetitionPenalty = basis.GetProperty("repetition_penalty").GetSingle(),
            LengthPenalty = basis.GetProperty("length_penalty").GetSingle(),
            MaxLength = basis.GetProperty("max_length").GetInt32(),
            MinLength = basis.GetProperty("min_length").GetInt32(),
            NumReturnSequences = 3,
        }, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
    }

    private static int[] Ints(JsonElement list) => [.. list.EnumerateArray().Select(v => v.GetInt32())];
}
