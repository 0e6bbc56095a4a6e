using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using Xunit;

namespace SamEngine.Testing;

/// <summary>The stages that the official implementation recorded in a golden folder's io.safetensors, on any backend.</summary>
internal static class GoldenStages
{
    /// <summary>Runs every recorded case on a checkpoint and compares every recorded stage.</summary>
    /// <param name="golden">The recorded tensors.</param>
    /// <param name="checkpoint">The model.</param>
    /// <param name="backend">Where to compute.</param>
    /// <param name="relative">For backends whose activations are rounded: largest root mean square error of a stage, over all
    /// cases, against its root mean square; in one case, which may be a single row, twice that. Null compares element by
    /// element, within what fp32 allows.</param>
    public static async Task Check(GoldenModel golden, SamCheckpoint checkpoint, Backend backend, double? relative = null)
    {
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var errors = new Dictionary<string, (double Error, double Size)>(StringComparer.Ordinal);
        foreach (string name in golden.Cases)
        {
            for (int sample = 0; sample < golden.Batch(name); sample++)
            {
                var comparison = new Comparison(golden, name, sample, engine.Queue, relative, errors);
                engine.Trace = comparison.OnStage;
                var input = golden.Input(name, sample);
                // One new token: the stages of the prompt, nothing after it.
                var settings = GenerationSettings.Create(
                    new GenerationOptions { NumBeams = 1, MaxLength = 2, RepetitionPenalty = 1 },
                    golden.Config.Llm.VocabularySize, 1, 2);
                var work = new GenerationWork(input, settings, TokenSearch.Create(settings), null, default);
                engine.Submit(work);
                await work.Completion;
                comparison.AssertAllSeen();
                int layers = golden.Config.QFormer.Layers;
                Assert.Equal(input.Guided ? input.Images * layers + (layers - 1) + input.Images
                    : input.Images * layers, work.Timings.QFormerLayerRuns);
            }
        }
        foreach (var (stage, (error, size)) in errors)
        {
            Tolerance.AssertRelative($"{stage} of all cases", error, size, relative!.Value);
        }
    }

    private sealed class Comparison(GoldenModel golden, string name, int sample, ComputeQueue queue, double? relative,
        Dictionary<string, (double Error, double Size)> errors)
    {
        private readonly HashSet<string> _seen = [];

        public void OnStage(string stage, TensorView value)
        {
            if (stage.EndsWith(".cross_attention", StringComparison.Ordinal))
            {
                // By head; the official code records none.
                return;
            }
            float[] actual = new float[value.Count];
            queue.ReadBack<float>(value, actual);
            int images = golden.Images(name);
            int perImage = value.Batch == 1 ? actual.Length : actual.Length / value.Batch;
            for (int j = 0; j < images; j++)
            {
                // Stages that are the same for all images of the group run once and are recorded for each.
                Compare($"{name}.image.{j}.{stage}", actual.AsSpan(value.Batch == 1 ? 0 : j * perImage, perImage), 1e-4);
            }
            switch (stage)
            {
                case "avg_image_embeds":
                    Compare($"{name}.{stage}", actual, 1e-4);
                    break;
                case "llm_proj":
                    Compare($"{name}.visual_prefix", actual, 1e-4);
                    break;
                case "attn_weights" when golden.Has($"{name}.{stage}"):
                    // Recorded as [images, batch, positions, 1].
                    var tensor = golden.Tensor($"{name}.{stage}");
                    int batch = (int)tensor.Shape[1];
                    float[] all = tensor.ToFloats();
                    for (int j = 0; j < images; j++)
                    {
                        AssertClose(stage, actual.AsSpan(j * value.Columns, value.Columns),
                            all.AsSpan((j * batch + sample) * value.Columns, value.Columns), 1e-4);
                    }
                    _seen.Add($"{name}.{stage}");
                    break;
                case "llm_logits":
                    Compare($"{name}.llm_last_logits", actual, 5e-4);
                    break;
                default:
                    if (stage.StartsWith("llm.hidden.", StringComparison.Ordinal))
                    {
                        CompareHidden($"{name}.{stage}", actual, value.Columns);
                    }
                    break;
            }
        }

        /// <summary>Everything recorded for the case that has a counterpart was compared.</summary>
        public void AssertAllSeen()
        {
            string[] compared = ["vit.", "ln_vision", "qformer.", "llm_proj", "visual_prefix", "avg_image_embeds",
                "attn_weights", "llm.hidden.", "llm_last_logits"];
            Assert.NotEmpty(_seen);
            foreach (string tensor in golden.Names.Where(n => n.StartsWith(name + ".", StringComparison.Ordinal)))
            {
                string rest = StageOf(tensor);
                // Without guidance the official code runs one stream and records nothing of a second.
                if (compared.Any(c => rest.StartsWith(c, StringComparison.Ordinal)))
                {
                    Assert.True(_seen.Contains(tensor), $"{tensor} was not compared");
                }
            }
        }

        /// <summary>"vit.block.0" of "case1_3img.image.2.vit.block.0".</summary>
        private string StageOf(string tensor)
        {
            string rest = tensor.StartsWith(name + ".", StringComparison.Ordinal) ? tensor[(name.Length + 1)..] : tensor;
            return rest.StartsWith("image.", StringComparison.Ordinal) ? rest[(rest.IndexOf('.', 6) + 1)..] : rest;
        }

        private void AssertClose(string what, ReadOnlySpan<float> actual, ReadOnlySpan<float> expected, double tolerance)
        {
            if (relative is { } most)
            {
                var (error, size) = Tolerance.Squares(what, actual, expected);
                Tolerance.AssertRelative(what, error, size, 2 * most);
                string stage = StageOf(what);
                var sums = errors.GetValueOrDefault(stage);
                errors[stage] = (sums.Error + error, sums.Size + size);
            }
            else
            {
                Tolerance.AssertClose(what, actual, expected, tolerance, tolerance);
            }
        }

        private void Compare(string key, ReadOnlySpan<float> actual, double tolerance)
        {
            if (!golden.Has(key))
            {
                return;
            }
            // Shorter texts of a batch are padded behind; their rows hold nothing comparable.
            var expected = golden.Sample(key, sample);
            Assert.True(expected.Length >= actual.Length, $"{key}: recorded {expected.Length}, computed {actual.Length}");
            AssertClose(key, actual, expected[..actual.Length], tolerance);
            _seen.Add(key);
        }

        /// <summary>Language-model rows: the official batch pads between the visual tokens and the prompt; the last stage
        /// is computed for the last row only.</summary>
        private void CompareHidden(string key, float[] actual, int width)
        {
            if (!golden.Has(key))
            {
                return;
            }
            float[] all = golden.Sample(key, sample).ToArray();
            float[] mask = golden.Sample($"{name}.llm_attention_mask", sample).ToArray();
            float[] expected = [.. Enumerable.Range(0, mask.Length).Where(r => mask[r] != 0)
                .SelectMany(r => all.AsSpan(r * width, width).ToArray())];
            AssertClose(key, actual, expected.AsSpan(expected.Length - actual.Length), 1e-4);
            _seen.Add(key);
        }
    }
}
