using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Data.Mini;
using SamEngine.Decoding;
using SamEngine.Model;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>The same model folder in TorchSharp and in the engine: logits after the prompt of random groups, guided and not. Two
/// independent statements of one computation.</summary>
internal static class ParityCheck
{
    private const double Tolerance = 1e-3;

    /// <summary>Compares, and records the logits where a file is named.</summary>
    /// <returns>The largest difference.</returns>
    public static double Run(string folder, string? record)
    {
        using var checkpoint = SamCheckpoint.Open(folder);
        using var model = new TorchSam(checkpoint.Config, seed: 0);
        Checkpoint.Load(Path.Combine(folder, SafetensorsFolder.SingleName),
            model.Parameters.Select(p => (p.Key, (Tensor)p.Value)));
        // fp32 on both sides: what is compared is the computation.
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend, WeightFormat.F32);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        using var queue = backend.CreateQueue();
        float[] ours = [];
        engine.Trace = (stage, view) =>
        {
            if (stage == "llm_logits")
            {
                ours = new float[view.Count];
                queue.ReadBack<float>(view, ours);
            }
        };
        double worst = 0;
        var recorded = new List<(string, Tensor)>();
        for (int i = 0; i < ParitySamples.Count; i++)
        {
            var sample = ParitySamples.Create(i, checkpoint.Config.Vision.ImageSize, checkpoint.Config.QFormer.VocabularySize,
                checkpoint.Config.Llm.VocabularySize);
            var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 2 },
                checkpoint.Config.Llm.VocabularySize, checkpoint.Config.Llm.BosTokenId, checkpoint.Config.Llm.EosTokenId);
            var work = new GenerationWork(new EngineInput(sample.Images, sample.Pixels, sample.TextIds, sample.PromptIds,
                sample.Guided), settings, TokenSearch.Create(settings), null, default);
            engine.Submit(work);
            work.Completion.GetAwaiter().GetResult();
            float[] theirs = Torch(model, sample);
            worst = Math.Max(worst, ours.Zip(theirs, (a, b) => Math.Abs((double)a - b)).Max());
            recorded.Add(($"logits.{i}", tensor(theirs).reshape(1, theirs.Length)));
        }
        if (record is not null)
        {
            Checkpoint.Save(record, recorded);
        }
        return worst <= Tolerance ? worst
            : throw new InvalidOperationException($"logits differ by {worst:G3}, expected at most {Tolerance}");
    }

    private static float[] Torch(TorchSam model, ParitySample sample)
    {
        using var scope = NewDisposeScope();
        using var off = no_grad();
        int side = model.Config.Vision.ImageSize;
        var features = model.Vision(tensor(sample.Pixels).reshape(sample.Images, 3, side, side));
        var text = tensor(sample.TextIds.Select(t => (long)t).ToArray()).reshape(1, sample.TextIds.Length);
        var visual = model.QFormer(features.unsqueeze(0), text, ones(text.shape, ScalarType.Bool), sample.Guided);
        var logits = model.Llm(visual, tensor(sample.PromptIds.Select(t => (long)t).ToArray()).reshape(1, sample.PromptIds.Length));
        return logits[0, -1].data<float>().ToArray();
    }
}
