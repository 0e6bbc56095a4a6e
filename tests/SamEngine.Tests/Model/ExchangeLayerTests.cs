using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Model;
using SamEngine.Testing;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>The exchange at every pair of layers l &lt;= k, for groups of one to three, against the plain per-image
/// statement of the algorithm; and what it costs.</summary>
public sealed class ExchangeLayerTests
{
    private const int Layers = 4;

    public static TheoryData<int, int, int> Places
    {
        get
        {
            var places = new TheoryData<int, int, int>();
            for (int l = 0; l < Layers; l++)
            {
                for (int k = l; k < Layers; k++)
                {
                    places.Add(l, k, 1 + (l + k) % 3);
                }
            }
            return places;
        }
    }

    [Theory]
    [MemberData(nameof(Places))]
    public void Guidance_at_layers_l_and_k(int l, int k, int images)
    {
        using var model = new TinyModel(c => c with
        {
            QFormer = c.QFormer with { Layers = Layers, OneToMultipleLayer = l, MultipleToOneLayer = k },
        }, seed: (ulong)(10 * l + k));
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend);
        using var queue = backend.CreateQueue();
        using var workspace = new Workspace(backend);
        const int Positions = 7;
        int width = checkpoint.Config.QFormer.EncoderWidth;
        var random = new Random(l * 31 + k);
        float[] features = [.. Enumerable.Range(0, images * Positions * width).Select(_ => (float)(random.NextDouble() * 2 - 1))];
        int[] text = [2, 17, 40, 41, 3];
        using var featureBuffer = backend.Allocate(ElementType.F32, features.Length, "features");
        using var textBuffer = backend.Allocate(ElementType.I32, text.Length, "text");
        queue.Upload<float>(features, featureBuffer.View(1, features.Length));
        queue.Upload<int>(text, textBuffer.View(1, text.Length));

        var (view, runs, _) = weights.QFormer.Encode(queue, workspace, featureBuffer.View(images, Positions, width),
            textBuffer.View(1, text.Length), guided: true, null, default);
        float[] actual = new float[view.Count];
        queue.ReadBack<float>(view, actual);

        using var file = SafetensorsFile.Open(Path.Combine(model.Folder, SafetensorsFolder.SingleName));
        double[][][] expected = new PlainQFormer(checkpoint.Config.QFormer, file).Encode([.. features.Select(v => (double)v).Chunk(width)
            .Chunk(Positions)], text);
        Tolerance.AssertClose($"visual tokens, l = {l}, k = {k}", actual,
            [.. expected.SelectMany(i => i).SelectMany(r => r).Select(v => (float)v)], 1e-4, 1e-4);
        // Stream 2 once per group before layer l, once per image from there to layer k, not at all after it.
        Assert.Equal(images * Layers + l + images * (k - l + 1), runs);
    }
}
