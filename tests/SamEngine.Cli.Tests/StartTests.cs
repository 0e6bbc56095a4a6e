using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>How long a user waits for the first word.</summary>
[Collection(nameof(Alone))]
public sealed class StartTests(SamCommand sam)
{
    [Fact]
    public async Task SAM_minis_first_word_comes_within_two_seconds()
    {
        string[] pictures = [.. Directory.EnumerateFiles(Path.Combine(Golden.RepositoryRoot, "samples", "cats")).Order(StringComparer.Ordinal)];
        double best = double.MaxValue;
        // The best of a few: the machine may have other work.
        for (int i = 0; i < 5 && best > 2000; i++)
        {
            using var json = JsonDocument.Parse(await sam.OutputAsync(["describe", .. pictures, "--json"]));
            best = Math.Min(best, json.RootElement.GetProperty("usage").GetProperty("process_start_to_first_text_ms").GetDouble());
        }
        Assert.InRange(best, 0, 2000);
    }
}
