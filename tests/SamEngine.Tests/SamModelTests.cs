using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

/// <summary>The public surface on a tiny random model.</summary>
public sealed class SamModelTests : IDisposable
{
    private const string Prompt = "What do these pictures have in common?";
    private readonly TinyModel _tiny = new();

    public void Dispose() => _tiny.Dispose();

    public static TheoryData<int, bool> Modes => new() { { 1, false }, { 1, true }, { 5, false }, { 5, true } };

    [Theory]
    [MemberData(nameof(Modes))]
    public async Task Pieces_put_together_are_the_text(int beams, bool sample)
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var options = new GenerationOptions { NumBeams = beams, DoSample = sample, Seed = 3, MaxLength = 40 };
        for (int seed = 0; seed < 5; seed++)
        {
            string text = "";
            DescribeResult? result = null;
            await foreach (var piece in model.DescribeAsync(Pictures(seed), Prompt, options with { Seed = (ulong)seed }))
            {
                Assert.Null(result);
                text += piece.Text;
                result = piece.Result;
            }
            Assert.Equal(result!.Text, text);
            Assert.Equal(text.Trim(), text);
            Assert.True(result.Guided);
            Assert.Equal(3 * 3 + 2 + 3, result.Usage.QFormerLayerRuns);
            Assert.True(result.Usage.OutputTokens is > 0 and < 40);
        }
    }

    [Fact]
    public async Task The_same_request_gives_the_same_text_alone_and_among_others()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var options = new GenerationOptions { MaxLength = 30 };
        var requests = Enumerable.Range(0, 8).Select(i => new DescribeRequest
        {
            Images = Pictures(i),
            Prompt = Prompt,
            Options = options with { DoSample = i % 2 == 1, Seed = 5, NumBeams = i % 3 == 0 ? 1 : 4 },
        }).ToList();
        var alone = new List<string>();
        foreach (var request in requests)
        {
            alone.Add((await model.DescribeToEndAsync(request)).Text);
        }
        var together = await Task.WhenAll(requests.Select(r => model.DescribeToEndAsync(r)));
        Assert.Equal(alone, together.Select(r => r.Text));
        Assert.True(alone.Distinct().Count() > 1);
    }

    [Fact]
    public async Task Paths_are_pictures_however_they_are_given()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        using var folder = new TempFolder();
        string[] paths = PictureFiles.Write(folder.Path, 2);
        var options = new GenerationOptions { MaxLength = 6 };
        async Task<string> Text(IAsyncEnumerable<DescribePiece> pieces) => string.Concat(await pieces.Select(p => p.Text).ToListAsync());
        string expected = await Text(model.DescribeAsync(new DescribeRequest
        {
            Images = [.. paths.Select(SamImage.FromFile)],
            Prompt = Prompt,
            Options = options,
        }));
        Assert.NotEmpty(expected);
        Assert.Equal(expected, await Text(model.DescribeAsync(paths, Prompt, options)));
        Assert.Equal(expected, await Text(model.DescribeAsync(paths.Where(p => p.Length > 0), Prompt, options)));
        Assert.Equal(expected, await Text(model.DescribeAsync([paths[0], paths[1]], Prompt, options)));
        Assert.Equal(expected, await Text(model.DescribeAsync([paths[0], SamImage.FromFile(paths[1])], Prompt, options)));
        Assert.Throws<ArgumentNullException>(() => model.DescribeAsync((IEnumerable<string>)null!, Prompt));
        foreach (var pieces in (IAsyncEnumerable<DescribePiece>[])[
            model.DescribeAsync((string[])[paths[0], null!], Prompt), model.DescribeAsync([paths[0], (string)null!], Prompt)])
        {
            var error = await Assert.ThrowsAsync<RequestException>(() => Text(pieces));
            Assert.Contains("picture 1 is null", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_stop_string_ends_the_text_before_it()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        foreach (int beams in (int[])[1, 3])
        {
            var options = new GenerationOptions { NumBeams = beams, MaxLength = 40 };
            var request = new DescribeRequest { Images = Pictures(1), Prompt = Prompt, Options = options };
            string full = (await model.DescribeToEndAsync(request)).Text;
            Assert.True(full.Length > 8, full);
            string stop = full.Substring(4, 2);
            string text = "";
            DescribeResult? result = null;
            await foreach (var piece in model.DescribeAsync(request with { Options = options with { StopStrings = [stop] } }))
            {
                text += piece.Text;
                result = piece.Result;
            }
            Assert.DoesNotContain(stop, text, StringComparison.Ordinal);
            Assert.Equal(text, result!.Text);
            if (beams == 1)
            {
                Assert.Equal(full[..full.IndexOf(stop, StringComparison.Ordinal)].Trim(), text);
                Assert.Equal(FinishReason.StopString, result.Texts[0].FinishReason);
            }
        }
    }

    [Fact]
    public async Task Without_guidance_or_with_exchange_of_zero_the_text_is_the_same_bit_for_bit()
    {
        _tiny.ZeroExchange();
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var request = new DescribeRequest
        {
            Images = Pictures(2),
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 40 },
            Guidance = Guidance.On,
        };
        var guided = await model.DescribeToEndAsync(request);
        var plain = await model.DescribeToEndAsync(request with { Guidance = Guidance.Off });
        Assert.Equal(plain.Text, guided.Text);
        Assert.Equal(plain.Texts[0].Score, guided.Texts[0].Score);
        Assert.False(plain.Guided);
    }

    [Fact]
    public async Task Candidates_come_back_in_order_of_loss()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        await model.WarmUpAsync();
        var request = new RankRequest
        {
            Images = Pictures(5),
            Prompt = Prompt,
            Candidates = ["a dog runs", "the boat", "two children play beside the river"],
        };
        foreach (var mode in (RankingMode[])[RankingMode.Reference, RankingMode.PerTokenMean])
        {
            var ranked = await model.RankAsync(request with { Mode = mode });
            Assert.Equal(3, ranked.Select(r => r.Index).Distinct().Count());
            Assert.Equal(ranked.OrderBy(r => r.Loss), ranked);
            Assert.All(ranked, r => Assert.Equal(request.Candidates[r.Index], r.Text));
        }
    }

    [Theory]
    [InlineData(599)]
    [InlineData(602)]
    public async Task Another_models_tokenizer_is_refused(int rows)
    {
        using var other = new TinyModel(c => c with { Llm = c.Llm with { VocabularySize = rows, PadTokenId = rows - 1 } });
        var error = await Assert.ThrowsAsync<CheckpointException>(() => SamModel.LoadAsync(other.Folder));
        Assert.Contains("600 pieces", error.Message, StringComparison.Ordinal);
        Assert.Contains($"{rows} rows", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Reading_instead_of_mapping_gives_the_same_text()
    {
        using var mapped = await SamModel.LoadAsync(_tiny.Folder);
        using var read = await SamModel.LoadAsync(_tiny.Folder, new SamModelOptions { UseMmap = false });
        using var oneThread = await SamModel.LoadAsync(_tiny.Folder, new SamModelOptions { Threads = 1 });
        var request = new DescribeRequest
        {
            Images = Pictures(9),
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 40 },
        };
        var expected = await mapped.DescribeToEndAsync(request);
        foreach (var model in (SamModel[])[read, oneThread])
        {
            var result = await model.DescribeToEndAsync(request);
            Assert.Equal(expected.Text, result.Text);
            Assert.Equal(expected.Texts[0].Score, result.Texts[0].Score);
        }
    }

    private static List<SamImage> Pictures(int seed) => [.. Enumerable.Range(0, 3).Select(i => TinyModel.Picture(10 * seed + i))];
}
