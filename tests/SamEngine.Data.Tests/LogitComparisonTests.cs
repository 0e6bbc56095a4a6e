using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

public sealed class LogitComparisonTests
{
    private static string Model => Path.Combine(Golden.RepositoryRoot, "models", "sam-mini");

    private static string Samples => Path.Combine(Golden.RepositoryRoot, "samples");

    [Fact]
    public void Distance_is_the_divergence_of_the_two_distributions()
    {
        // softmax: (0.8, 0.2) and (0.5, 0.5), whatever is added to all logits.
        var (kl, same) = LogitComparison.Distance([MathF.Log(0.8f) + 7, MathF.Log(0.2f) + 7], [3, 3]);
        Assert.Equal(0.8 * Math.Log(1.6) + 0.2 * Math.Log(0.4), kl, 1e-6);
        Assert.True(same);
        Assert.False(LogitComparison.Distance([1, 0], [0, 1]).SameTop);
    }

    [Fact]
    public async Task A_model_is_at_no_distance_from_itself_and_nearer_to_its_8_bit_form_than_to_its_4_bit_form()
    {
        var dataset = MmLinkDataset.Open(Samples);
        using var original = await SamModel.LoadAsync(Model, new SamModelOptions { Weights = WeightFormats.Parse("f32") });
        using var q8 = await SamModel.LoadAsync(Model, new SamModelOptions { Weights = WeightFormats.Parse("q8") });
        using var q4 = await SamModel.LoadAsync(Model, new SamModelOptions { Weights = WeightFormats.Parse("q4") });
        var token = TestContext.Current.CancellationToken;
        var itself = await LogitComparison.CompareAsync(original, original, dataset, limit: 2, cancellation: token);
        Assert.Equal(0, itself.MeanKl, 1e-12);
        Assert.Equal(1, itself.Top1Agreement);
        Assert.Equal(2, itself.Samples);
        var near = await LogitComparison.CompareAsync(original, q8, dataset, cancellation: token);
        var far = await LogitComparison.CompareAsync(original, q4, dataset, cancellation: token);
        Assert.Equal(dataset.Samples.Count, near.Samples);
        // Each answer's tokens and its end.
        Assert.True(near.Positions >= 3 * near.Samples, $"{near.Positions} positions");
        Assert.InRange(near.MeanKl, 1e-9, 0.01);
        Assert.InRange(far.MeanKl, 2 * near.MeanKl, 1);
        Assert.True(far.WorstKl >= far.MeanKl);
        Assert.True(near.Top1Agreement >= 0.98, $"{near.Top1Agreement}");
    }
}
