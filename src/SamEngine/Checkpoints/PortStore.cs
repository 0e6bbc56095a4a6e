using System.Diagnostics.CodeAnalysis;

namespace SamEngine.Checkpoints;

/// <summary>
/// The Hugging Face port of InstructBLIP under canonical names. Rows of the language model's vocabulary beyond those
/// of its tokenizer (an image token and padding that later versions added) are not shown: no text has them.
/// </summary>
internal sealed class PortStore : TensorStore
{
    /// <summary>The stored name, and which third of it, -1 for all.</summary>
    private readonly SortedDictionary<string, (string Stored, int Third)> _names = new(StringComparer.Ordinal);

    private readonly TensorStore _inner;
    private readonly int _mostRows;

    private PortStore(TensorStore inner, int mostRows)
        : base(inner.Path)
    {
        _inner = inner;
        _mostRows = mostRows;
        foreach (string stored in inner.Names)
        {
            string name = PortNames.ToCanonical(stored);
            if (name.EndsWith(PortNames.QkvBias, StringComparison.Ordinal))
            {
                string block = name[..^PortNames.QkvBias.Length];
                Add(block + PortNames.QBias, stored, 0);
                Add(block + PortNames.VBias, stored, 2);
            }
            else
            {
                Add(name, stored, -1);
            }
        }
    }

    public override IReadOnlyCollection<string> Names => _names.Keys;

    /// <summary>The store itself unless its names are the port's. Takes over <paramref name="inner"/>.</summary>
    /// <exception cref="CheckpointException">Two stored names mean the same tensor.</exception>
    public static TensorStore Wrap(TensorStore inner, int mostRows = int.MaxValue)
    {
        try
        {
            return PortNames.ArePort(inner.Names) ? new PortStore(inner, mostRows) : inner;
        }
        catch
        {
            inner.Dispose();
            throw;
        }
    }

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor)
    {
        tensor = null;
        if (!_names.TryGetValue(name, out var home) || !_inner.TryGet(home.Stored, out tensor))
        {
            return false;
        }
        if (home.Third >= 0)
        {
            tensor = Third(tensor, home.Third);
        }
        else if (name is SamCheckpoint.EmbeddingName or SamCheckpoint.HeadName && tensor.Shape.Count == 2
            && tensor.Shape[0] > _mostRows)
        {
            tensor = tensor.FirstRows(_mostRows);
        }
        return true;
    }

    public override string FileOf(string name) => _names.TryGetValue(name, out var home) ? _inner.FileOf(home.Stored) : Path;

    public override void Verify(string name) => _inner.Verify(_names[name].Stored);

    public override void Release(string name) => _inner.Release(_names[name].Stored);

    protected override void Dispose(bool disposing) => _inner.Dispose();

    private TensorData Third(TensorData bias, int index)
    {
        if (bias.Shape.Count != 1 || bias.Count % 3 != 0 || bias.Count > int.MaxValue)
        {
            throw new CheckpointException(_inner.FileOf(bias.Name), $"tensor '{bias.Name}' is " +
                $"[{string.Join(", ", bias.Shape)}], expected [3 * width]: the biases of queries, keys and values");
        }
        int width = (int)bias.Count / 3;
        if (bias.Part(width, width).ToFloats().Any(v => v != 0))
        {
            throw new CheckpointException(_inner.FileOf(bias.Name), $"tensor '{bias.Name}' has a bias for keys; " +
                "expected zeros there, as InstructBLIP's vision encoder has none");
        }
        return bias.Part((long)index * width, width);
    }

    private void Add(string name, string stored, int third)
    {
        if (!_names.TryAdd(name, (stored, third)))
        {
            throw new CheckpointException(_inner.FileOf(stored),
                $"tensor '{stored}' is the same as '{_names[name].Stored}' ({name}); expected one of them");
        }
    }
}
