using SamEngine.Model;
using Xunit;

namespace SamEngine.Tests.Model;

public sealed class KvSequenceTests
{
    [Fact]
    public void A_sequence_that_finds_no_block_gives_back_what_it_has()
    {
        var pool = new KvBlockPool(blocks: 3, blockSize: 2);
        var other = new KvSequence(pool, 8);
        other.Append(out _, out _);
        var sequence = new KvSequence(pool, 8);
        for (int i = 0; i < 4; i++)
        {
            sequence.Append(out _, out _);
        }
        Assert.Throws<InvalidOperationException>(() => sequence.Append(out _, out _));
        Assert.Equal(4, sequence.Length);
        sequence.Clear();
        Assert.Equal(2, pool.FreeBlocks);
        other.Clear();
        Assert.Equal(3, pool.FreeBlocks);
    }

    [Fact]
    public void A_full_sequence_takes_no_more()
    {
        var pool = new KvBlockPool(blocks: 3, blockSize: 2);
        var sequence = new KvSequence(pool, 3);
        for (int i = 0; i < 4; i++)
        {
            sequence.Append(out _, out _);
        }
        Assert.Throws<InvalidOperationException>(() => sequence.Append(out _, out _));
        sequence.Clear();
        Assert.Equal(3, pool.FreeBlocks);
    }

    [Fact]
    public void The_first_to_write_into_a_shared_block_copies_it_and_the_last_owner_does_not()
    {
        var pool = new KvBlockPool(blocks: 4, blockSize: 4);
        var parent = new KvSequence(pool, 8);
        int slot = parent.Append(out _, out _);
        var child = new KvSequence(pool, 8);
        child.ShareFrom(parent);
        Assert.Equal(3, pool.FreeBlocks);
        int copied = parent.Append(out int from, out int to);
        Assert.Equal((slot / 4, to * 4 + 1), (from, copied));
        Assert.Equal(slot + 1, child.Append(out from, out to));
        Assert.Equal((-1, -1), (from, to));
        parent.Clear();
        child.Clear();
        Assert.Equal(4, pool.FreeBlocks);
    }
}
