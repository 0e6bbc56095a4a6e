using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

/// <summary>Requests that can't be served, and odd ones that can: each error names what is wrong, and the model goes on.</summary>
public sealed class RequestTests(RequestTests.Loaded loaded) : IClassFixture<RequestTests.Loaded>
{
    private const string Prompt = "What do these pictures have in common?";

    private static readonly float[] NotFinite = [float.NaN, float.PositiveInfinity, float.NegativeInfinity];

    private SamModel Model => loaded.Model;

    private static DescribeRequest Good { get; } = new()
    {
        Images = Pictures(3),
        Prompt = Prompt,
        Options = new GenerationOptions { MaxLength = 4 },
    };

    public static TheoryData<string, GenerationOptions> BadOptions
    {
        get
        {
            var bad = new TheoryData<string, GenerationOptions>();
            void Ints(string name, Func<int, GenerationOptions> options, params int[] values)
            {
                foreach (int value in values)
                {
                    bad.Add(name, options(value));
                }
            }
            void Floats(string name, Func<float, GenerationOptions> options, params float[] values)
            {
                foreach (float value in (float[])[.. values, .. NotFinite])
                {
                    bad.Add(name, options(value));
                }
            }
            Ints("NumBeams", v => new() { NumBeams = v }, 0, -1, 65, 1000, int.MinValue, int.MaxValue);
            Ints("MaxLength", v => new() { MaxLength = v }, 0, 1, -1, int.MinValue, int.MaxValue);
            Ints("MinLength", v => new() { MinLength = v }, -1, 257, int.MinValue, int.MaxValue);
            Ints("TopK", v => new() { TopK = v }, -1, int.MinValue);
            Ints("NumReturnSequences", v => new() { NumReturnSequences = v }, 0, -1, 6, int.MinValue, int.MaxValue);
            Ints("SuppressTokens", v => new() { SuppressTokens = [5, v] }, -1, 601, int.MinValue, int.MaxValue);
            Floats("RepetitionPenalty", v => new() { RepetitionPenalty = v }, 0, -1, float.Epsilon, 1001, float.MaxValue);
            Floats("LengthPenalty", v => new() { LengthPenalty = v }, 101, -101, float.MaxValue, float.MinValue);
            Floats("Temperature", v => new() { Temperature = v }, 0, -1, float.Epsilon, 1001, float.MaxValue);
            Floats("TopP", v => new() { TopP = v }, 0, -0.1f, 1.01f, float.MaxValue);
            bad.Add("NumReturnSequences", new() { NumBeams = 1, NumReturnSequences = 2 });
            bad.Add("SuppressTokens", new() { SuppressTokens = [.. Enumerable.Range(0, 100)] });
            bad.Add("StopStrings", new() { StopStrings = [""] });
            bad.Add("StopStrings", new() { StopStrings = ["an end", null!] });
            return bad;
        }
    }

