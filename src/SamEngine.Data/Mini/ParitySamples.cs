using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Model;

namespace SamEngine.Data.Mini;

/// <summary>A random request as numbers.</summary>
/// <param name="Images">Number of pictures.</param>
/// <param name="Pixels">[images, 3, side, side], of about unit deviation.</param>
/// <param name="TextIds">Ids for the Q-Former.</param>
/// <param name="PromptIds">Ids for the language model.</param>
/// <param name="Guided">Whether the pictures guide each other.</param>
/// <param name="Continuation">Ids fed to the language model after the prompt; often none.</param>
internal sealed record ParitySample(int Images, float[] Pixels, int[] TextIds, int[] PromptIds, bool Guided, int[] Continuation);

/// <summary>Random requests that every machine makes alike, for comparing implementations of one model: the logits after the
/// prompt, and after each id of a continuation.</summary>
internal static class ParitySamples
{
    public const int Count = 50;

    /// <summary>Most that a logit may differ, both sides computing with fp32 weights.</summary>
    public const double Tolerance = 1e-3;

    private const int ContinuationLength = 3;

    /// <summary>Every so many samples have a continuation: logits of all would make large files.</summary>
    private const int ContinuationEvery = 5;

    public static ParitySample Create(int index, SamConfig config)
    {
        uint counter = 0;
        uint Next() => Philox.Draw((uint)index, 20261123, counter++, 0, 0, 0).X0;
        int Id(int vocabulary) => (int)(Next() % (uint)vocabulary);
        int[] Ids(int most, int vocabulary) => [.. Enumerable.Range(0, 3 + (int)(Next() % (uint)most)).Select(_ => Id(vocabulary))];
        int side = config.Vision.ImageSize;
        int images = 1 + (int)(Next() % 5);
        int[] text = Ids(20, config.QFormer.VocabularySize);
        int[] prompt = Ids(20, config.Llm.VocabularySize);
        float[] pixels = [.. Enumerable.Range(0, images * 3 * side * side).Select(_ => (int)Next() / 2147483648f * 1.7f)];
        int[] continuation = [.. Enumerable.Range(0, index % ContinuationEvery == 0 ? ContinuationLength : 0)
            .Select(_ => Id(config.Llm.VocabularySize))];
        return new ParitySample(images, pixels, text, prompt, index % 4 != 0, continuation);
    }

    /// <summary>The largest difference between two implementations' logits; infinite where one has NaN or they are not
    /// as many.</summary>
    public static double LargestDifference(ReadOnlySpan<float> first, ReadOnlySpan<float> second)
    {
        double largest = first.Length == second.Length ? 0 : double.PositiveInfinity;
        for (int i = 0; i < Math.Min(first.Length, second.Length); i++)
        {
            double difference = Math.Abs((double)first[i] - second[i]);
            largest = Math.Max(largest, double.IsNaN(difference) ? double.PositiveInfinity : difference);
        }
        return largest;
    }

    /// <summary>The name that a sample's logits are recorded under.</summary>
    public static string NameOf(int index) => FormattableString.Invariant($"logits.{index}");

    /// <summary>The engine's logits of every sample, fp32 weights on the CPU: each [1 + continuation, vocabulary], row by
    /// row.</summary>
    /// <param name="folder">The model folder.</param>
    /// <param name="instructionSet">"scalar", "avx2", "avx512"; null takes the best there is.</param>
    public static IEnumerable<float[]> EngineLogits(string folder, string? instructionSet = null)
    {
        using var checkpoint = SamCheckpoint.Open(folder);
        using var backend = new CpuBackend(instructionSet: instructionSet);
        using var weights = SamWeights.Load(checkpoint, backend, WeightFormat.F32);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        using var queue = backend.CreateQueue();
        var logits = new List<float>();
        engine.Trace = (stage, view) =>
        {
            if (stage == "llm_logits")
            {
                float[] rows = new float[view.Count];
                queue.ReadBack<float>(view, rows);
                logits.AddRange(rows);
            }
        };
        for (int i = 0; i < Count; i++)
        {
            logits.Clear();
            var sample = Create(i, checkpoint.Config);
            // Ranking feeds given ids; the last one's logits would not be looked at, so one more follows.
            var work = new RankingWork(new EngineInput(sample.Images, sample.Pixels, sample.TextIds, sample.PromptIds,
                sample.Guided), [[.. sample.Continuation, 0]], CancellationToken.None);
            engine.Submit(work);
            work.Completion.GetAwaiter().GetResult();
            yield return [.. logits];
        }
    }
}
