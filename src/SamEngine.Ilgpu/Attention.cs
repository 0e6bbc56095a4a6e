using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>What dense attention reads and writes. Probabilities [batch * heads, rows, keys] are written where the flag says
/// so; the scratch has a row of scores for every thread.</summary>
internal readonly struct AttentionArguments(DeviceView<float> q, DeviceView<float> k, DeviceView<float> v, DeviceView<float> y,
    int batch, int heads, float scale, DeviceView<float> probabilities, int hasProbabilities, ArrayView<float> scratch)
{
    public readonly DeviceView<float> Q = q;
    public readonly DeviceView<float> K = k;
    public readonly DeviceView<float> V = v;
    public readonly DeviceView<float> Y = y;
    public readonly int Batch = batch;
    public readonly int Heads = heads;
    public readonly float Scale = scale;
    public readonly DeviceView<float> Probabilities = probabilities;
    public readonly int HasProbabilities = hasProbabilities;
    public readonly ArrayView<float> Scratch = scratch;
}

/// <summary>y = softmax(scale q k^T) v per head, a thread per query row and head.</summary>
internal static class Attention
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(AttentionArguments a)
    {
        int width = a.Q.Columns / a.Heads;
        int keys = a.K.Rows;
        long items = (long)a.Batch * a.Heads * a.Q.Rows;
        for (long item = Worker.Index; item < items; item += Worker.Count)
        {
            int row = (int)(item % a.Q.Rows);
            int head = (int)(item / a.Q.Rows % a.Heads);
            int batch = (int)(item / a.Q.Rows / a.Heads);
            long q = a.Q.RowAt(batch * a.Q.Rows + row) + head * width;
            long k = a.K.RowAt(batch * keys) + head * width;
            long v = a.V.RowAt(batch * keys) + head * width;
            long y = a.Y.RowAt(batch * a.Q.Rows + row) + head * width;
            long p = (long)Worker.Index * keys;
            float largest = float.MinValue;
            for (int key = 0; key < keys; key++)
            {
                float score = a.Scale * Dot(a.Q.Data, q, a.K.Data, k + key * a.K.RowStride, width);
                a.Scratch[p + key] = score;
                largest = XMath.Max(largest, score);
            }
            float total = Exponentials(a.Scratch, p, keys, largest);
            for (int key = 0; key < keys; key++)
            {
                a.Scratch[p + key] /= total;
            }
            if (a.HasProbabilities != 0)
            {
                long to = a.Probabilities.RowAt((batch * a.Heads + head) * a.Q.Rows + row);
                for (int key = 0; key < keys; key++)
                {
                    a.Probabilities.Data[to + key] = a.Scratch[p + key];
                }
            }
            for (int i = 0; i < width; i += 4)
            {
                int i1 = XMath.Min(i + 1, width - 1);
                int i2 = XMath.Min(i + 2, width - 1);
                int i3 = XMath.Min(i + 3, width - 1);
                float y0 = 0, y1 = 0, y2 = 0, y3 = 0;
                for (int key = 0; key < keys; key++)
                {
                    float weight = a.Scratch[p + key];
                    long from = v + key * a.V.RowStride;
                    y0 += weight * a.V.Data[from + i];
                    y1 += weight * a.V.Data[from + i1];
                    y2 += weight * a.V.Data[from + i2];
                    y3 += weight * a.V.Data[from + i3];
                }
                // Past the end, the last column comes again with the same sum.
                a.Y.Data[y + i] = y0;
                a.Y.Data[y + i1] = y1;
                a.Y.Data[y + i2] = y2;
                a.Y.Data[y + i3] = y3;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Dot(ArrayView<float> a, long atA, ArrayView<float> b, long atB, int count)
    {
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        int i = 0;
        for (; i + 3 < count; i += 4)
        {
            s0 += a[atA + i] * b[atB + i];
            s1 += a[atA + i + 1] * b[atB + i + 1];
            s2 += a[atA + i + 2] * b[atB + i + 2];
            s3 += a[atA + i + 3] * b[atB + i + 3];
        }
        for (; i < count; i++)
        {
            s0 += a[atA + i] * b[atB + i];
        }
        return s0 + s1 + (s2 + s3);
    }

    /// <summary>Turns scores into exp(score - largest) in place and returns their sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Exponentials(ArrayView<float> scores, long at, int count, float largest)
    {
        float total = 0;
        for (int start = 0; start < count; start += 32)
        {
            int end = XMath.Min(start + 32, count);
            float part = 0;
            for (int i = start; i < end; i++)
            {
                float e = XMath.Exp(scores[at + i] - largest);
                scores[at + i] = e;
                part += e;
            }
            total += part;
        }
        return total;
    }
}
