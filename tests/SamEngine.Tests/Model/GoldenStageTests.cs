using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>Every stage that the official implementation recorded (golden/tiny-*/io.safetensors).</summary>
public sealed class GoldenStageTests
{
    [Fact]
    public void Every_recorded_stage_of_vision_and_qformer_agrees()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            int compared = 0;
            foreach (string name in golden.Cases)
            {
                for (int sample = 0; sample < golden.Batch(name); sample++)
                {
                    compared += golden.CompareStages(name, sample);
                }
            }
            Assert.True(compared > 100, $"{folder}: only {compared} tensors compared");
        }
    }

    /// <summary>One golden folder, its model on the CPU backend, and the comparison of a case.</summary>
    private sealed class GoldenModel : IDisposable
    {
        private readonly SamCheckpoint _checkpoint;
        private readonly SafetensorsFile _io;
        private readonly Backend _backend = new CpuBackend();
        private readonly SamWeights _weights;
        private readonly ComputeQueue _queue;
        private readonly Workspace _workspace;

        public GoldenModel(string folder)
        {
            _checkpoint = SamCheckpoint.Open(folder);
            _io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
            _weights = SamWeights.Load(_checkpoint, _backend);
            _queue = _backend.CreateQueue();
            _workspace = new Workspace(_backend);
        }

        public IEnumerable<string> Cases => _io.Names.Select(n => n[..n.IndexOf('.', StringComparison.Ordinal)])
            .Distinct().Where(c => _io.Names.Contains(c + ".image.0.pixel_values"));

        public int Batch(string name) => (int)Tensor(name + ".image.0.pixel_values").Shape[0];

        public int CompareStages(string name, int sample)
        {
            int images = _io.Names.Count(n => n.StartsWith(name + ".image.", StringComparison.Ordinal)
                && n.EndsWith(".pixel_values", StringComparison.Ordinal));
            bool guided = _io.Names.Contains(name + ".avg_image_embeds") || name.Contains("5img", StringComparison.Ordinal)
                || !name.Contains("plain", StringComparison.Ordinal);
            var vision = _weights.Config.Vision;
            int side = vision.ImageSize;
            var pixels = _workspace.Rent("pixels", ElementType.F32, images, 3 * side, side);
            float[] values = [.. Enumerable.Range(0, images).SelectMany(j =>
                Sample(name + $".image.{j}.pixel_values", sample).ToArray())];
            _queue.Upload<float>(values, pixels);
            int[] ids = Ids(name, sample);
            var text = _workspace.Rent("text", ElementType.I32, 1, 1, ids.Length);
            _queue.Upload<int>(ids, text);

            int compared = 0;
            void Trace(string stage, TensorView value)
            {
                float[] actual = new float[value.Count];
                _queue.ReadBack<float>(value, actual);
                int perImage = value.Batch == 1 ? actual.Length : actual.Length / value.Batch;
                for (int j = 0; j < images; j++)
                {
                    string key = $"{name}.image.{j}.{stage}";
                    if (_io.Names.Contains(key))
                    {
                        var expected = Rows(key, sample, value.Rows);
                        Tolerance.AssertClose(key, actual.AsSpan(value.Batch == 1 ? 0 : j * perImage, perImage), expected,
                            1e-4, 1e-4);
                        compared++;
                    }
                }
                if (stage is "avg_image_embeds" && _io.Names.Contains($"{name}.{stage}"))
                {
                    Tolerance.AssertClose(stage, actual, Rows($"{name}.{stage}", sample, value.Rows), 1e-4, 1e-4);
                    compared++;
                }
                if (stage is "attn_weights" && _io.Names.Contains($"{name}.{stage}"))
                {
                    // Stored as [images, batch, positions, 1].
                    var tensor = Tensor($"{name}.{stage}");
                    int batch = (int)tensor.Shape[1];
                    float[] all = tensor.ToFloats();
                    for (int j = 0; j < images; j++)
                    {
                        Tolerance.AssertClose(stage, actual.AsSpan(j * value.Columns, value.Columns),
                            all.AsSpan((j * batch + sample) * value.Columns, value.Columns), 1e-4, 1e-4);
                    }
                    compared++;
                }
            }
            var features = _weights.Vision.Encode(_queue, _workspace, pixels, Trace, default);
            var (tokens, runs) = _weights.QFormer.Encode(_queue, _workspace, features, text, guided, Trace, default);
            int layers = _weights.Config.QFormer.Layers;
            Assert.Equal(guided ? images * layers + (layers - 1) + images : images * layers, runs);
            if (_io.Names.Contains(name + ".visual_prefix"))
            {
                float[] prefix = new float[tokens.Count];
                _queue.ReadBack<float>(tokens, prefix);
                Tolerance.AssertClose(name + ".visual_prefix", prefix, Sample(name + ".visual_prefix", sample), 1e-4, 1e-4);
                compared++;
            }
            return compared;
        }

        public void Dispose()
        {
            _workspace.Dispose();
            _queue.Dispose();
            _weights.Dispose();
            _backend.Dispose();
            _io.Dispose();
            _checkpoint.Dispose();
        }

        private int[] Ids(string name, int sample)
        {
            var tensor = Tensor(name + ".qformer_input_ids");
            int length = (int)tensor.Shape[1];
            int[] ids = [.. tensor.ToFloats().Skip(sample * length).Take(length).Select(v => (int)v)];
            if (_io.TryGet(name + ".qformer_text_mask", out var mask))
            {
                int kept = (int)mask.ToFloats().Skip(sample * length).Take(length).Sum();
                ids = ids[..kept];
            }
            return ids;
        }

        private TensorData Tensor(string name) => _io.TryGet(name, out var tensor) ? tensor
            : throw new InvalidOperationException($"{_io.Path} has no '{name}'");

        /// <summary>One batch entry.</summary>
        private ReadOnlySpan<float> Sample(string name, int sample)
        {
            var tensor = Tensor(name);
            int count = (int)(tensor.Count / tensor.Shape[0]);
            return tensor.ToFloats().AsSpan(sample * count, count);
        }

        /// <summary>The first rows of one batch entry: padded text rows hold nothing comparable.</summary>
        private ReadOnlySpan<float> Rows(string name, int sample, int rows)
        {
            var all = Sample(name, sample);
            int width = (int)Tensor(name).Shape[^1];
            return all[..(rows * width)];
        }
    }
}
