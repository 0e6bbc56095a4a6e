namespace SamEngine.Ilgpu;

/// <summary>y[i] = table[ids[i]], a thread per element.</summary>
internal static class Embedding
{
    public static void Gather<TFormat>(WeightView table, DeviceView<int> ids, DeviceView<float> y, long count)
        where TFormat : struct, IWeightFormat
    {
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            int id = ids.Data[ids.Offset + row];
            y.Data[y.RowAt(row) + column] = default(TFormat).Value(table, (long)id * table.RowStride + column)
                * default(TFormat).Scale(table, id, column);
        }
    }
}
