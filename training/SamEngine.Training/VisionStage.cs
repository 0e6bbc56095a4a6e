using SamEngine.Data.Mini;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Training;

/// <summary>Teaches the vision encoder to name what each patch shows, and the class token everything in the picture. The
/// head that reads it off is thrown away afterwards.</summary>
internal static class VisionStage
{
    private const int Batch = 64;

    /// <summary>Pictures are moved by up to this many pixels, so that nothing depends on where the grid of patches cuts them.</summary>
    private const int LargestShift = 10;

    /// <param name="model">What is trained.</param>
    /// <param name="lazy">Pictures, drawn only when there is something to train.</param>
    /// <param name="validation">Other pictures.</param>
    /// <param name="steps">Optimiser steps.</param>
    /// <param name="seed">Of batches.</param>
    public static Stage Create(TorchSam model, Lazy<TrainingData> lazy, TrainingData validation, int steps, int seed)
    {
        long classes = TrainingData.Classes;
        int width = model.Config.Vision.Width;
        var head = new TorchSharp.Modules.Parameter(zeros(classes, width));
        var bias = new TorchSharp.Modules.Parameter(zeros(classes));
        (Tensor Patches, Tensor Whole, Tensor Targets) Logits(TrainingData source, int[] chosen, (int X, int Y)[] shifts)
        {
            var pictures = tensor(source.Normalized(chosen, shifts)).reshape(chosen.Length, 3, source.Side, source.Side);
            var logits = F.linear(model.Vision(pictures), head, bias);
            return (logits[.., 1..].reshape(-1, classes), logits[.., 0],
                tensor(chosen.SelectMany((picture, i) => source.PatchLabels(picture, shifts[i])).ToArray()));
        }

        return new Stage
        {
            Name = "vision",
            Steps = steps,
            Seed = seed,
            LearningRate = 1.5e-3f,
            Prepare = () => _ = lazy.Value,
            Trained = [.. model.Parameters.Where(p => TorchSam.IsVision(p.Key)), new("head.weight", head), new("head.bias", bias)],
            Parts = (random, _) =>
            {
                var data = lazy.Value;
                int[] all = [.. Enumerable.Range(0, Batch).Select(_ => random.Next(data.Scenes.Count))];
                var shifts = all.Select(_ => (random.Next(-LargestShift, LargestShift + 1),
                    random.Next(-LargestShift, LargestShift + 1))).ToArray();
                Tensor Part(int[] chosen, (int X, int Y)[] shift)
                {
                    var (patches, whole, targets) = Logits(data, chosen, shift);
                    return (F.cross_entropy(patches, targets) + 5 * F.binary_cross_entropy_with_logits(whole,
                        tensor(data.Present(chosen)).reshape(chosen.Length, classes))) / 2;
                }
                return (() => Part(all[..(Batch / 2)], shifts[..(Batch / 2)]), () => Part(all[(Batch / 2)..], shifts[(Batch / 2)..]));
            },
            Validate = () =>
            {
                using var scope = NewDisposeScope();
                using var off = no_grad();
                int[] chosen = [.. Enumerable.Range(0, Math.Min(256, validation.Scenes.Count))];
                var (patches, _, targets) = Logits(validation, chosen, new (int, int)[chosen.Length]);
                var right = patches.argmax(1).eq(targets);
                var items = targets.lt(classes - Settings.All.Count);
                return $"patches right {right.to(ScalarType.Float32).mean().item<float>():P1}, of items " +
                    $"{right.masked_select(items).to(ScalarType.Float32).mean().item<float>():P1}";
            },
        };
    }
}
