namespace SamEngine.Data;

/// <summary>How far one model's next-word distributions are from another's, over the positions of given answers.</summary>
/// <param name="Samples">Samples of the data set.</param>
/// <param name="Positions">Tokens of their answers.</param>
/// <param name="MeanKl">Mean Kullback-Leibler divergence of the other's distribution from the original's, in nats.</param>
/// <param name="WorstKl">The largest.</param>
/// <param name="Top1Agreement">Share of the positions where both find the same token likeliest.</param>
public sealed record LogitDistance(int Samples, int Positions, double MeanKl, double WorstKl, double Top1Agreement);

/// <summary>Compares two models, usually one and its quantised form, by what they expect next after every token of a data
/// set's answers: finer than scores, as it counts what an answer was about to change.</summary>
public static class LogitComparison
{
    /// <summary>Feeds every sample's pictures, instruction and answer to both.</summary>
    /// <param name="original">The model that is right.</param>
    /// <param name="other">A model with the same vocabulary.</param>
    /// <param name="dataset">Samples with answers.</param>
    /// <param name="limit">Only the first; null: all.</param>
    /// <param name="progress">Told of samples done and of all.</param>
    /// <param name="cancellation">Ends between samples.</param>
    /// <exception cref="ArgumentException">The vocabularies differ in size.</exception>
    public static async Task<LogitDistance> CompareAsync(SamModel original, SamModel other, MmLinkDataset dataset, int? limit = null,
        IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(original);
        ArgumentNullException.ThrowIfNull(other);
        ArgumentNullException.ThrowIfNull(dataset);
        int vocabulary = original.Info.Config.Llm.VocabularySize;
        if (other.Info.Config.Llm.VocabularySize != vocabulary)
        {
            throw new ArgumentException($"has {other.Info.Config.Llm.VocabularySize} tokens in its vocabulary, the original {vocabulary}",
                nameof(other));
        }
        int samples = Math.Min(limit ?? int.MaxValue, dataset.Samples.Count);
        int positions = 0, agreed = 0;
        double sum = 0, worst = 0;
        for (int s = 0; s < samples; s++)
        {
            var sample = dataset.Samples[s];
            var images = dataset.ImagesOf(sample, cancellation: cancellation);
            float[] right = await original.AnswerLogitsAsync(images, sample.Instruction, sample.Output, cancellation).ConfigureAwait(false);
            float[] found = await other.AnswerLogitsAsync(images, sample.Instruction, sample.Output, cancellation).ConfigureAwait(false);
            for (int at = 0; at < right.Length; at += vocabulary)
            {
                var (kl, same) = Distance(right.AsSpan(at, vocabulary), found.AsSpan(at, vocabulary));
                sum += kl;
                worst = Math.Max(worst, kl);
                agreed += same ? 1 : 0;
                positions++;
            }
            progress?.Report((s + 1, samples));
        }
        return new LogitDistance(samples, positions, sum / positions, worst, agreed / (double)positions);
    }

    /// <summary>KL(softmax(right) || softmax(found)), and whether both have their largest value in the same place.</summary>
    internal static (double Kl, bool SameTop) Distance(ReadOnlySpan<float> right, ReadOnlySpan<float> found)
    {
        double rightNorm = LogSumExp(right), foundNorm = LogSumExp(found);
        double kl = 0;
        for (int i = 0; i < right.Length; i++)
        {
            double log = right[i] - rightNorm;
            kl += Math.Exp(log) * (log - (found[i] - foundNorm));
        }
        return (Math.Max(0, kl), IndexOfMax(right) == IndexOfMax(found));
    }

    private static double LogSumExp(ReadOnlySpan<float> logits)
    {
        double largest = logits[IndexOfMax(logits)];
        double sum = 0;
        foreach (float v in logits)
        {
            sum += Math.Exp(v - largest);
        }
        return largest + Math.Log(sum);
    }

    private static int IndexOfMax(ReadOnlySpan<float> values)
    {
        int best = 0;
        for (int i = 1; i < values.Length; i++)
        {
            best = values[i] > values[best] ? i : best;
        }
        return best;
    }
}
