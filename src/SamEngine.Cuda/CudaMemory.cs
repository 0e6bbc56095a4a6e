using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>Device memory from the driver's pool, aligned to 256 bytes.</summary>
internal sealed class DeviceMemory : CudaHandle
{
    private readonly CudaBackend _backend;

    /// <param name="backend">Where.</param>
    /// <param name="pointer">What the driver gave.</param>
    /// <param name="bytes">Its size.</param>
    public DeviceMemory(CudaBackend backend, nint pointer, long bytes)
        : base(backend.Context)
    {
        _backend = backend;
        ByteLength = bytes;
        SetHandle(pointer);
    }

    public long ByteLength { get; }

    protected override CudaStatus Release(nint value) => _backend.Free(value);
}

/// <summary>Zero-filled device memory.</summary>
internal sealed class CudaBuffer(CudaBackend backend, ElementType type, long length, string label)
    : DeviceBuffer(type, length, label)
{
    private readonly DeviceMemory _memory = backend.AllocateBytes(checked(length * type.ByteSize()), label, 0);

    public nint Pointer => _memory.Value;

    protected override void Dispose(bool disposing) => _memory.Dispose();
}

/// <summary>Keys and values of the backend's activation type, each [layers, blocks, block size, width].</summary>
internal sealed class CudaKvCache(CudaBackend backend, KvCacheShape shape) : KvCache(shape)
{
    private readonly DeviceMemory _memory = backend.AllocateBytes(
        checked(shape.Elements * 2 * backend.ActivationType.ByteSize()), "key/value cache", 0);

    public override long ByteLength => _memory.ByteLength;

    public DeviceKvCache Native => new()
    {
        Keys = _memory.Value,
        Values = _memory.Value + (nint)(_memory.ByteLength / 2),
        Layers = Shape.Layers,
        Heads = Shape.Heads,
        HeadDim = Shape.HeadDim,
        BlockSize = Shape.BlockSize,
        Blocks = Shape.Blocks,
    };

    protected override void Dispose(bool disposing) => _memory.Dispose();
}
