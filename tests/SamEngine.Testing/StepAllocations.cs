using Xunit;

namespace SamEngine.Testing;

/// <summary>What the thread that computes had allocated on the managed heap after each step of a text.</summary>
internal sealed class StepAllocations
{
    /// <summary>Steps that may still grow a buffer to its size, or record themselves.</summary>
    public const int WarmUp = 6;

    private readonly (long Bytes, int Collections)[] _after = new (long, int)[256];

    /// <summary>Steps so far.</summary>
    public int Count { get; private set; }

    public void Restart() => Count = 0;

    /// <summary>Called by the thread that computes, after a step.</summary>
    public void Add() => _after[Count++] = (GC.GetAllocatedBytesForCurrentThread(), GC.CollectionCount(0));

    /// <summary>Bytes of every step that could be looked at: not the first ones, not the last, which makes the result, and none with a
    /// collection, which counts the rest of the thread's allocation area as allocated. Tests beside this one would cause many: run it
    /// alone.</summary>
    /// <param name="least">Steps that must have been looked at.</param>
    public IReadOnlyList<long> Costs(int least)
    {
        long[] costs = [.. Enumerable.Range(WarmUp, Math.Max(0, Count - 1 - WarmUp))
            .Where(i => _after[i].Collections == _after[i - 1].Collections).Select(i => _after[i].Bytes - _after[i - 1].Bytes)];
        Assert.True(costs.Length >= least, $"only {costs.Length} of {Count} steps could be looked at");
        return costs;
    }

    /// <summary>No step that could be looked at allocated.</summary>
    /// <param name="least">As above.</param>
    public void AssertNone(int least) => Assert.All(Costs(least), bytes => Assert.Equal(0, bytes));
}
