using System.Diagnostics;
using SamEngine.Compute;
using SamEngine.Decoding;

namespace SamEngine.Model;

/// <summary>What a request brings to the engine: pictures and texts as numbers, checked against the model.</summary>
/// <param name="Images">Number of pictures.</param>
/// <param name="Pixels">[images, 3, side, side], normalised.</param>
/// <param name="TextIds">The instruction for the Q-Former, [CLS] and [SEP] included.</param>
/// <param name="PromptIds">The prompt for the language model, start id first.</param>
/// <param name="Guided">Whether the images guide each other.</param>
internal sealed record EngineInput(int Images, float[] Pixels, int[] TextIds, int[] PromptIds, bool Guided);

/// <summary>Times and counts of a request.</summary>
internal sealed class EngineTimings
{
    public TimeSpan Queued { get; set; }

    public TimeSpan Vision { get; set; }

    public TimeSpan QFormer { get; set; }

    public TimeSpan Prefill { get; set; }

    public TimeSpan Decode { get; set; }

    /// <summary>Layer runs of the Q-Former, both streams.</summary>
    public int QFormerLayerRuns { get; set; }

    /// <summary>Decode steps of the language model.</summary>
    public int Steps { get; set; }
}

/// <summary>A request on its way through the engine.</summary>
internal abstract class EngineWork(EngineInput input, CancellationToken cancellation)
{
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public EngineInput Input { get; } = input;

    public CancellationToken Cancellation { get; } = cancellation;

    public EngineTimings Timings { get; } = new();

    /// <summary>Sees the intermediate results of this request's prompt, on the engine's thread; may read them back.</summary>
    public Action<ComputeQueue, string, TensorView>? Observer { get; init; }

    /// <summary>Guided: how much of the group's visual context each image made, the mean over all positions.</summary>
    public double[]? ImageWeights { get; set; }

    public long Submitted { get; } = Stopwatch.GetTimestamp();

    /// <summary>Ends when the engine is through with the request: done, failed or cancelled.</summary>
    public Task Completion => _done.Task;

    /// <summary>Rows it feeds to the language model in a decode step.</summary>
    public abstract int DecodeRows { get; }

    /// <summary>Most tokens it appends to the prompt, in each row.</summary>
    public abstract int MostNewTokens { get; }

    public void Complete() => _done.TrySetResult();

    public virtual void Fail(Exception error)
    {
        if (error is OperationCanceledException)
        {
            _done.TrySetCanceled(Cancellation);
        }
        else
        {
            _done.TrySetException(error);
        }
    }
}

/// <summary>Generates a text. <paramref name="onStep"/> is called on the engine's thread after every step.</summary>
internal sealed class GenerationWork(EngineInput input, GenerationSettings settings, TokenSearch search,
    Action<TokenSearch>? onStep, CancellationToken cancellation)
    : EngineWork(input, cancellation)
{
    public TokenSearch Search { get; } = search;

    public Action<TokenSearch>? OnStep { get; } = onStep;

    /// <summary>Live rows of the search in the cache.</summary>
    public KvSequence[] Rows { get; set; } = [];

    /// <summary>The rows of the coming step, filled while <see cref="Rows"/> are read.</summary>
    public KvSequence[] NextRows { get; set; } = [];

    public int RowCount { get; set; }

    public override int DecodeRows => Search.MaxRows;

    public override int MostNewTokens => settings.MaxLength - 1;
}

/// <summary>Scores candidate texts after the prompt.</summary>
internal sealed class RankingWork(EngineInput input, IReadOnlyList<int[]> candidates, CancellationToken cancellation)
    : EngineWork(input, cancellation)
{
    /// <summary>Ids of each candidate, without a start id.</summary>
    public IReadOnlyList<int[]> Candidates { get; } = candidates;

    /// <summary>Log-probability of every id of every candidate.</summary>
    public float[][] LogProbs { get; set; } = [];

    public override int DecodeRows => 1;

    public override int MostNewTokens => Candidates.Max(c => c.Length);
}
