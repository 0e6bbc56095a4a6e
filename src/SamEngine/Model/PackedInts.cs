using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>Small I32 inputs of a step that go to the device in one upload. Where each lies depends only on the sizes put before
/// it, so that steps of one shape use the same views. Allocates nothing after construction.</summary>
internal sealed class PackedInts(Backend backend, int capacity, string label) : IDisposable
{
    private readonly int[] _values = new int[capacity];
    private readonly DeviceBuffer _device = backend.Allocate(ElementType.I32, capacity, label);
    private int _used;

    public void Clear() => _used = 0;

    /// <summary>The first values of an array as [1, rows, columns]; on the device after <see cref="Upload"/>.</summary>
    public TensorView Put(int[] values, int rows, int columns)
    {
        var view = TensorView.Contiguous(_device, _used, 1, rows, columns);
        values.AsSpan(0, rows * columns).CopyTo(_values.AsSpan(_used));
        _used += rows * columns;
        return view;
    }

    public void Upload(ComputeQueue queue) => queue.Upload<int>(_values.AsSpan(0, _used), _device.View(1, _used));

    public void Dispose() => _device.Dispose();
}
