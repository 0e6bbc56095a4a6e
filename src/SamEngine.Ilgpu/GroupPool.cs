using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>The adaptive adjustment in two launches: logits, then softmax over the images and weighted sum. The scratch holds
/// the logits, [images, positions].</summary>
internal static class GroupPool
{
    /// <summary>features · weight + bias, a thread per image and position.</summary>
    public static void Logits(DeviceView<float> features, DeviceView<float> weight, DeviceView<float> bias, ArrayView<float> scratch,
        int rows)
    {
        for (int row = Worker.Index; row < rows; row += Worker.Count)
        {
            long from = features.RowAt(row);
            float sum = 0;
            for (int start = 0; start < features.Columns; start += 32)
            {
                int end = XMath.Min(start + 32, features.Columns);
                float part = 0;
                for (int i = start; i < end; i++)
                {
                    part += features.Data[from + i] * weight.Data[weight.Offset + i];
                }
                sum += part;
            }
            scratch[row] = sum + bias.Data[bias.Offset];
        }
    }

    /// <summary>Softmax and weighted sum, a thread per position and column; the threads of column 0 store the weights
    /// [1, images, positions] where the flag says so.</summary>
    public static void Pool(DeviceView<float> features, ArrayView<float> scratch, DeviceView<float> context, DeviceView<float> weights,
        int hasWeights, int images)
    {
        int positions = features.Rows;
        for (long item = Worker.Index; item < (long)positions * context.Columns; item += Worker.Count)
        {
            int position = (int)(item / context.Columns);
            int column = (int)(item % context.Columns);
            float largest = scratch[position];
            for (int j = 1; j < images; j++)
            {
                largest = XMath.Max(largest, scratch[(long)j * positions + position]);
            }
            float total = 0;
            float sum = 0;
            for (int j = 0; j < images; j++)
            {
                float e = XMath.Exp(scratch[(long)j * positions + position] - largest);
                total += e;
                sum += e * features.Data[features.RowAt(j * positions + position) + column];
            }
            context.Data[context.RowAt(position) + column] = sum / total;
            for (int j = 0; j < images && column == 0 && hasWeights != 0; j++)
            {
                weights.Data[weights.RowAt(j) + position] = XMath.Exp(scratch[(long)j * positions + position] - largest) / total;
            }
        }
    }
}
