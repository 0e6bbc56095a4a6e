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
    public async Task Cancelling_ends_one_request_and_no_other()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var request = new DescribeRequest
        {
            Images = Pictures(3),
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 200, MinLength = 200, NumBeams = 4 },
        };
        using var cancel = new CancellationTokenSource();
        var other = model.DescribeToEndAsync(request);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var piece in model.DescribeAsync(request, cancel.Token))
            {
                await cancel.CancelAsync();
            }
        });
        using var before = new CancellationTokenSource();
        await before.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => model.DescribeToEndAsync(request, before.Token));
        Assert.NotEmpty((await other).Texts[0].TokenIds);
        // Leaving the loop early leaves nothing behind either: the memory is free for the next.
        await foreach (var piece in model.DescribeAsync(request))
        {
            break;
        }
        Assert.NotEmpty((await model.DescribeToEndAsync(request)).Texts[0].TokenIds);
    }

    [Fact]
    public async Task Disposing_ends_what_runs()
    {
        var model = await SamModel.LoadAsync(_tiny.Folder);
        var running = model.DescribeToEndAsync(new DescribeRequest
        {
            Images = Pictures(4),
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 240, MinLength = 240 },
        });
        model.Dispose();
        model.Dispose();
        try
        {
            await running;
        }
        catch (ObjectDisposedException)
        {
            // It was still running.
        }
        await Assert.ThrowsAsync<ObjectDisposedException>(() => model.RankAsync(new RankRequest
        {
            Images = Pictures(4),
            Prompt = Prompt,
            Candidates = ["a dog"],
        }));
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

    public static TheoryData<string, GenerationOptions> BadOptions => new()
    {
        { "NumBeams", new GenerationOptions { NumBeams = 0 } },
        { "NumBeams", new GenerationOptions { NumBeams = -1 } },
        { "NumBeams", new GenerationOptions { NumBeams = 1000 } },
        { "MaxLength", new GenerationOptions { MaxLength = 0 } },
        { "MaxLength", new GenerationOptions { MaxLength = int.MaxValue } },
        { "MinLength", new GenerationOptions { MinLength = -1 } },
        { "MinLength", new GenerationOptions { MinLength = 300 } },
        { "RepetitionPenalty", new GenerationOptions { RepetitionPenalty = 0 } },
        { "RepetitionPenalty", new GenerationOptions { RepetitionPenalty = float.NaN } },
        { "LengthPenalty", new GenerationOptions { LengthPenalty = float.PositiveInfinity } },
        { "Temperature", new GenerationOptions { Temperature = 0 } },
        { "Temperature", new GenerationOptions { Temperature = float.NaN } },
        { "TopK", new GenerationOptions { TopK = -1 } },
        { "TopP", new GenerationOptions { TopP = 0 } },
        { "TopP", new GenerationOptions { TopP = 1.01f } },
        { "NumReturnSequences", new GenerationOptions { NumReturnSequences = 6 } },
        { "StopStrings", new GenerationOptions { StopStrings = [""] } },
        { "SuppressTokens", new GenerationOptions { SuppressTokens = [601] } },
    };

    [Theory]
    [MemberData(nameof(BadOptions))]
    public async Task Bad_options_are_named_and_the_model_goes_on(string option, GenerationOptions options)
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var error = await Assert.ThrowsAsync<RequestException>(() => model.DescribeToEndAsync(
            new DescribeRequest { Images = Pictures(6), Prompt = Prompt, Options = options }));
        Assert.Equal(option, error.Option);
        Assert.NotEmpty((await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = Pictures(6),
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 4 },
        })).Texts[0].TokenIds);
    }

    [Fact]
    public async Task Bad_requests_are_named()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var good = new DescribeRequest { Images = Pictures(7), Prompt = Prompt };
        Assert.Equal("Images", (await Assert.ThrowsAsync<RequestException>(() =>
            model.DescribeToEndAsync(good with { Images = [] }))).Option);
        Assert.Equal("Prompt", (await Assert.ThrowsAsync<RequestException>(() =>
            model.DescribeToEndAsync(good with { Prompt = null! }))).Option);
        Assert.Equal("Images", (await Assert.ThrowsAsync<RequestException>(() =>
            model.DescribeToEndAsync(good with { Images = [.. Enumerable.Range(0, 70).Select(i => TinyModel.Picture(i))] }))).Option);
        Assert.Equal("Prompt", (await Assert.ThrowsAsync<RequestException>(() => model.DescribeToEndAsync(
            good with { Prompt = string.Concat(Enumerable.Repeat("a dog runs along the river ", 100)) }))).Option);
        var broken = await Assert.ThrowsAsync<ImageException>(() => model.DescribeToEndAsync(good with
        {
            Images = [TinyModel.Picture(0), SamImage.FromBytes(new byte[] { 1, 2, 3 }, "broken.png"), TinyModel.Picture(1)],
        }));
        Assert.Equal(1, broken.ImageIndex);
        Assert.Contains("broken.png", broken.Message, StringComparison.Ordinal);
        // [PAD] has a row in this model; a text of nothing but white space or with odd characters is fine.
        foreach (string prompt in (string[])["", " ", "[PAD]</s>", "\0", "\ud800", "🙂"])
        {
            Assert.NotEmpty((await model.DescribeToEndAsync(good with
            {
                Prompt = prompt,
                Options = new GenerationOptions { MaxLength = 3 },
            })).Texts[0].TokenIds);
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
    public async Task Damaged_weights_are_found_in_the_logits()
    {
        string file = Path.Combine(_tiny.Folder, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(file);
        // The last tensor of the file belongs to the last layers: its last value becomes NaN.
        BitConverter.GetBytes(float.NaN).CopyTo(bytes, bytes.Length - 4);
        File.WriteAllBytes(file, bytes);
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var error = await Assert.ThrowsAsync<NumericException>(() =>
            model.DescribeToEndAsync(new DescribeRequest { Images = Pictures(8), Prompt = Prompt }));
        Assert.Contains("NaN", error.Message, StringComparison.Ordinal);
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
