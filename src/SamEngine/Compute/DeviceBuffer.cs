namespace SamEngine.Compute;

/// <summary>Memory of a backend. Opaque: model code makes views of it and passes them to a <see cref="ComputeQueue"/>;
/// only <see cref="ComputeQueue.Upload{T}"/> and <see cref="ComputeQueue.ReadBack{T}"/> see contents.</summary>
internal abstract class DeviceBuffer(ElementType type, long length, string label) : IDisposable
{
    public ElementType Type { get; } = type;

    /// <summary>Number of elements.</summary>
    public long Length { get; } = length;

    /// <summary>What it holds, for errors.</summary>
    public string Label { get; } = label;

    public long ByteLength => Length * Type.ByteSize();

    /// <summary>A view of <paramref name="rows"/> x <paramref name="columns"/> contiguous elements from the start.</summary>
    public TensorView View(int rows, int columns) => View(1, rows, columns);

    /// <summary>A contiguous [batch, rows, columns] view from the start.</summary>
    public TensorView View(int batch, int rows, int columns) =>
        TensorView.Contiguous(this, 0, batch, rows, columns);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>
/// A [batch, rows, columns] window on a buffer; columns are contiguous, rows and batches have strides in elements. A
/// stride of 0 repeats one row or one batch entry (inputs only). The bounds are checked when a view is made, so a view
/// never reaches outside its buffer.
/// </summary>
internal readonly record struct TensorView
{
    public DeviceBuffer Buffer { get; }

    /// <summary>Index of the first element.</summary>
    public long Offset { get; }

    public int Batch { get; }

    public int Rows { get; }

    public int Columns { get; }

    public long BatchStride { get; }

    public long RowStride { get; }

    public TensorView(DeviceBuffer buffer, long offset, int batch, int rows, int columns, long batchStride,
        long rowStride)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        if (batch < 1 || rows < 1 || columns < 1 || offset < 0 || batchStride < 0 || rowStride < 0
            || checked(offset + (batch - 1) * batchStride + (rows - 1) * rowStride + columns) > buffer.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(buffer),
                $"view [{batch}, {rows}, {columns}] at {offset} with strides {batchStride}, {rowStride} leaves buffer " +
                $"'{buffer.Label}' of {buffer.Length} elements");
        }
        Buffer = buffer;
        Offset = offset;
        Batch = batch;
        Rows = rows;
        Columns = columns;
        BatchStride = batchStride;
        RowStride = rowStride;
    }

    /// <summary>True for <c>default</c>: an optional argument that was not given.</summary>
    public bool IsEmpty => Buffer is null;

    public ElementType Type => Buffer.Type;

    /// <summary>Rows over all batch entries.</summary>
    public int TotalRows => checked(Batch * Rows);

    /// <summary>No gaps and no repeats: elements lie in order from <see cref="Offset"/>.</summary>
    public bool IsContiguous =>
        (Rows == 1 || RowStride == Columns) && (Batch == 1 || BatchStride == (long)Rows * Columns);

    /// <summary>Number of elements the view shows.</summary>
    public long Count => (long)Batch * Rows * Columns;

    public static TensorView Contiguous(DeviceBuffer buffer, long offset, int batch, int rows, int columns) =>
        new(buffer, offset, batch, rows, columns, (long)rows * columns, columns);

    /// <summary>Rows <paramref name="start"/>..+<paramref name="count"/> of every batch entry.</summary>
    public TensorView SliceRows(int start, int count)
    {
        CheckSlice(start, count, Rows);
        return new(Buffer, Offset + start * RowStride, Batch, count, Columns, BatchStride, RowStride);
    }

    /// <summary>Columns <paramref name="start"/>..+<paramref name="count"/> of every row.</summary>
    public TensorView SliceColumns(int start, int count)
    {
        CheckSlice(start, count, Columns);
        return new(Buffer, Offset + start, Batch, Rows, count, BatchStride, RowStride);
    }

    /// <summary>Batch entries <paramref name="start"/>..+<paramref name="count"/>.</summary>
    public TensorView SliceBatch(int start, int count)
    {
        CheckSlice(start, count, Batch);
        return new(Buffer, Offset + start * BatchStride, count, Rows, Columns, BatchStride, RowStride);
    }

    /// <summary>The single batch entry shown <paramref name="count"/> times (stride 0); for inputs.</summary>
    public TensorView RepeatBatch(int count) => Batch == 1
        ? new(Buffer, Offset, count, Rows, Columns, 0, RowStride)
        : throw new InvalidOperationException($"only a view of one batch entry can be repeated, this has {Batch}");

    /// <summary>The same elements as one batch entry of all rows; needs evenly spaced rows.</summary>
    public TensorView Flatten() => Batch == 1 ? this
        : BatchStride == Rows * RowStride ? new(Buffer, Offset, 1, TotalRows, Columns, 0, RowStride)
        : throw new InvalidOperationException("rows of this view are not evenly spaced");

    /// <summary>The same contiguous elements under another shape.</summary>
    public TensorView Reshape(int batch, int rows, int columns) =>
        IsContiguous && (long)batch * rows * columns == Count
            ? Contiguous(Buffer, Offset, batch, rows, columns)
            : throw new InvalidOperationException(
                $"can't show [{Batch}, {Rows}, {Columns}] as [{batch}, {rows}, {columns}]");

    public override string ToString() =>
        IsEmpty ? "(none)" : $"'{Buffer.Label}' {Type} [{Batch}, {Rows}, {Columns}]";

    private static void CheckSlice(int start, int count, int available)
    {
        if (start < 0 || count < 1 || start > available - count)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"slice {start}+{count} of {available}");
        }
    }
}
