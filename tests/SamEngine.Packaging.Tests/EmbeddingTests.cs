using System.Text.RegularExpressions;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Packaging.Tests;

/// <summary>docs/embedding.md: its snippets are compiled, and do what the page says.</summary>
public sealed partial class EmbeddingTests : IAsyncLifetime
{
    private const string Cats = "There is a cat in every picture.";
    private static readonly CancellationToken None = CancellationToken.None;
    private SamModel _model = null!;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync() => _model = await SamModel.LoadAsync(PackageFeed.BundledModel);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _model.DisposeAsync();

    [Theory]
    [InlineData("docs/embedding.md", 6)]
    [InlineData("docs/backends.md", 1)]
    [InlineData("src/PackageReadme.md", 1)]
    public void Every_snippet_of_the_page_is_compiled(string page, int least)
    {
        string compiled = Trimmed(File.ReadAllText(Path.Combine(Golden.RepositoryRoot, "tests", "SamEngine.Packaging.Tests",
            nameof(EmbeddingSamples) + ".cs")));
        var snippets = Snippet().Matches(File.ReadAllText(Path.Combine(Golden.RepositoryRoot, page)));
        Assert.InRange(snippets.Count, least, int.MaxValue);
        Assert.All(snippets, s => Assert.Contains(Trimmed(s.Groups[1].Value.Replace("using SamEngine;\n\n", "", StringComparison.Ordinal)), compiled, StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_samples_do_what_the_page_says()
    {
        var request = new DescribeRequest { Images = Pictures("cats"), Prompt = "Sum up the common factor in these pictures." };
        await EmbeddingSamples.StreamAsync(_model, request, None);
        Assert.Equal(Cats, await EmbeddingSamples.ErrorsAsync(_model, request, None));
        Assert.StartsWith("picture 2 can't be used: image 1 (none.png)", await EmbeddingSamples.ErrorsAsync(_model,
            request with { Images = [request.Images[0], "none.png"] }, None), StringComparison.Ordinal);
        Assert.StartsWith("NumBeams can't be used: ", await EmbeddingSamples.ErrorsAsync(_model,
            request with { Options = new GenerationOptions { NumBeams = 0 } }, None), StringComparison.Ordinal);
        var changed = await _model.DescribeToEndAsync(EmbeddingSamples.Options(Pictures("change-bell")));
        Assert.Equal("The bell has become a ladybug.", changed.Text);
        Assert.False(changed.Guided);
        string[] texts = await EmbeddingSamples.TogetherAsync(_model, [Pictures("cats"), Pictures("octopus")], request.Prompt, None);
        Assert.Equal(Cats, texts[0]);
        Assert.Contains("octopus", texts[1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_service_answers_uploads()
    {
        string[] arguments = ["--urls", "http://127.0.0.1:0", "--Logging:LogLevel:Default=None"];
        Assert.Equal((200, Cats), await EmbeddingSamples.ServeAsync(PackageFeed.BundledModel, arguments, Files("cats")));
        var (status, body) = await EmbeddingSamples.ServeAsync(PackageFeed.BundledModel, arguments,
            [Files("cats")[0], Golden.Fixture("text", "vocab.txt")]);
        Assert.Equal(400, status);
        Assert.Contains("image 1 (vocab.txt)", body, StringComparison.Ordinal);
    }

    private static string[] Files(string sample) =>
        [.. Directory.EnumerateFiles(Path.Combine(Golden.RepositoryRoot, "samples", sample)).Order(StringComparer.Ordinal)];

    private static SamImage[] Pictures(string sample) => [.. Files(sample).Select(SamImage.FromFile)];

    /// <summary>Lines without what stands before them, which differs between page and code.</summary>
    private static string Trimmed(string text) => string.Join('\n', text.Split('\n').Select(l => l.Trim()));

    [GeneratedRegex("^```csharp\n(.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Snippet();
}
