using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// Gives a model its weights on a backend, by the names and shapes of the canonical checkpoint: matrices in a format of the
/// backend's, vectors and small tables as fp32. Everything loaded is released by <see cref="Dispose"/>.
/// </summary>
internal abstract class WeightLoader(SamConfig config, Backend backend) : IDisposable
{
    private readonly List<IDisposable> _loaded = [];

    public SamConfig Config => config;

    /// <summary>Bytes of all tensors taken so far.</summary>
    public long ByteLength { get; protected set; }

    protected Backend Backend => backend;

    /// <summary>Whether this tensor is there.</summary>
    public abstract bool Has(string name);

    /// <summary>A matrix [rows, columns]; the stored tensor may have more dimensions of the same extent (convolutions).</summary>
    public Weight Matrix(string name, int rows, params long[] columnShape) => Stack([(name, rows)], columnShape);

    /// <summary>Several matrices of equal width used as one, stacked along the rows in the order given.</summary>
    public abstract Weight Stack(IReadOnlyList<(string Name, int Rows)> parts, params long[] columnShape);

    /// <summary>A vector of fp32 values on the device.</summary>
    public TensorView Vector(string name, int length) => Upload(name, Values(name, length), 1, length);

    /// <summary>Vectors one after the other; a null name stands for zeros.</summary>
    public TensorView Vectors(IReadOnlyList<(string? Name, int Length)> parts)
    {
        float[] all = [.. parts.SelectMany(p => p.Name is null ? new float[p.Length] : Values(p.Name, p.Length))];
        return Upload(parts.First(p => p.Name is not null).Name!, all, 1, all.Length);
    }

    /// <summary>An fp32 table [1, rows, columns] on the device.</summary>
    public TensorView Table(string name, int rows, int columns, params long[] storedShape) =>
        Upload(name, Values(name, storedShape), rows, columns);

    /// <summary>A computed fp32 table.</summary>
    public TensorView Upload(string name, ReadOnlySpan<float> values, int rows, int columns)
    {
        var view = backend.LoadTable(name, values, rows, columns);
        Keep(view.Buffer);
        return view;
    }

    /// <summary>To be called when the model has taken all it wants.</summary>
    public virtual void Finish()
    {
    }

    public void Dispose()
    {
        for (int i = _loaded.Count - 1; i >= 0; i--)
        {
            _loaded[i].Dispose();
        }
        _loaded.Clear();
    }

    /// <summary>A tensor of this shape as fp32.</summary>
    protected abstract float[] Values(string name, params long[] shape);

    /// <summary>Releases it with the rest.</summary>
    protected void Keep(IDisposable loaded) => _loaded.Add(loaded);
}
