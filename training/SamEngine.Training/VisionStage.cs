using SamEngine.Data.Mini;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Training;

/// <summary>Teaches the vision encoder to name what each patch shows, and the class token everything in the picture. The
/// head that reads it off is thrown away afterwards.</summary>
internal static class VisionStage
{
    private const int Batch = 64;

    public static Stage Create(TorchSam model, TrainingData data, TrainingData validation, int steps, int seed)
    {
        long classes = TrainingData.Classes;
        int width = model.Config.Vision.Width;
        var head = new TorchSharp.Modules.Parameter(zeros(classes, width));
        var bias = new TorchSharp.Modules.Parameter(zeros(classes));
        Tensor Pictures(TrainingData source, int[] chosen) =>
            tensor(source.Normalized(chosen)).reshape(chosen.Length, 3, source.Side, source.Side);
        (Tensor Patches, Tensor Whole) Logits(TrainingData source, int[] chosen)
        {
            var logits = F.linear(model.Vision(Pictures(source, chosen)), head, bias);
            return (logits[.., 1..], logits[.., 0]);
        }
        Tensor Targets(TrainingData source, int[] chosen) => tensor(chosen.SelectMany(i => source.Labels[i])
            .Select(l => (long)l).ToArray());

        return new Stage
        {
            Name = "vision",
            Steps = steps,
            Seed = seed,
            LearningRate = 1.5e-3f,
            Trained = [.. model.Parameters.Where(p => TorchSam.IsVision(p.Key)), new("head.weight", head), new("head.bias", bias)],
            Loss = random =>
            {
                int[] chosen = [.. Enumerable.Range(0, Batch).Select(_ => random.Next(data.Scenes.Count))];
                var (patches, whole) = Logits(data, chosen);
                return F.cross_entropy(patches.reshape(-1, classes), Targets(data, chosen))
                    + 5 * F.binary_cross_entropy_with_logits(whole, tensor(data.Present(chosen)).reshape(Batch, classes));
            },
            Validate = () =>
            {
                using var scope = NewDisposeScope();
                using var off = no_grad();
                int[] chosen = [.. Enumerable.Range(0, Math.Min(256, validation.Scenes.Count))];
                var (patches, _) = Logits(validation, chosen);
                var targets = Targets(validation, chosen);
                var right = patches.reshape(-1, classes).argmax(1).eq(targets);
                var items = targets.lt(classes - Settings.All.Count);
                return $"patches right {right.to(ScalarType.Float32).mean().item<float>():P1}, of items " +
                    $"{right.masked_select(items).to(ScalarType.Float32).mean().item<float>():P1}";
            },
        };
    }
}
