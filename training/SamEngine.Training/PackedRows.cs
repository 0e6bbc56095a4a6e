using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>
/// Sequences of different lengths without padding, as rows of one matrix: first what every sequence begins with, sequence by
/// sequence, then the rest of them. Only attention needs them side by side, those of about equal length together.
/// </summary>
internal sealed class PackedRows
{
    private readonly List<(Tensor Rows, int Count, Tensor? Absent)> _pads = [];
    private readonly Tensor _packed;

    /// <param name="prefixes">Rows that each sequence begins with.</param>
    /// <param name="lengths">How many follow them.</param>
    public PackedRows(IReadOnlyList<int> prefixes, IReadOnlyList<int> lengths)
    {
        int sequences = lengths.Count;
        Prefixes = prefixes.Sum();
        Starts = new long[sequences];
        long[] firsts = new long[sequences];
        long start = Prefixes;
        long first = 0;
        for (int i = 0; i < sequences; i++)
        {
            (Starts[i], firsts[i]) = (start, first);
            start += lengths[i];
            first += prefixes[i];
        }
        int LengthOf(int i) => prefixes[i] + lengths[i];
        long[] packed = new long[start];
        long[] positions = new long[start];
        int[] order = [.. Enumerable.Range(0, sequences).OrderBy(LengthOf)];
        int done = 0;
        long place = 0;
        while (done < sequences)
        {
            int[] together = [.. order.Skip(done).TakeWhile(i => LengthOf(i) <= 2 * LengthOf(order[done]))];
            done += together.Length;
            int longest = LengthOf(together[^1]);
            long[] rows = new long[together.Length * longest];
            bool[] absent = new bool[rows.Length];
            for (int j = 0; j < together.Length; j++)
            {
                int i = together[j];
                for (int k = 0; k < longest; k++)
                {
                    int at = j * longest + k;
                    if (k >= LengthOf(i))
                    {
                        absent[at] = true;
                        continue;
                    }
                    rows[at] = k < prefixes[i] ? firsts[i] + k : Starts[i] + k - prefixes[i];
                    (packed[rows[at]], positions[rows[at]]) = (place + at, k);
                }
            }
            _pads.Add((tensor(rows), together.Length, absent.Contains(true) ? zeros(together.Length, 1, 1, longest).masked_fill(
                tensor(absent).reshape(together.Length, 1, 1, longest), float.NegativeInfinity) : null));
            place += rows.Length;
        }
        _packed = tensor(packed);
        Positions = tensor(positions);
    }

    /// <summary>Rows of all prefixes together, which are the first.</summary>
    public int Prefixes { get; }

    /// <summary>Row of each sequence's first after the prefix.</summary>
    public long[] Starts { get; }

    /// <summary>Place of every row in its sequence.</summary>
    public Tensor Positions { get; }

    /// <summary>Attention within each sequence.</summary>
    /// <param name="rows">[rows, width].</param>
    /// <param name="attend">Of sequences padded to one length, [sequences, length, width], and of what hides the padding,
    /// [sequences, 1, 1, length], added to the scores, or null where there is none: [sequences, length, width of the result].</param>
    /// <returns>[rows, width of the result].</returns>
    public Tensor Attend(Tensor rows, Func<Tensor, Tensor?, Tensor> attend)
    {
        Tensor[] parts = [.. _pads.Select(pad =>
            attend(rows.index_select(0, pad.Rows).reshape(pad.Count, -1, rows.shape[1]), pad.Absent).flatten(0, 1))];
        return (parts.Length == 1 ? parts[0] : cat(parts, 0)).index_select(0, _packed);
    }
}
