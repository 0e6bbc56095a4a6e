using System.Diagnostics;
using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using SamEngine.Bench.Compare;
using SamEngine.Bench.MakeModel;

namespace SamEngine.Peers;

/// <summary>A vision encoder that <c>make-model --format onnx</c> wrote, in ONNX Runtime with all its optimisations.</summary>
internal sealed class OnnxEngine : IDisposable
{
    private readonly InferenceSession _session;
    private readonly SessionOptions _options;
    private readonly string _format;

    public OnnxEngine(string file, string format, int threads)
    {
        _options = new SessionOptions { IntraOpNumThreads = threads, InterOpNumThreads = 1, GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL };
        _session = new InferenceSession(file, _options);
        _format = format;
    }

    public static string Version => "ONNX Runtime " + OrtEnv.Instance().GetVersionString();

    public IReadOnlyList<Measurement> Measure(IReadOnlyCollection<string> items, int iterations)
    {
        var metadata = _session.ModelMetadata.CustomMetadataMap;
        int blocks = int.Parse(metadata[OnnxVision.BlocksKey], CultureInfo.InvariantCulture);
        int full = int.Parse(metadata[OnnxVision.FullBlocksKey], CultureInfo.InvariantCulture);
        var done = new List<Measurement>();
        foreach (var (item, images) in (IEnumerable<(string, int)>)[(WorkItems.Vision1, 1), (WorkItems.Vision5, WorkItems.Images)])
        {
            if (!items.Contains(item))
            {
                continue;
            }
            var shape = Shape(images);
            float[] pixels = [.. Enumerable.Range(0, (int)shape.Aggregate((a, b) => a * b)).Select(i => i % 255 / 128f - 1)];
            var times = new List<double>();
            for (int i = 0; i <= iterations; i++)
            {
                long start = Stopwatch.GetTimestamp();
                _ = Features(pixels, images);
                times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds * full / blocks);
            }
            // The embedding is multiplied too: below a percent.
            done.Add(new Measurement(item, _format, times[1..], blocks == full ? null
                : $"{blocks} of {full} blocks ran; the time is multiplied"));
        }
        return done;
    }

    public float[] Features(float[] pixels, int images)
    {
        using var input = OrtValue.CreateTensorValueFromMemory(pixels, Shape(images));
        using var run = new RunOptions();
        using var results = _session.Run(run, [OnnxVision.Input], [input], [OnnxVision.Output]);
        return results[0].GetTensorDataAsSpan<float>().ToArray();
    }

    public void Dispose()
    {
        _session.Dispose();
        _options.Dispose();
    }

    private long[] Shape(int images) => [images, .. _session.InputMetadata[OnnxVision.Input].Dimensions.Skip(1).Select(d => (long)d)];
}
