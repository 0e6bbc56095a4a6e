using System.Collections.Concurrent;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

/// <summary>Cancellation at every stage, disposal in every order, many requests at once.</summary>
public sealed class LifetimeTests : IDisposable
{
    private const string Prompt = "What do these pictures have in common?";

    /// <summary>With a context for texts that a test is always in the middle of.</summary>
    private readonly TinyModel _tiny = new(c => c with { Llm = c.Llm with { MaxPositions = 4096 } });

    /// <summary>Runs for thousands of steps, many seconds on <see cref="LoadSlow"/>'s model.</summary>
    private static DescribeRequest Endless { get; } = new()
    {
        Images = Pictures(3),
        Prompt = Prompt,
        Options = new GenerationOptions { MaxLength = 4000, MinLength = 4000, NumBeams = 1 },
    };

    private static DescribeRequest Short { get; } = new()
    {
        Images = Pictures(2),
        Prompt = Prompt,
        Options = new GenerationOptions { MaxLength = 12, NumBeams = 3 },
    };

    public void Dispose() => _tiny.Dispose();

    private async Task<SamModel> LoadSlow(int cacheTokens = 0, Action<string>? onStage = null)
    {
        var model = await SamModel.LoadAsync(_tiny.Folder, new SamModelOptions { KvCacheTokens = cacheTokens });
        model.Engine.Trace = (name, _) =>
        {
            onStage?.Invoke(name);
            if (name == "llm_logits")
            {
                Thread.Sleep(3);
            }
        };
        return model;
    }

