using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>The adaptive adjustment in three launches: logits, softmax over the images, weighted sum. The scratch holds
/// [images, positions].</summary>
internal static class GroupPool
{
    /// <summary>One thread per image and position: features · weight + bias.</summary>
    public static void Logit(Index1D row, DeviceView features, DeviceView weight, DeviceView bias, ArrayView<float> scratch)
    {
        long from = features.RowAt(row);
        float sum = 0;
        for (int start = 0; start < features.Columns; start += 32)
        {
            int end = IntrinsicMath.Min(start + 32, features.Columns);
            float part = 0;
            for (int i = start; i < end; i++)
            {
                part += features.Data[from + i] * weight.Data[weight.Offset + i];
            }
            sum += part;
        }
        scratch[row] = sum + bias.Data[bias.Offset];
    }

    /// <summary>One thread per position.</summary>
    public static void Softmax(Index1D position, ArrayView<float> scratch, int images, int positions)
    {
        float largest = scratch[position];
        for (int j = 1; j < images; j++)
        {
            largest = XMath.Max(largest, scratch[(long)j * positions + position]);
        }
        float total = 0;
        for (int j = 0; j < images; j++)
        {
            total += XMath.Exp(scratch[(long)j * positions + position] - largest);
        }
        for (int j = 0; j < images; j++)
        {
            long at = (long)j * positions + position;
            scratch[at] = XMath.Exp(scratch[at] - largest) / total;
        }
    }

    /// <summary>One thread per position and column.</summary>
    public static void Sum(Index1D index, DeviceView features, ArrayView<float> scratch, DeviceView context, int images)
    {
        int position = index / context.Columns;
        int column = index % context.Columns;
        float sum = 0;
        for (int j = 0; j < images; j++)
        {
            sum += scratch[(long)j * features.Rows + position] * features.Data[features.RowAt(j * features.Rows + position) + column];
        }
        context.Data[context.RowAt(position) + column] = sum;
    }

    /// <summary>The softmax to where the caller wants it, one thread per element.</summary>
    public static void Store(Index1D index, ArrayView<float> scratch, DeviceView weights) =>
        weights.Data[weights.RowAt(index / weights.Columns) + index % weights.Columns] = scratch[index];
}
