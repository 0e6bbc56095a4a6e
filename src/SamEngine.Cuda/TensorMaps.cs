using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>
/// Maps by which linear_wgmma.cu copies boxes of a matrix, made once for each place and shape: a step that repeats makes
/// none.
/// </summary>
internal sealed unsafe class TensorMaps(CudaBackend backend)
{
    /// <summary>Columns and rows of the kernel's boxes; 64 columns are the 128 bytes of the swizzle.</summary>
    private const int BoxColumns = 64;
    private const int BoxRows = 128;

    /// <summary>Far more than the matrices of a model; requests of ever new lengths start anew.</summary>
    private const int MostMaps = 4096;

    private const int MapAlignment = 64;
    private const int Swizzle128Bytes = 3;
    private const int Promote256Bytes = 3;

    private readonly Dictionary<Key, TensorMap> _maps = [];

    /// <summary>How many are kept; for tests.</summary>
    public int Count => _maps.Count;

    /// <summary>The map of a matrix of 16-bit elements of the backend's activation type.</summary>
    /// <param name="data">A multiple of 16.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="columns">Its columns; what a box has beyond them, or beyond the rows, is zero.</param>
    /// <param name="rowStride">Elements from row to row, a multiple of 8.</param>
    public TensorMap For(nint data, int rows, int columns, long rowStride)
    {
        var key = new Key(data, rows, columns, rowStride);
        if (!_maps.TryGetValue(key, out var map))
        {
            if (_maps.Count >= MostMaps)
            {
                _maps.Clear();
            }
            map = Encode(key);
            _maps.Add(key, map);
        }
        return map;
    }

    private TensorMap Encode(in Key key)
    {
        byte* place = stackalloc byte[sizeof(TensorMap) + MapAlignment];
        var map = (TensorMap*)(((nint)place + MapAlignment - 1) / MapAlignment * MapAlignment);
        ulong* sizes = stackalloc ulong[] { (ulong)key.Columns, (ulong)key.Rows };
        ulong stride = (ulong)key.RowStride * sizeof(ushort);
        uint* box = stackalloc uint[] { BoxColumns, BoxRows };
        uint* elementStrides = stackalloc uint[] { 1, 1 };
        var type = backend.ActivationType == ElementType.BF16 ? CudaTensorMapType.BFloat16 : CudaTensorMapType.Float16;
        backend.Check(CudaDriver.cuTensorMapEncodeTiled(map, type, 2, key.Data, sizes, &stride, box, elementStrides, 0,
            Swizzle128Bytes, Promote256Bytes, 0));
        return *map;
    }

    private readonly record struct Key(nint Data, int Rows, int Columns, long RowStride);
}
