using SamEngine.Checkpoints;
using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>The three parts of the model with their weights on a backend; immutable and shared by all requests.</summary>
internal sealed class SamWeights : IDisposable
{
    private readonly WeightLoader _loader;

    private SamWeights(WeightLoader loader)
    {
        Config = loader.Config;
        _loader = loader;
        Vision = new VisionEncoder(loader);
        QFormer = new QFormer(loader);
        Llm = new LanguageModel(loader);
    }

    public SamConfig Config { get; }

    public VisionEncoder Vision { get; }

    public QFormer QFormer { get; }

    public LanguageModel Llm { get; }

    /// <summary>Bytes of all weights as stored.</summary>
    public long ByteLength => _loader.ByteLength;

    /// <summary>Loads every part; the checkpoint must stay open while the weights are used.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, misshapen, damaged or unknown.</exception>
    /// <exception cref="RequestException">Weights are stored in a format that <paramref name="formats"/> can't be made of.</exception>
    public static SamWeights Load(SamCheckpoint checkpoint, Backend backend, WeightFormats? formats = null,
        Action<string, long>? progress = null, CancellationToken cancellation = default)
    {
        formats?.CheckGroupSize();
        return Load(new CheckpointLoader(checkpoint, backend, formats) { Progress = progress, Cancellation = cancellation });
    }

    /// <summary>Takes every part from a loader, which is disposed with the weights, or when it fails.</summary>
    public static SamWeights Load(WeightLoader loader)
    {
        try
        {
            var weights = new SamWeights(loader);
            loader.Finish();
            return weights;
        }
        catch
        {
            loader.Dispose();
            throw;
        }
    }

    public void Dispose() => _loader.Dispose();
}