    [Theory]
    [MemberData(nameof(BadOptions))]
    public async Task Bad_options_are_named(string option, GenerationOptions options)
    {
        var error = await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(Good with { Options = options }));
        Assert.Equal(option, error.Option);
        Assert.StartsWith(option + ": ", error.Message, StringComparison.Ordinal);
        await AssertServes();
    }

    public static TheoryData<GenerationOptions> ExtremeOptions => new((IEnumerable<GenerationOptions>)
    [
        new() { Seed = 0, DoSample = true, MaxLength = 6 },
        new() { Seed = ulong.MaxValue, DoSample = true, MaxLength = 6 },
        new() { MaxLength = 2 },
        new() { MaxLength = 2, NumBeams = 1 },
        new() { MaxLength = 6, NumBeams = 1, DoSample = true, Temperature = 1e-3f },
        new() { MaxLength = 6, DoSample = true, Temperature = 1000 },
        new() { MaxLength = 6, DoSample = true, TopK = int.MaxValue },
        new() { MaxLength = 6, DoSample = true, TopK = 1, TopP = float.Epsilon },
        new() { MaxLength = 6, DoSample = true, NumBeams = 1, TopK = 1, TopP = float.Epsilon },
        new() { MaxLength = 6, RepetitionPenalty = 1000 },
        new() { MaxLength = 6, RepetitionPenalty = 1e-3f },
        new() { MaxLength = 6, RepetitionPenalty = 1000, NumBeams = 1 },
        new() { MaxLength = 6, RepetitionPenalty = 1e-3f, NumBeams = 1, DoSample = true },
        new() { MaxLength = 20, LengthPenalty = 100 },
        new() { MaxLength = 20, LengthPenalty = -100 },
        new() { MaxLength = 6, MinLength = 6 },
        new() { MaxLength = 4, SuppressTokens = [.. Enumerable.Range(0, 60)] },
        new() { MaxLength = 4, StopStrings = [new string('x', 10_000), "\0", "\ud800"] },
        new() { MaxLength = 4, SuppressTokens = [2, 2, 2], MinLength = 4 },
    ]);

    [Theory]
    [MemberData(nameof(ExtremeOptions))]
    public async Task Extreme_options_are_served(GenerationOptions options)
    {
        var result = await Model.DescribeToEndAsync(Good with { Options = options });
        var again = await Model.DescribeToEndAsync(Good with { Options = options });
        Assert.All(result.Texts, t => Assert.True(double.IsFinite(t.Score), $"score {t.Score}"));
        Assert.InRange(result.Usage.OutputTokens, 1, options.MaxLength!.Value - 1);
        Assert.Equal(options.DoSample == true ? options.Seed ?? result.Seed : null, result.Seed);
        if (options.Seed is not null || options.DoSample is not true)
        {
            Assert.Equal(result.Texts[0].TokenIds, again.Texts[0].TokenIds);
        }
    }

    [Fact]
    public async Task More_tokens_than_the_context_holds_end_with_the_context()
    {
        foreach (int beams in (int[])[1, 2])
        {
            var result = await Model.DescribeToEndAsync(Good with
            {
                Options = new GenerationOptions { NumBeams = beams, MaxLength = 1 << 20, MinLength = 1 << 20 },
            });
            Assert.Equal(FinishReason.Length, result.Texts[0].FinishReason);
            // The last token is not fed.
            Assert.Equal(Model.Info.Config.Llm.MaxPositions + 1, result.Usage.InputTokens + result.Usage.OutputTokens);
        }
    }

    [Fact]
    public async Task Scores_of_beam_sampling_that_overflow_are_an_error()
    {
        var error = await Assert.ThrowsAsync<NumericException>(() => Model.DescribeToEndAsync(Good with
        {
            Options = new GenerationOptions { NumBeams = 4, DoSample = true, Temperature = 1e-3f, MaxLength = 60, MinLength = 60 },
        }));
        Assert.Contains("Temperature", error.Message, StringComparison.Ordinal);
        await AssertServes();
    }

    [Fact]
    public async Task Beams_that_the_cache_can_never_hold_are_refused()
    {
        var request = Good with { Options = new GenerationOptions { NumBeams = 64, MaxLength = 4 } };
        var error = await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(request));
        Assert.Equal("KvCacheTokens", error.Option);
        using var large = await SamModel.LoadAsync(loaded.Tiny.Folder, new SamModelOptions { KvCacheTokens = 4096 });
        Assert.NotEmpty((await large.DescribeToEndAsync(request)).Texts[0].TokenIds);
    }

    [Fact]
    public async Task Groups_that_are_empty_too_large_or_hold_nothing_are_refused()
    {
        async Task<string> Error(IReadOnlyList<SamImage> images)
        {
            var describe = await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(Good with { Images = images }));
            var rank = await Assert.ThrowsAsync<RequestException>(() => Model.RankAsync(new RankRequest
            {
                Images = images,
                Prompt = Prompt,
                Candidates = ["a dog"],
            }));
            Assert.Equal("Images", describe.Option);
            Assert.Equal(describe.Message, rank.Message);
            return describe.Message;
        }
        Assert.Contains("empty", await Error([]), StringComparison.Ordinal);
        Assert.Contains("empty", await Error(null!), StringComparison.Ordinal);
        Assert.Contains("picture 1 is null", await Error([.. Pictures(1), null!]), StringComparison.Ordinal);
        Assert.Contains("70 pictures", await Error(Pictures(70)), StringComparison.Ordinal);
        Assert.Contains("2147483647 pictures", await Error(new Endless()), StringComparison.Ordinal);
        await Assert.ThrowsAsync<ArgumentNullException>(() => Model.DescribeToEndAsync(null!));
        await Assert.ThrowsAsync<ArgumentNullException>(() => Model.RankAsync(null!));
        await AssertServes();
    }

    [Fact]
    public async Task Choices_that_do_not_exist_are_refused()
    {
        var guidance = await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(Good with { Guidance = (Guidance)77 }));
        Assert.Equal("Guidance: is 77, expected Auto, On, Off", guidance.Message);
        var mode = await Assert.ThrowsAsync<RequestException>(() => Model.RankAsync(new RankRequest
        {
            Images = Good.Images,
            Prompt = Prompt,
            Candidates = ["a dog"],
            Mode = (RankingMode)7,
        }));
        Assert.Equal("Mode", mode.Option);
        var backend = await Assert.ThrowsAsync<RequestException>(() =>
            SamModel.LoadAsync(loaded.Tiny.Folder, new SamModelOptions { Backend = (BackendChoice)9 }));
        Assert.Equal("Backend", backend.Option);
        await AssertServes();
    }

    [Fact]
    public async Task A_broken_picture_is_named_by_its_place()
    {
        var broken = SamImage.FromBytes(new byte[] { 1, 2, 3 }, "broken.png");
        var good = Pictures(2);
        foreach (var (images, index) in (IEnumerable<(SamImage[], int)>)[([broken], 0), ([good[0], broken, good[1]], 1),
            ([.. good, broken], 2), ([good[0], broken, broken, "/nowhere/at all.png"], 1)])
        {
            var error = await Assert.ThrowsAsync<ImageException>(() => Model.DescribeToEndAsync(Good with { Images = images }));
            Assert.Equal(index, error.ImageIndex);
            Assert.Equal("broken.png", error.ImageName);
            Assert.Contains($"image {index} (broken.png)", error.Message, StringComparison.Ordinal);
        }
        var missing = await Assert.ThrowsAsync<ImageException>(() => Model.RankAsync(new RankRequest
        {
            Images = [good[0], "/nowhere/at all.png"],
            Prompt = Prompt,
            Candidates = ["a dog"],
        }));
        Assert.Equal(1, missing.ImageIndex);
        await AssertServes();
    }

    [Fact]
    public async Task The_same_picture_may_come_twice()
    {
        var picture = TinyModel.Picture(4);
        var copy = TinyModel.Picture(4);
        var twice = await Model.DescribeToEndAsync(Good with { Images = [picture, picture] });
        var equal = await Model.DescribeToEndAsync(Good with { Images = [picture, copy] });
        Assert.Equal(2 * 4, twice.Usage.VisualTokens);
        Assert.Equal(equal.Texts[0].TokenIds, twice.Texts[0].TokenIds);
        Assert.Equal(equal.Texts[0].Score, twice.Texts[0].Score);
    }

    [Fact]
    public async Task A_list_that_changes_while_the_request_runs_does_no_harm()
    {
        var images = Pictures(3);
        var expected = await Model.DescribeToEndAsync(Good with { Images = [.. images] });
        var running = Model.DescribeToEndAsync(Good with { Images = images });
        images.Clear();
        Assert.Equal(expected.Texts[0].TokenIds, (await running).Texts[0].TokenIds);
    }

    [Fact]
    public async Task Prompts_over_the_context_are_refused_and_odd_ones_served()
    {
        string endless = string.Concat(Enumerable.Repeat("a dog runs along the river ", 100));
        var error = await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(Good with { Prompt = endless }));
        Assert.Equal("Prompt", error.Option);
        Assert.Contains("context is 256", error.Message, StringComparison.Ordinal);
        Assert.Equal("Prompt", (await Assert.ThrowsAsync<RequestException>(() => Model.DescribeToEndAsync(
            Good with { Prompt = null! }))).Option);
        // [PAD] has a row in this model.
        foreach (string prompt in (string[])["", " ", "[PAD]</s>", "\0", "\ud800", "🙂"])
        {
            Assert.NotEmpty((await Model.DescribeToEndAsync(Good with { Prompt = prompt })).Texts[0].TokenIds);
        }
    }

    [Fact]
    public async Task Candidates_that_can_not_be_scored_are_refused()
    {
        var rank = new RankRequest { Images = Pictures(2), Prompt = Prompt, Candidates = ["a dog"] };
        string endless = string.Concat(Enumerable.Repeat("a dog runs along the river ", 100));
        foreach (var (option, request) in (IEnumerable<(string, RankRequest)>)[
            ("Candidates", rank with { Candidates = [] }), ("Candidates", rank with { Candidates = null! }),
            ("Candidates", rank with { Candidates = ["a dog", ""] }), ("Candidates", rank with { Candidates = ["a dog", null!] }),
            ("Candidates", rank with { Candidates = ["a dog", endless] }), ("Prompt", rank with { Prompt = endless }),
            ("Prompt", rank with { Prompt = null! })])
        {
            Assert.Equal(option, (await Assert.ThrowsAsync<RequestException>(() => Model.RankAsync(request))).Option);
        }
        Assert.Single(await Model.RankAsync(rank));
    }

    [Fact]
    public async Task Options_of_loading_that_make_no_sense_are_named()
    {
        foreach (var (option, options) in (IEnumerable<(string, SamModelOptions)>)[
            ("KvCacheTokens", new() { KvCacheTokens = -1 }), ("KvCacheTokens", new() { KvCacheTokens = int.MaxValue }),
            ("Threads", new() { Threads = -1 }), ("Threads", new() { Threads = int.MaxValue }),
            ("ImageLimits.MaxPixels", new() { ImageLimits = new() { MaxPixels = 0 } }),
            ("ImageLimits.MaxSide", new() { ImageLimits = new() { MaxSide = -1 } })])
        {
            Assert.Equal(option, (await Assert.ThrowsAsync<RequestException>(() =>
                SamModel.LoadAsync(loaded.Tiny.Folder, options))).Option);
        }
    }

    private async Task AssertServes()
    {
        Assert.Equal(loaded.Expected.Texts[0].TokenIds, (await Model.DescribeToEndAsync(Good)).Texts[0].TokenIds);
        Assert.True(SpinWait.SpinUntil(() => Model.Engine.UsedBlocks == 0, 5000), $"{Model.Engine.UsedBlocks} blocks are kept");
    }

    private static List<SamImage> Pictures(int count) => [.. Enumerable.Range(0, count).Select(i => TinyModel.Picture(i))];

    /// <summary>One model for all tests.</summary>
    public sealed class Loaded : IAsyncLifetime
    {
        internal TinyModel Tiny { get; } = new();

        public SamModel Model { get; private set; } = null!;

        public DescribeResult Expected { get; private set; } = null!;

        public async ValueTask InitializeAsync()
        {
            Model = await SamModel.LoadAsync(Tiny.Folder);
            Expected = await Model.DescribeToEndAsync(Good);
        }

        public ValueTask DisposeAsync()
        {
            Model.Dispose();
            Tiny.Dispose();
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>Claims more pictures than can be.</summary>
    private sealed class Endless : IReadOnlyList<SamImage>
    {
        public int Count => int.MaxValue;

        public SamImage this[int index] => TinyModel.Picture(index);

        public IEnumerator<SamImage> GetEnumerator() => throw new InvalidOperationException("too many to look at");

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
