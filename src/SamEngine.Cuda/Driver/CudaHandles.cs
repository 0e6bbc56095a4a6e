using System.Runtime.InteropServices;

namespace SamEngine.Cuda.Driver;

/// <summary>A device's primary context, shared with everything else in the process that uses the device through it.</summary>
internal sealed unsafe class CudaContext : SafeHandle
{
    private readonly int _device;

    public CudaContext(int device)
        : base(0, ownsHandle: true)
    {
        _device = device;
        nint context;
        CudaErrors.Check(CudaDriver.cuDevicePrimaryCtxRetain(&context, device));
        SetHandle(context);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Makes it the calling thread's context: requests come from any thread, and other libraries set theirs.</summary>
    public CudaStatus Enter() => CudaDriver.cuCtxSetCurrent(handle);

    protected override bool ReleaseHandle() => CudaDriver.cuDevicePrimaryCtxRelease_v2(_device) == CudaStatus.Success;
}

/// <summary>Something that lives in a context and keeps it.</summary>
internal abstract class CudaHandle : SafeHandle
{
    private readonly CudaContext _context;

    protected CudaHandle(CudaContext context)
        : base(0, ownsHandle: true)
    {
        bool added = false;
        context.DangerousAddRef(ref added);
        _context = context;
    }

    // The destructor must run even for one that was never created: the context is to be released.
    public override bool IsInvalid => false;

    /// <summary>The driver's handle or pointer.</summary>
    public nint Value
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return handle;
        }
    }

    protected sealed override bool ReleaseHandle()
    {
        // After a fault the driver frees nothing any more, and says so: there is nobody to tell.
        bool released = handle == 0 || (_context.Enter() == CudaStatus.Success && Release(handle) == CudaStatus.Success);
        _context.DangerousRelease();
        return released;
    }

    protected abstract CudaStatus Release(nint value);
}

internal sealed unsafe class CudaStream : CudaHandle
{
    public CudaStream(CudaContext context)
        : base(context)
    {
        nint stream;
        CudaErrors.Check(CudaDriver.cuStreamCreate(&stream, CudaDriver.StreamNonBlocking));
        SetHandle(stream);
    }

    protected override CudaStatus Release(nint value) => CudaDriver.cuStreamDestroy_v2(value);
}

/// <summary>A mark in a stream that the host can wait for, or take the time of.</summary>
internal sealed unsafe class CudaEvent : CudaHandle
{
    public CudaEvent(CudaContext context, uint flags)
        : base(context)
    {
        nint created;
        CudaErrors.Check(CudaDriver.cuEventCreate(&created, flags));
        SetHandle(created);
    }

    protected override CudaStatus Release(nint value) => CudaDriver.cuEventDestroy_v2(value);
}

/// <summary>Host memory that the device reads and writes by itself.</summary>
internal sealed unsafe class PinnedMemory : CudaHandle
{
    public PinnedMemory(CudaContext context, int bytes)
        : base(context)
    {
        nint pointer;
        var status = CudaDriver.cuMemHostAlloc(&pointer, (nuint)bytes, 0);
        if (status == CudaStatus.OutOfMemory)
        {
            throw new BackendException(CudaErrors.Backend, $"cuMemHostAlloc failed: {bytes} bytes of host memory can't be pinned");
        }
        CudaErrors.Check(status, nameof(CudaDriver.cuMemHostAlloc));
        SetHandle(pointer);
    }

    public byte* Pointer => (byte*)Value;

    protected override CudaStatus Release(nint value) => CudaDriver.cuMemFreeHost(value);
}

/// <summary>Kernels loaded from a PTX or cubin image.</summary>
internal sealed unsafe class CudaModule : CudaHandle
{
    public CudaModule(CudaContext context, ReadOnlySpan<byte> image)
        : base(context)
    {
        nint module;
        fixed (byte* data = image)
        {
            CudaErrors.Check(CudaDriver.cuModuleLoadData(&module, data));
        }
        SetHandle(module);
    }

    /// <summary>A kernel by its name; 0 when the image has none of that name.</summary>
    public nint Find(string name)
    {
        nint function;
        byte* text = stackalloc byte[name.Length + 1];
        for (int i = 0; i < name.Length; i++)
        {
            text[i] = (byte)name[i];
        }
        text[name.Length] = 0;
        var status = CudaDriver.cuModuleGetFunction(&function, Value, text);
        if (status == CudaStatus.NotFound)
        {
            return 0;
        }
        CudaErrors.Check(status, nameof(CudaDriver.cuModuleGetFunction));
        return function;
    }

    protected override CudaStatus Release(nint value) => CudaDriver.cuModuleUnload(value);
}

/// <summary>A recorded step, ready to be launched.</summary>
internal sealed unsafe class CudaGraph : CudaHandle
{
    /// <summary>Takes over what a capture gave.</summary>
    public CudaGraph(CudaContext context, nint captured)
        : base(context)
    {
        nint executable;
        var status = CudaDriver.cuGraphInstantiateWithFlags(&executable, captured, 0);
        _ = CudaDriver.cuGraphDestroy(captured);
        CudaErrors.Check(status, nameof(CudaDriver.cuGraphInstantiateWithFlags));
        SetHandle(executable);
    }

    protected override CudaStatus Release(nint value) => CudaDriver.cuGraphExecDestroy(value);
}
