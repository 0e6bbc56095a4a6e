namespace SamEngine.Model;

/// <summary>
/// Which blocks of the key/value cache belong to whom: reference counts and free blocks. Sequences share blocks; a block
/// with several owners is copied before one of them writes to it. Host-side bookkeeping only; allocates nothing after
/// construction.
/// </summary>
internal sealed class KvBlockPool
{
    private readonly int[] _references;
    private readonly Stack<int> _free;

    public KvBlockPool(int blocks, int blockSize)
    {
        BlockSize = blockSize;
        _references = new int[blocks];
        _free = new Stack<int>(blocks);
        for (int i = blocks - 1; i >= 0; i--)
        {
            _free.Push(i);
        }
    }

    /// <summary>Tokens in a block.</summary>
    public int BlockSize { get; }

    /// <summary>Blocks nobody owns.</summary>
    public int FreeBlocks => _free.Count;

    /// <summary>Blocks in all.</summary>
    public int TotalBlocks => _references.Length;

    public int BlocksFor(int tokens) => (tokens + BlockSize - 1) / BlockSize;

    public int Take()
    {
        if (!_free.TryPop(out int block))
        {
            throw new InvalidOperationException("no free block: a request was admitted without room for it");
        }
        _references[block] = 1;
        return block;
    }

    public void Share(int block) => _references[block]++;

    public void Release(int block)
    {
        if (--_references[block] == 0)
        {
            _free.Push(block);
        }
    }

    public bool IsShared(int block) => _references[block] > 1;
}

/// <summary>One sequence of tokens in the cache: its blocks and its length.</summary>
internal sealed class KvSequence(KvBlockPool pool, int mostTokens)
{
    private readonly int[] _blocks = new int[pool.BlocksFor(mostTokens)];
    private int _count;

    /// <summary>Tokens stored.</summary>
    public int Length { get; private set; }

    /// <summary>Blocks in order of position.</summary>
    public ReadOnlySpan<int> Blocks => _blocks.AsSpan(0, _count);

    /// <summary>Makes room for one more token and returns its slot. When the last block is shared it is replaced by a copy:
    /// the pair to copy is returned too, else (-1, -1).</summary>
    public int Append(out int copyFrom, out int copyTo)
    {
        copyFrom = copyTo = -1;
        int place = Length % pool.BlockSize;
        if (place == 0)
        {
            if (_count == _blocks.Length)
            {
                throw new InvalidOperationException($"the sequence is full with {Length} tokens");
            }
            // Counted only once it is there: Clear gives back what is counted.
            _blocks[_count] = pool.Take();
            _count++;
        }
        else if (pool.IsShared(_blocks[_count - 1]))
        {
            copyFrom = _blocks[_count - 1];
            copyTo = pool.Take();
            pool.Release(copyFrom);
            _blocks[_count - 1] = copyTo;
        }
        Length++;
        return _blocks[_count - 1] * pool.BlockSize + place;
    }

    /// <summary>Becomes a sharer of everything <paramref name="parent"/> has; must be empty.</summary>
    public void ShareFrom(KvSequence parent)
    {
        parent.Blocks.CopyTo(_blocks);
        _count = parent._count;
        Length = parent.Length;
        foreach (int block in Blocks)
        {
            pool.Share(block);
        }
    }

    /// <summary>Gives all blocks back.</summary>
    public void Clear()
    {
        foreach (int block in Blocks)
        {
            pool.Release(block);
        }
        _count = 0;
        Length = 0;
    }
}
