using SamEngine.Checkpoints;
using SamEngine.Data.Mini;
using SamEngine.Model;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>The same model folder in TorchSharp and in the engine: logits after the prompt of random groups, guided and not, and
/// of given ids after it. Two independent statements of one computation.</summary>
internal static class ParityCheck
{
    /// <summary>Compares, and records TorchSharp's logits where a file is named: for sample i <c>logits.i</c>,
    /// [1 + continuation, vocabulary], F32.</summary>
    /// <returns>The largest difference.</returns>
    public static double Run(string folder, string? record)
    {
        var config = SamConfig.Load(Path.Combine(folder, SamCheckpoint.ConfigName));
        using var model = new TorchSam(config, seed: 0);
        Checkpoint.Load(Path.Combine(folder, SafetensorsFolder.SingleName),
            model.Parameters.Select(p => (p.Key, (Tensor)p.Value)));
        double worst = 0;
        var recorded = new List<(string, Tensor)>();
        foreach (var (ours, i) in ParitySamples.EngineLogits(folder).Select((logits, i) => (logits, i)))
        {
            var sample = ParitySamples.Create(i, config);
            float[] theirs = Torch(model, sample);
            worst = Math.Max(worst, ParitySamples.LargestDifference(ours, theirs));
            recorded.Add((ParitySamples.NameOf(i), tensor(theirs).reshape(1 + sample.Continuation.Length, -1)));
        }
        if (worst > ParitySamples.Tolerance)
        {
            throw new InvalidOperationException($"logits differ by {worst:G3}, expected at most {ParitySamples.Tolerance}");
        }
        if (record is not null)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(record))!);
            Checkpoint.Save(record, recorded);
        }
        return worst;
    }

    private static float[] Torch(TorchSam model, ParitySample sample)
    {
        using var scope = NewDisposeScope();
        using var off = no_grad();
        int side = model.Config.Vision.ImageSize;
        var features = model.Vision(tensor(sample.Pixels).reshape(sample.Images, 3, side, side));
        var visual = model.QFormer(features, [sample.Images], [sample.TextIds], sample.Guided);
        return model.Llm(visual, [(int)visual.shape[0]], [[.. sample.PromptIds, .. sample.Continuation]], [sample.PromptIds.Length - 1])
            .contiguous().data<float>().ToArray();
    }
}
