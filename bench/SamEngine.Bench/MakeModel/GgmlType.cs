using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace SamEngine.Bench.MakeModel;

/// <summary>How ggml stores a row of values.</summary>
/// <param name="Name">As in file names of llama.cpp's users.</param>
/// <param name="Id"><c>ggml_type</c>.</param>
/// <param name="FileType"><c>llama_ftype</c> of a model whose matrices are all of this type.</param>
/// <param name="BlockValues">Values in a block.</param>
/// <param name="BlockBytes">Bytes of a block.</param>
internal sealed record GgmlType(string Name, uint Id, uint FileType, int BlockValues, int BlockBytes)
{
    public static GgmlType F32 { get; } = new("f32", 0, 0, 1, 4);

    public static GgmlType F16 { get; } = new("f16", 1, 1, 1, 2);

    /// <summary>32 values: fp16 scale, then 16 bytes with value i in the low and i + 16 in the high half, plus 8.</summary>
    public static GgmlType Q4_0 { get; } = new("q4_0", 2, 2, 32, 18);

    /// <summary>32 values: fp16 scale, then signed bytes.</summary>
    public static GgmlType Q8_0 { get; } = new("q8_0", 8, 7, 32, 34);

    public static IReadOnlyList<GgmlType> All { get; } = [Q4_0, Q8_0, F16, F32];

    public long ByteLength(long values) => values / BlockValues * BlockBytes;

    /// <summary>Rounds as ggml's reference does (<c>quantize_row_q4_0_ref</c>, <c>quantize_row_q8_0_ref</c>).</summary>
    /// <param name="values">Whole blocks.</param>
    /// <param name="destination">As many bytes as they take.</param>
    public void Encode(ReadOnlySpan<float> values, Span<byte> destination)
    {
        if (values.Length % BlockValues != 0 || destination.Length != ByteLength(values.Length))
        {
            throw new ArgumentException($"{values.Length} values as {Name} into {destination.Length} bytes");
        }
        if (this == F32)
        {
            MemoryMarshal.AsBytes(values).CopyTo(destination);
        }
        else if (this == F16)
        {
            TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(destination));
        }
        else
        {
            for (int i = 0; i < values.Length / BlockValues; i++)
            {
                var block = values.Slice(i * BlockValues, BlockValues);
                var target = destination.Slice(i * BlockBytes, BlockBytes);
                if (this == Q4_0)
                {
                    EncodeQ4(block, target);
                }
                else
                {
                    EncodeQ8(block, target);
                }
            }
        }
    }

    private static void EncodeQ4(ReadOnlySpan<float> values, Span<byte> block)
    {
        // The value of largest magnitude becomes -8 exactly.
        float largest = TensorPrimitives.MaxMagnitude(values);
        float scale = largest / -8;
        float inverse = scale != 0 ? 1 / scale : 0;
        BitConverter.TryWriteBytes(block, (Half)scale);
        for (int i = 0; i < 16; i++)
        {
            int low = Math.Min(15, (int)(values[i] * inverse + 8.5f));
            int high = Math.Min(15, (int)(values[i + 16] * inverse + 8.5f));
            block[2 + i] = (byte)(low | high << 4);
        }
    }

    private static void EncodeQ8(ReadOnlySpan<float> values, Span<byte> block)
    {
        float scale = MathF.Abs(TensorPrimitives.MaxMagnitude(values)) / 127;
        float inverse = scale != 0 ? 1 / scale : 0;
        BitConverter.TryWriteBytes(block, (Half)scale);
        for (int i = 0; i < 32; i++)
        {
            block[2 + i] = unchecked((byte)(sbyte)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero));
        }
    }
}
