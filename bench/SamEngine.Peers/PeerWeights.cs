using SamEngine.Bench.MakeModel;
using static TorchSharp.torch;

namespace SamEngine.Peers;

/// <summary>Tensors of a model folder as libtorch's, in one type.</summary>
internal sealed class PeerWeights(SourceFolder source, ScalarType type) : IDisposable
{
    private readonly List<Tensor> _owned = [];

    /// <summary>Several tensors stacked along the rows; null stands for as many zeros as the one before has.</summary>
    public Tensor Stacked(params string?[] names)
    {
        using var scope = NewDisposeScope();
        var parts = new List<Tensor>();
        foreach (string? name in names)
        {
            parts.Add(name is null ? zeros_like(parts[^1]) : Read(name));
        }
        var stacked = (parts.Count == 1 ? parts[0] : cat(parts)).MoveToOuterDisposeScope().DetachFromDisposeScope();
        _owned.Add(stacked);
        return stacked;
    }

    public Tensor this[string name] => Stacked(name);

    public void Dispose() => _owned.ForEach(t => t.Dispose());

    private Tensor Read(string name)
    {
        var (shape, values) = source.Floats(name);
        using var wide = tensor(values, shape);
        return wide.to_type(type);
    }
}
