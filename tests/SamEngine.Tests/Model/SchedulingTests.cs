using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>What the engine's thread runs when, and that every way a request ends gives its place back.</summary>
public sealed class SchedulingTests : IDisposable
{
    private const int Beams = GenerationSettings.MostBeams;

    private readonly TinyModel _tiny = new();
    private readonly SamCheckpoint _checkpoint;
    private readonly CpuBackend _backend = new();
    private readonly SamWeights _weights;

    public SchedulingTests()
    {
        _checkpoint = SamCheckpoint.Open(_tiny.Folder);
        _weights = SamWeights.Load(_checkpoint, _backend);
    }

    public void Dispose()
    {
        _weights.Dispose();
        _backend.Dispose();
        _checkpoint.Dispose();
        _tiny.Dispose();
    }

    [Fact]
    public async Task A_running_text_goes_on_while_requests_come_in()
    {
        using var engine = new InferenceEngine(_weights, _backend, cacheTokens: 0);
        var events = new List<string>();
        engine.Trace = (name, _) =>
        {
            if (name == "vit.embed")
            {
                events.Add("request");
            }
        };
        var ranking = Enumerable.Range(0, 4).Select(_ => new RankingWork(Input(), [[5], [6, 7]], default)).ToList();
        var text = Text(beams: 1, length: 12, onStep: search =>
        {
            events.Add("step");
            if (search.Steps == 1)
            {
                ranking.ForEach(engine.Submit);
            }
        });
        engine.Submit(text);
        await text.Completion;
        await Task.WhenAll(ranking.Select(r => r.Completion));
        Assert.Equal(["request", "step", "step", "request", "step", "request", "step", "request", "step", "request", "step"],
            events.Take(11));
    }

    public static TheoryData<string> Ends =>
        ["text", "text of one token", "ranking", "first step fails", "later step fails", "prefill fails", "decode fails", "cancelled in prefill", "cancelled later"];

    [Theory]
    [MemberData(nameof(Ends))]
    public async Task Whatever_ends_leaves_room_for_two_full_requests_side_by_side(string end)
    {
        // Prompt and text take a block each; a row may need two more: room for exactly two requests with all beams.
        using var engine = new InferenceEngine(_weights, _backend, cacheTokens: 16 * 2 * (1 + Beams * 3));
        for (int i = 0; i < 3; i++)
        {
            await End(engine, end);
            Assert.Equal(0, engine.UsedBlocks);
        }
        int most = 0;
        engine.Trace = (name, view) => most = name == "llm_logits" ? Math.Max(most, view.Rows) : most;
        var second = Text(Beams, 10);
        var first = Text(Beams, 10, onStep: search =>
        {
            if (search.Steps == 1)
            {
                engine.Submit(second);
            }
        });
        engine.Submit(first);
        await Task.WhenAll(first.Completion, second.Completion);
        Assert.Equal(2 * Beams, most);
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 1)]
    public async Task No_more_run_side_by_side_than_there_is_room_for(int scarce, int together)
    {
        // Either the rows of a step are scarce or the blocks.
        int room = scarce == 0 ? 4 : 1;
        using var engine = new InferenceEngine(_weights, _backend, cacheTokens: 16 * room * (1 + Beams * 3));
        int most = 0;
        int blocks = 0;
        engine.Trace = (name, view) =>
        {
            most = name == "llm_logits" ? Math.Max(most, view.Rows) : most;
            blocks = Math.Max(blocks, engine.UsedBlocks);
        };
        var waiting = Enumerable.Range(0, 3).Select(_ => Text(Beams, 10)).ToList();
        var first = Text(Beams, 10, onStep: search =>
        {
            if (search.Steps == 1)
            {
                waiting.ForEach(engine.Submit);
            }
        });
        engine.Submit(first);
        await Task.WhenAll(waiting.Select(w => w.Completion).Append(first.Completion));
        Assert.Equal(together * Beams, most);
        Assert.InRange(blocks, 1, together * (1 + Beams * 3));
    }

    private static async Task End(InferenceEngine engine, string end)
    {
        using var cancel = new CancellationTokenSource();
        int steps = 0;
        engine.Trace = (name, _) =>
        {
            if (name == "llm.hidden.1" && (end == "prefill fails" || (end == "decode fails" && steps > 2)))
            {
                throw new InvalidOperationException(end);
            }
            if (name == "llm.hidden.0" && end == "cancelled in prefill")
            {
                cancel.Cancel();
            }
        };
        EngineWork work = end == "ranking" ? new RankingWork(Input(), [[5], [6, 7, 8]], cancel.Token)
            : Text(Beams, end == "text of one token" ? 2 : 10, _ =>
            {
                steps++;
                if ((end == "first step fails" && steps == 1) || (end == "later step fails" && steps == 4))
                {
                    throw new InvalidOperationException(end);
                }
                if (end == "cancelled later" && steps == 4)
                {
                    cancel.Cancel();
                }
            }, cancel.Token);
        engine.Submit(work);
        var error = await Record.ExceptionAsync(() => work.Completion);
        if (end is "text" or "text of one token" or "ranking")
        {
            Assert.Null(error);
        }
        else if (end.StartsWith("cancelled", StringComparison.Ordinal))
        {
            Assert.IsAssignableFrom<OperationCanceledException>(error);
        }
        else
        {
            Assert.Equal(end, Assert.IsType<InvalidOperationException>(error).Message);
        }
    }

    private static EngineInput Input() => new(2, new float[2 * 3 * 56 * 56], [2, 5, 3], [1, 7, 8], true);

    private static GenerationWork Text(int beams, int length, Action<TokenSearch>? onStep = null,
        CancellationToken cancellation = default)
    {
        var llm = TinyModel.Config.Llm;
        var settings = GenerationSettings.Create(
            new GenerationOptions { NumBeams = beams, MaxLength = length, MinLength = length },
            llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        return new GenerationWork(Input(), settings, TokenSearch.Create(settings), onStep, cancellation);
    }
}
