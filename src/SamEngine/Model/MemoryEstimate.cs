using SamEngine.Checkpoints;
using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>What a model will take of a device's memory, before it is loaded.</summary>
internal static class MemoryEstimate
{
    /// <summary>Pictures of the group that the workspace is counted for; a larger group needs more.</summary>
    private const int Images = 8;

    /// <param name="checkpoint">The model.</param>
    /// <param name="formats">Formats in memory; null keeps them as stored.</param>
    /// <param name="activations">Type of activations, keys and values.</param>
    /// <param name="cacheTokens">As <see cref="SamModelOptions.KvCacheTokens"/>.</param>
    /// <exception cref="RequestException">The group size is none.</exception>
    public static MemoryBudget For(SamCheckpoint checkpoint, WeightFormats? formats, ElementType activations, int cacheTokens)
    {
        formats?.CheckGroupSize();
        var config = checkpoint.Config;
        long weights = checkpoint.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)).Sum(n => Bytes(checkpoint.Peek(n), formats?.Of(n), formats));
        long rotary = (long)config.Llm.MaxPositions * config.Llm.HeadDim * sizeof(float);
        long cache = checked(2 * InferenceEngine.CacheShape(config, cacheTokens).Elements * activations.ByteSize());
        return new MemoryBudget(weights + rotary, cache, Workspace(config) * activations.ByteSize()
            + Images * 3L * config.Vision.ImageSize * config.Vision.ImageSize * sizeof(float));
    }

    private static long Bytes(TensorData tensor, WeightFormat? wanted, WeightFormats? formats)
    {
        // Vectors and small tables are fp32.
        if (tensor.Shape.Count < 2)
        {
            return tensor.Count * sizeof(float);
        }
        return wanted is { } format && !tensor.DType.IsQuantized()
            ? format.IsQuantized() ? QuantizedLayout.ByteLength(format, tensor.Rows, tensor.Columns, formats!.GroupSize)
                : tensor.Count * (format == WeightFormat.F32 ? sizeof(float) : sizeof(ushort))
            : tensor.ByteLength;
    }

    /// <summary>Elements of the widest layers' intermediate results: all patches of the pictures in the vision encoder, all
    /// their queries in the Q-Former, and a prompt as long as the context in the language model.</summary>
    private static long Workspace(SamConfig config)
    {
        var (vision, qformer, llm) = (config.Vision, config.QFormer, config.Llm);
        long patches = Images * (long)vision.Tokens;
        long queries = Images * (long)(qformer.QueryTokens + config.MaxTextLength);
        return patches * (6L * vision.Width + vision.MlpHidden + 2L * qformer.HiddenSize)
            + queries * (7L * qformer.HiddenSize + qformer.IntermediateSize)
            + llm.MaxPositions * (3L * llm.HiddenSize + 2L * llm.KeyValueHeads * llm.HeadDim + 3L * llm.IntermediateSize);
    }
}
