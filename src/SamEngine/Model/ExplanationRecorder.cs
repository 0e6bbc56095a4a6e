using System.Globalization;
using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>Collects what <see cref="Explanation"/> shows while a prompt runs.</summary>
internal sealed class ExplanationRecorder(SamConfig config)
{
    private readonly List<IReadOnlyList<float>> _imageWeights = [];
    private readonly List<CrossAttentionMap> _maps = [];

    public void OnStage(ComputeQueue queue, string stage, TensorView value)
    {
        if (stage == "attn_weights")
        {
            _imageWeights.AddRange(Read(queue, value).Chunk(value.Columns).Select(row => Patches(row)));
        }
        else if (stage.EndsWith(".cross_attention", StringComparison.Ordinal))
        {
            // "qformer.layer.{i}.stream{s}.cross_attention"
            string[] parts = stage.Split('.');
            AddMaps(Read(queue, value), value, int.Parse(parts[2], CultureInfo.InvariantCulture), parts[3][^1] - '0');
        }
    }

    public Explanation Explain(DescribeResult result) => new()
    {
        Result = result,
        PatchesAcross = config.Vision.ImageSize / config.Vision.PatchSize,
        ImageWeights = _imageWeights,
        CrossAttention = _maps,
    };

    /// <summary>[images * heads, queries, positions] to a mean per image.</summary>
    private void AddMaps(float[] values, TensorView view, int layer, int stream)
    {
        int heads = config.QFormer.Heads;
        int images = view.Batch / heads;
        int rows = heads * view.Rows;
        for (int image = 0; image < images; image++)
        {
            float[] mean = new float[view.Columns];
            for (int row = 0; row < rows; row++)
            {
                var p = values.AsSpan((image * rows + row) * view.Columns, view.Columns);
                for (int i = 0; i < mean.Length; i++)
                {
                    mean[i] += p[i] / rows;
                }
            }
            bool shared = stream == 2 && layer < config.QFormer.OneToMultipleLayer;
            _maps.Add(new CrossAttentionMap(layer, stream, shared ? null : image, Patches(mean)));
        }
    }

    /// <summary>Without the class token, which is no place.</summary>
    private static float[] Patches(ReadOnlySpan<float> positions) => positions[1..].ToArray();

    private static float[] Read(ComputeQueue queue, TensorView view)
    {
        float[] values = new float[view.Count];
        queue.ReadBack<float>(view, values);
        return values;
    }
}