    [Theory]
    [InlineData("vit.block.0", "ln_vision")]
    [InlineData("qformer.layer.0.stream1", "llm_proj")]
    [InlineData("llm.hidden.0", "llm_logits")]
    public async Task Cancelled_before_the_first_token_stops_at_the_next_layer(string stage, string later)
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var expected = await model.DescribeToEndAsync(Short);
        using var cancel = new CancellationTokenSource();
        var seen = new ConcurrentQueue<string>();
        model.Engine.Trace = (name, _) =>
        {
            seen.Enqueue(name);
            if (name == stage)
            {
                cancel.Cancel();
            }
        };
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            model.DescribeToEndAsync(Short, cancel.Token));
        Assert.Equal(cancel.Token, error.CancellationToken);
        await AssertServes(model, expected);
        // What came after belongs to the request after it.
        string[] own = [.. seen.TakeWhile((name, i) => i == 0 || name != seen.First())];
        Assert.Contains(stage, own);
        Assert.DoesNotContain(later, own);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Cancelled_between_tokens_ends_one_request_and_no_other(int beams)
    {
        using var model = await LoadSlow(cacheTokens: 1 << 16);
        var expected = await model.DescribeToEndAsync(Short);
        var endless = Endless with { Options = Endless.Options! with { NumBeams = beams } };
        using var cancel = new CancellationTokenSource();
        var other = model.DescribeToEndAsync(Short);
        int pieces = 0;
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var piece in model.DescribeAsync(endless, cancel.Token))
            {
                Assert.Null(piece.Result);
                if (++pieces == 2)
                {
                    await cancel.CancelAsync();
                }
            }
        });
        Assert.Equal(cancel.Token, error.CancellationToken);
        Assert.Equal(expected.Text, (await other).Text);
        await AssertServes(model, expected);
    }

    [Fact]
    public async Task Cancelled_before_the_start_or_while_waiting_nothing_is_computed()
    {
        // Room for one long request, and for nothing beside it: pictures are ready in any order.
        int prompts = 0;
        using var model = await LoadSlow(cacheTokens: 4096, name => prompts += name == "vit.embed" ? 1 : 0);
        var expected = await model.DescribeToEndAsync(Short);
        using var before = new CancellationTokenSource();
        await before.CancelAsync();
        Assert.Equal(before.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            model.DescribeToEndAsync(Short, before.Token))).CancellationToken);
        var rank = new RankRequest { Images = Pictures(1), Prompt = Prompt, Candidates = ["a dog", "a boat"] };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => model.RankAsync(rank, before.Token));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => model.WarmUpAsync(before.Token));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => SamModel.LoadAsync(_tiny.Folder, null, null, before.Token));

        using var running = new CancellationTokenSource();
        using var waiting = new CancellationTokenSource();
        await using var first = model.DescribeAsync(Endless, running.Token).GetAsyncEnumerator();
        Assert.True(await first.MoveNextAsync());
        prompts = 0;
        var second = model.DescribeToEndAsync(Endless, waiting.Token);
        var behind = model.RankAsync(rank, waiting.Token);
        await waiting.CancelAsync();
        Assert.Equal(waiting.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second)).CancellationToken);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => behind);
        Assert.True(await first.MoveNextAsync());
        await running.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            while (await first.MoveNextAsync())
            {
            }
        });
        await AssertServes(model, expected);
        // Only the last request's pictures were looked at.
        Assert.Equal(1, prompts);
    }

    [Fact]
    public async Task Cancelled_after_the_end_nothing_happens()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        using var cancel = new CancellationTokenSource();
        var result = await model.DescribeToEndAsync(Short, cancel.Token);
        await cancel.CancelAsync();
        await AssertServes(model, result);
    }

    [Fact]
    public async Task Leaving_the_loop_ends_the_work()
    {
        using var model = await LoadSlow();
        var expected = await model.DescribeToEndAsync(Short);
        await foreach (var piece in model.DescribeAsync(Endless))
        {
            break;
        }
        await AssertServes(model, expected);
        // Nor does asking without ever reading start anything.
        _ = model.DescribeAsync(Endless);
        await AssertServes(model, expected);
    }

    [Fact]
    public async Task The_model_may_be_disposed_inside_its_own_stream()
    {
        var model = await LoadSlow();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () =>
        {
            await foreach (var piece in model.DescribeAsync(Endless))
            {
                await model.DisposeAsync();
            }
        });
        await AssertDisposed(model);
    }

    [Fact]
    public async Task A_stream_may_outlive_its_model_or_end_before_it()
    {
        var model = await LoadSlow(cacheTokens: 1 << 16);
        var streams = Enumerable.Range(0, 3).Select(_ => model.DescribeAsync(Endless).GetAsyncEnumerator()).ToList();
        foreach (var stream in streams)
        {
            Assert.True(await stream.MoveNextAsync());
        }
        await streams[0].DisposeAsync();
        var waiting = streams[1].MoveNextAsync();
        model.Dispose();
        await streams[2].DisposeAsync();
        await streams[2].DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () =>
        {
            while (await waiting)
            {
                waiting = streams[1].MoveNextAsync();
            }
        });
        await streams[1].DisposeAsync();
        await AssertDisposed(model);
    }

    [Fact]
    public async Task Disposing_from_many_threads_ends_running_and_waiting_requests()
    {
        var model = await LoadSlow(cacheTokens: 4500);
        var requests = Enumerable.Range(0, 6).Select(i => model.DescribeToEndAsync(Endless)).ToList();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(model.Dispose)));
        foreach (var request in requests)
        {
            await Assert.ThrowsAsync<ObjectDisposedException>(() => request);
        }
        await AssertDisposed(model);
    }

    [Fact]
    public async Task Streams_read_in_turn_give_what_they_give_alone()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var requests = Enumerable.Range(0, 6).Select(i => Short with
        {
            Images = Pictures(1 + i % 3),
            Options = new GenerationOptions
            {
                MaxLength = 40,
                NumBeams = 1 + i % 3,
                DoSample = i > 2,
                Seed = 7,
                StopStrings = i % 2 == 0 ? null : ["e"],
            },
        }).ToList();
        var alone = new List<string>();
        foreach (var request in requests)
        {
            alone.Add((await model.DescribeToEndAsync(request)).Text);
        }
        var streams = requests.Select(r => model.DescribeAsync(r).GetAsyncEnumerator()).ToList();
        string[] texts = [.. requests.Select(_ => "")];
        var open = Enumerable.Range(0, streams.Count).ToList();
        while (open.Count > 0)
        {
            foreach (int i in open.ToList())
            {
                if (await streams[i].MoveNextAsync())
                {
                    texts[i] += streams[i].Current.Text;
                }
                else
                {
                    await streams[i].DisposeAsync();
                    open.Remove(i);
                }
            }
        }
        Assert.Equal(alone, texts);
    }

    [Fact]
    public async Task A_reader_that_stops_reading_holds_nobody_up()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var expected = await model.DescribeToEndAsync(Short);
        var request = Short with { Options = new GenerationOptions { NumBeams = 1, MaxLength = 300, MinLength = 300 } };
        var result = await model.DescribeToEndAsync(request);
        await using var slow = model.DescribeAsync(request).GetAsyncEnumerator();
        Assert.True(await slow.MoveNextAsync());
        // The engine ends it all the same.
        await AssertServes(model, expected);
        string text = slow.Current.Text;
        while (await slow.MoveNextAsync())
        {
            text += slow.Current.Text;
        }
        Assert.Equal(result.Text, text);
    }

    [Fact]
    public async Task A_thousand_small_requests_at_once_are_all_served()
    {
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        var kinds = Enumerable.Range(0, 8).Select(i => Short with
        {
            Images = [TinyModel.Picture(i, 8, 8)],
            Options = new GenerationOptions { MaxLength = 5, NumBeams = 1 + i % 4, DoSample = i >= 4, Seed = 1 },
        }).ToList();
        var expected = new List<DescribeResult>();
        foreach (var kind in kinds)
        {
            expected.Add(await model.DescribeToEndAsync(kind));
        }
        using var cancel = new CancellationTokenSource();
        var broken = SamImage.FromBytes(new byte[] { 1 });
        var requests = Enumerable.Range(0, 1000).Select(i => model.DescribeToEndAsync(i % 50 == 7
            ? kinds[0] with { Images = [broken] } : kinds[i % kinds.Count], i % 50 == 9 ? cancel.Token : default)).ToList();
        await cancel.CancelAsync();
        for (int i = 0; i < requests.Count; i++)
        {
            if (i % 50 == 7)
            {
                await Assert.ThrowsAsync<ImageException>(() => requests[i]);
            }
            else if (i % 50 == 9)
            {
                // Some end before they are cancelled.
                await Record.ExceptionAsync(() => requests[i]);
                Assert.True(requests[i].IsCanceled || requests[i].IsCompletedSuccessfully);
            }
            else
            {
                var result = await requests[i];
                Assert.Equal(expected[i % kinds.Count].Texts[0].TokenIds, result.Texts[0].TokenIds);
                Assert.Equal(expected[i % kinds.Count].Texts[0].Score, result.Texts[0].Score);
            }
        }
        await AssertServes(model, await model.DescribeToEndAsync(Short));
    }

    [Fact]
    public async Task Requests_wait_while_the_cache_is_full()
    {
        // Prompt and beams of one request take most of it.
        using var model = await SamModel.LoadAsync(_tiny.Folder, new SamModelOptions { KvCacheTokens = 16 * 14 });
        var expected = await model.DescribeToEndAsync(Short);
        int most = 0;
        model.Engine.Trace = (_, _) => most = Math.Max(most, model.Engine.UsedBlocks);
        var together = await Task.WhenAll(Enumerable.Range(0, 12).Select(_ => model.DescribeToEndAsync(Short)));
        Assert.All(together, r => Assert.Equal(expected.Text, r.Text));
        Assert.InRange(most, 1, 14);
        var error = await Assert.ThrowsAsync<RequestException>(() => model.DescribeToEndAsync(Short with
        {
            Options = Short.Options! with { MaxLength = 100 },
        }));
        Assert.Equal("KvCacheTokens", error.Option);
        Assert.Contains("loaded with 224", error.Message, StringComparison.Ordinal);
        await AssertServes(model, expected);
    }

    private static async Task AssertDisposed(SamModel model)
    {
        model.Dispose();
        await model.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => model.DescribeToEndAsync(Short));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => model.WarmUpAsync());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => model.RankAsync(new RankRequest
        {
            Images = Pictures(1),
            Prompt = Prompt,
            Candidates = ["a dog"],
        }));
    }

    private static async Task AssertServes(SamModel model, DescribeResult expected)
    {
        var result = await model.DescribeToEndAsync(Short);
        Assert.Equal(expected.Texts[0].TokenIds, result.Texts[0].TokenIds);
        Assert.Equal(expected.Texts[0].Score, result.Texts[0].Score);
        // Whatever ended has given its memory back.
        Assert.True(SpinWait.SpinUntil(() => model.Engine.UsedBlocks == 0, 5000), $"{model.Engine.UsedBlocks} blocks are kept");
    }

    private static List<SamImage> Pictures(int count) => [.. Enumerable.Range(0, count).Select(i => TinyModel.Picture(i))];
}
