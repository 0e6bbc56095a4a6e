using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

/// <summary>What is told while a model is loaded.</summary>
public sealed class LoadProgressTests
{
    [Fact]
    public async Task Progress_goes_from_tensor_to_tensor_up_to_the_total()
    {
        using var tiny = new TinyModel();
        var told = new List<LoadProgress>();
        using var model = await SamModel.LoadAsync(tiny.Folder, progress: new Told(told.Add), cancellationToken: TestContext.Current.CancellationToken);
        Assert.True(told.Count > 50);
        Assert.All(told.Zip(told.Skip(1)), p => Assert.True(p.First.BytesDone < p.Second.BytesDone));
        Assert.Equal((told[^1].BytesTotal, told[0].BytesTotal), (told[^1].BytesDone, told[^1].BytesTotal));
    }

    private sealed class Told(Action<LoadProgress> tell) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) => tell(value);
    }
}
