using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

/// <summary>What an explanation reports adds up.</summary>
public sealed class ExplainTests : IDisposable
{
    private readonly TinyModel _tiny = new();

    public void Dispose() => _tiny.Dispose();

    [Fact]
    public async Task Maps_are_there_for_every_picture_and_stream_and_sum_to_one()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var request = Request(3);
        var explanation = await model.ExplainAsync(request);
        var plain = await model.DescribeToEndAsync(request);

        Assert.Equal(plain.Text, explanation.Result.Text);
        int patches = explanation.PatchesAcross * explanation.PatchesAcross;
        Assert.Equal(16, patches);
        Assert.Equal(3, explanation.ImageWeights.Count);
        for (int p = 0; p < patches; p++)
        {
            Assert.Equal(1, explanation.ImageWeights.Sum(w => w[p]), 1e-5f);
        }
        Assert.Equal(1, plain.ImageWeights!.Sum(), 1e-5);
        // Cross-attention in layers 0 and 2 of three; the exchange is in layer 2.
        Assert.Equal([(0, 2, null), (0, 1, 0), (0, 1, 1), (0, 1, 2), (2, 2, 0), (2, 2, 1), (2, 2, 2), (2, 1, 0), (2, 1, 1), (2, 1, 2)],
            explanation.CrossAttention.Select(m => (m.Layer, m.Stream, m.Image)));
        Assert.All(explanation.CrossAttention, m =>
        {
            Assert.Equal(patches, m.Patches.Count);
            Assert.InRange(m.Patches.Sum(), 0.5f, 1f);
            Assert.All(m.Patches, v => Assert.InRange(v, 0, 1));
        });
    }

    [Fact]
    public async Task Without_guidance_there_are_no_weights_and_one_stream()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var explanation = await model.ExplainAsync(Request(2) with { Guidance = Guidance.Off });
        Assert.Empty(explanation.ImageWeights);
        Assert.Null(explanation.Result.ImageWeights);
        Assert.All(explanation.CrossAttention, m => Assert.Equal(1, m.Stream));
    }

    [Fact]
    public async Task The_same_picture_twice_weighs_the_same()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var result = await model.DescribeToEndAsync(Request(0) with { Images = [TinyModel.Picture(4), TinyModel.Picture(4)] });
        Assert.Equal(0.5, result.ImageWeights![0], 1e-6);
    }

    private static DescribeRequest Request(int images) => new()
    {
        Images = [.. Enumerable.Range(0, images).Select(i => TinyModel.Picture(i))],
        Prompt = "What is this?",
        Options = new GenerationOptions { MaxLength = 6 },
    };
}
