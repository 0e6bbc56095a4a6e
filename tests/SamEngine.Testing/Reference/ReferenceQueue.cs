using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Compute;

namespace SamEngine.Testing.Reference;

/// <summary>The operations, in double where sums are made.</summary>
internal sealed class ReferenceQueue(ElementType activationType) : ComputeQueue(activationType)
{
    public override void Synchronize()
    {
    }

    protected override void Dispose(bool disposing)
    {
    }

    protected override void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual)
    {
        float[] w = ((ReferenceWeight)weight).Values;
        float[] from = Floats(x);
        // Results go to a list of their own first: the residual may be y.
        float[] result = new float[y.Count];
        Parallel.For(0, y.TotalRows, row =>
        {
            var input = from.AsSpan((int)RowAt(x, row), weight.Columns);
            for (int n = 0; n < weight.Rows; n++)
            {
                var output = w.AsSpan(n * weight.Columns, weight.Columns);
                double sum = 0;
                for (int k = 0; k < output.Length; k++)
                {
                    sum += (double)input[k] * output[k];
                }
                if (!bias.IsEmpty)
                {
                    sum += Floats(bias)[bias.Offset + n];
                }
                if (activation == Activation.Gelu)
                {
                    sum = 0.5 * sum * (1 + Erf(sum / Math.Sqrt(2)));
                }
                if (!residual.IsEmpty)
                {
                    sum += Floats(residual)[RowAt(residual, row) + n];
                }
                result[(long)row * weight.Rows + n] = (float)sum;
            }
        });
        Write(y, (row, column) => result[(long)row * weight.Rows + column]);
    }

    protected override void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y)
    {
        var read = Rows(x);
        Write(y, row =>
        {
            double[] v = read(row);
            double scale = 1 / Math.Sqrt(v.Sum(a => a * a) / v.Length + eps);
            return column => v[column] * scale * Floats(gain)[gain.Offset + column];
        });
    }

    protected override void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y)
    {
        var read = Rows(x);
        Write(y, row =>
        {
            double[] v = read(row);
            double mean = v.Average();
            double scale = 1 / Math.Sqrt(v.Sum(a => (a - mean) * (a - mean)) / v.Length + eps);
            return column => (v[column] - mean) * scale * Floats(gain)[gain.Offset + column]
                + Floats(bias)[bias.Offset + column];
        });
    }

    protected override void EmbeddingCore(Weight table, TensorView ids, TensorView y)
    {
        float[] w = ((ReferenceWeight)table).Values;
        Write(y, (row, column) => w[(long)Ints(ids)[ids.Offset + row] * table.Columns + column]);
    }

    protected override void AddCore(TensorView x, TensorView addend, TensorView y) =>
        Write(y, (row, column) => (double)Floats(x)[RowAt(x, row) + column] + Floats(addend)[RowAt(addend, row) + column]);

    protected override void CopyCore(TensorView source, TensorView destination)
    {
        if (source.Type == ElementType.I32)
        {
            for (int row = 0; row < source.TotalRows; row++)
            {
                Ints(source).AsSpan((int)RowAt(source, row), source.Columns)
                    .CopyTo(Ints(destination).AsSpan((int)RowAt(destination, row)));
            }
            return;
        }
        Write(destination, (row, column) => Floats(source)[RowAt(source, row) + column]);
    }

    protected override void GatherRowsCore(TensorView x, TensorView indices, TensorView y) =>
        Write(y, (row, column) => Floats(x)[RowAt(x, Ints(indices)[indices.Offset + row]) + column]);

    protected override void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y)
    {
        int side = pixels.Columns;
        int across = side / patch;
        Write(y, (row, column) =>
        {
            int image = row / y.Rows;
            int place = row % y.Rows;
            int channel = column / (patch * patch);
            int line = channel * side + place / across * patch + column / patch % patch;
            return Floats(pixels)[pixels.Offset + image * pixels.BatchStride + line * pixels.RowStride
                + place % across * patch + column % patch];
        });
    }

    protected override void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities)
    {
        int d = q.Columns / heads;
        for (int b = 0; b < q.Batch; b++)
        {
            for (int h = 0; h < heads; h++)
            {
                for (int row = 0; row < q.Rows; row++)
                {
                    long at = RowAt(q, b * q.Rows + row) + h * d;
                    double[] p = Softmax(k.Rows, key => scale * Dot(Floats(q), at, Floats(k),
                        RowAt(k, b * k.Rows + key) + h * d, d));
                    if (!probabilities.IsEmpty)
                    {
                        long to = RowAt(probabilities, (b * heads + h) * q.Rows + row);
                        for (int key = 0; key < k.Rows; key++)
                        {
                            Floats(probabilities)[to + key] = (float)p[key];
                        }
                    }
                    for (int i = 0; i < d; i++)
                    {
                        double sum = 0;
                        for (int key = 0; key < k.Rows; key++)
                        {
                            sum += p[key] * Floats(v)[RowAt(v, b * v.Rows + key) + h * d + i];
                        }
                        Floats(y)[RowAt(y, b * y.Rows + row) + h * d + i] = (float)sum;
                    }
                }
            }
        }
    }

    protected override void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights)
    {
        for (int p = 0; p < features.Rows; p++)
        {
            double[] w = Softmax(features.Batch, j => Dot(Floats(features), RowAt(features, j * features.Rows + p),
                Floats(weight), weight.Offset, features.Columns) + Floats(bias)[bias.Offset]);
            for (int j = 0; j < features.Batch && !weights.IsEmpty; j++)
            {
                Floats(weights)[RowAt(weights, j) + p] = (float)w[j];
            }
            for (int i = 0; i < features.Columns; i++)
            {
                double sum = 0;
                for (int j = 0; j < features.Batch; j++)
                {
                    sum += w[j] * Floats(features)[RowAt(features, j * features.Rows + p) + i];
                }
                Floats(context)[RowAt(context, p) + i] = (float)sum;
            }
        }
    }

    protected override void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout)
    {
        var kv = (ReferenceKvCache)cache;
        int d = cache.Shape.HeadDim;
        int half = d / 2;
        float[] x = Floats(qkv);
        for (int row = 0; row < qkv.Rows; row++)
        {
            long start = RowAt(qkv, row);
            long table = RowAt(cosSin, Ints(layout.Positions)[layout.Positions.Offset + row]);
            int slot = kv.Slot(layer, Ints(layout.Slots)[layout.Slots.Offset + row]);
            kv.Written[slot] = true;
            for (int h = 0; h < heads + cache.Shape.Heads; h++)
            {
                for (int i = 0; i < half; i++)
                {
                    double cos = Floats(cosSin)[table + i];
                    double sin = Floats(cosSin)[table + half + i];
                    double low = x[start + h * d + i];
                    double high = x[start + h * d + half + i];
                    float newLow = (float)(low * cos - high * sin);
                    float newHigh = (float)(high * cos + low * sin);
                    if (h < heads)
                    {
                        x[start + h * d + i] = newLow;
                        x[start + h * d + half + i] = newHigh;
                    }
                    else
                    {
                        long to = (long)slot * cache.Shape.Width + (h - heads) * d + i;
                        kv.Keys[to] = newLow;
                        kv.Keys[to + half] = newHigh;
                    }
                }
            }
            Array.Copy(x, start + (heads + cache.Shape.Heads) * d, kv.Values, (long)slot * cache.Shape.Width,
                cache.Shape.Width);
        }
    }

    protected override void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y)
    {
        var kv = (ReferenceKvCache)cache;
        int d = cache.Shape.HeadDim;
        int[] starts = Ints(layout.RowStarts);
        for (int s = 0; s < layout.Sequences; s++)
        {
            for (int row = starts[layout.RowStarts.Offset + s]; row < starts[layout.RowStarts.Offset + s + 1]; row++)
            {
                int keys = Ints(layout.Positions)[layout.Positions.Offset + row] + 1;
                long[] places = [.. Enumerable.Range(0, keys).Select(key =>
                {
                    int block = Ints(layout.BlockTable)[RowAt(layout.BlockTable, s) + key / cache.Shape.BlockSize];
                    int slot = kv.Slot(layer, block * cache.Shape.BlockSize + key % cache.Shape.BlockSize);
                    return kv.Written[slot] ? (long)slot * cache.Shape.Width
                        : throw new InvalidOperationException($"layer {layer}: key {key} of sequence {s} was never written");
                })];
                for (int h = 0; h < heads; h++)
                {
                    int shift = h / (heads / cache.Shape.Heads) * d;
                    double[] p = Softmax(keys, key => scale * Dot(Floats(q), RowAt(q, row) + h * d, kv.Keys,
                        places[key] + shift, d));
                    for (int i = 0; i < d; i++)
                    {
                        double sum = 0;
                        for (int key = 0; key < keys; key++)
                        {
                            sum += p[key] * kv.Values[places[key] + shift + i];
                        }
                        Floats(y)[RowAt(y, row) + h * d + i] = (float)sum;
                    }
                }
            }
        }
    }

    protected override void CopyKvBlocksCore(KvCache cache, TensorView pairs)
    {
        var kv = (ReferenceKvCache)cache;
        int size = cache.Shape.BlockSize;
        for (int pair = 0; pair < pairs.Rows; pair++)
        {
            int from = Ints(pairs)[RowAt(pairs, pair)];
            int to = Ints(pairs)[RowAt(pairs, pair) + 1];
            for (int layer = 0; layer < cache.Shape.Layers && from >= 0 && to >= 0; layer++)
            {
                int source = kv.Slot(layer, from * size);
                int target = kv.Slot(layer, to * size);
                Array.Copy(kv.Written, source, kv.Written, target, size);
                Array.Copy(kv.Keys, (long)source * cache.Shape.Width, kv.Keys, (long)target * cache.Shape.Width,
                    (long)size * cache.Shape.Width);
                Array.Copy(kv.Values, (long)source * cache.Shape.Width, kv.Values, (long)target * cache.Shape.Width,
                    (long)size * cache.Shape.Width);
            }
        }
    }

    protected override void SwiGluCore(TensorView gateUp, TensorView y) => Write(y, (row, column) =>
    {
        double gate = Floats(gateUp)[RowAt(gateUp, row) + column];
        return gate / (1 + Math.Exp(-gate)) * Floats(gateUp)[RowAt(gateUp, row) + y.Columns + column];
    });

    protected override void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs) =>
        ReferenceSelection.Run(
            row => Floats(logits).AsSpan((int)RowAt(logits, row), logits.Columns),
            MemoryMarshal.Cast<int, SelectionGroup>(Ints(inputs.Groups).AsSpan((int)inputs.Groups.Offset,
                (int)inputs.Groups.Count)),
            Ints(inputs.LogitRows).AsSpan((int)inputs.LogitRows.Offset),
            Floats(inputs.RowScores).AsSpan((int)inputs.RowScores.Offset),
            row => Ints(inputs.PenaltyIds).AsSpan((int)RowAt(inputs.PenaltyIds, row), inputs.PenaltyIds.Columns),
            group => Ints(inputs.BannedIds).AsSpan((int)RowAt(inputs.BannedIds, group), inputs.BannedIds.Columns),
            outputs.Scores.Columns,
            Floats(outputs.Scores).AsSpan((int)outputs.Scores.Offset),
            Ints(outputs.Rows).AsSpan((int)outputs.Rows.Offset),
            Ints(outputs.Tokens).AsSpan((int)outputs.Tokens.Offset),
            Ints(outputs.NonFinite).AsSpan((int)outputs.NonFinite.Offset));

    protected override void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y)
    {
        for (int row = 0; row < logits.Rows; row++)
        {
            var values = Floats(logits).AsSpan((int)RowAt(logits, row), logits.Columns);
            Floats(y)[y.Offset + row] = (float)(values[Ints(targets)[targets.Offset + row]]
                - ReferenceSelection.LogSumExp(values));
        }
    }

    protected override void UploadCore(ReadOnlySpan<byte> values, TensorView destination)
    {
        if (destination.Type == ElementType.I32)
        {
            MemoryMarshal.Cast<byte, int>(values).CopyTo(Ints(destination).AsSpan((int)destination.Offset));
        }
        else
        {
            var to = Floats(destination).AsSpan((int)destination.Offset, values.Length / sizeof(float));
            MemoryMarshal.Cast<byte, float>(values).CopyTo(to);
            for (int i = 0; i < to.Length && destination.Type != ElementType.F32; i++)
            {
                to[i] = destination.Type == ElementType.F16 ? (float)(Half)to[i]
                    : BitConverter.UInt32BitsToSingle((uint)TensorData.ToBFloat16(to[i]) << 16);
            }
        }
    }

    protected override void ReadBackCore(TensorView source, Span<byte> values)
    {
        if (source.Type == ElementType.I32)
        {
            Ints(source).AsSpan((int)source.Offset, (int)source.Count).CopyTo(MemoryMarshal.Cast<byte, int>(values));
        }
        else
        {
            Floats(source).AsSpan((int)source.Offset, (int)source.Count).CopyTo(MemoryMarshal.Cast<byte, float>(values));
        }
    }

    /// <summary>erf by its series, or by the continued fraction of erfc; both to double precision.</summary>
    public static double Erf(double x)
    {
        double t = Math.Abs(x);
        double result;
        if (t < 2.5)
        {
            double term = t;
            double sum = t;
            for (int n = 1; Math.Abs(term) > 1e-17 * Math.Abs(sum) && n < 200; n++)
            {
                term *= -t * t / n;
                sum += term / (2 * n + 1);
            }
            result = 2 / Math.Sqrt(Math.PI) * sum;
        }
        else
        {
            double fraction = 0;
            for (int n = 60; n >= 1; n--)
            {
                fraction = n / 2.0 / (t + fraction);
            }
            result = 1 - Math.Exp(-t * t) / Math.Sqrt(Math.PI) / (t + fraction);
        }
        return x < 0 ? -result : result;
    }

    private static float[] Floats(TensorView view) => ((ReferenceBuffer)view.Buffer).Floats;

    private static int[] Ints(TensorView view) => ((ReferenceBuffer)view.Buffer).Ints;

    private static long RowAt(TensorView view, int row) =>
        view.Offset + row / view.Rows * view.BatchStride + row % view.Rows * view.RowStride;

    private static double Dot(float[] a, long atA, float[] b, long atB, int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += (double)a[atA + i] * b[atB + i];
        }
        return sum;
    }

    private static double[] Softmax(int count, Func<int, double> score)
    {
        double[] p = [.. Enumerable.Range(0, count).Select(score)];
        double largest = p.Max();
        double total = p.Sum(s => Math.Exp(s - largest));
        return [.. p.Select(s => Math.Exp(s - largest) / total)];
    }

    private static Func<int, double[]> Rows(TensorView view) => row =>
    {
        long start = RowAt(view, row);
        return [.. Enumerable.Range(0, view.Columns).Select(i => (double)Floats(view)[start + i])];
    };

    private static void Write(TensorView y, Func<int, int, double> value) =>
        Write(y, row => column => value(row, column));

    /// <summary>Writes all rows; a row's values are all computed before the first is written, so y may be an input.</summary>
    private static void Write(TensorView y, Func<int, Func<int, double>> rowOf)
    {
        for (int row = 0; row < y.TotalRows; row++)
        {
            var value = rowOf(row);
            float[] values = [.. Enumerable.Range(0, y.Columns).Select(column => (float)value(column))];
            values.CopyTo(Floats(y).AsSpan((int)RowAt(y, row)));
        }
    }
}
