using System.Text;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>Packed files of layout version 1: the committed one reads as it was written, others are refused by name.</summary>
public sealed class HostileQuantizedTests : IDisposable
{
    private const string Fixture = "layout-1.safetensors";
    private readonly TempFolder _temp = new();

    /// <summary>The committed file: "a" Q4 [21, 100] in groups of 64, "b" Q8 [5, 3, 2] in groups of 32, "c" F32 [2]. The
    /// original of element i is (i * 7919 mod 1009 - 504) / 1000.</summary>
    [Fact]
    public void The_committed_file_of_version_1_reads_as_it_was_written()
    {
        using var file = SafetensorsFile.Open(Golden.Fixture("quantized", Fixture));
        Check(file, "a", TensorDType.Q4, 64, [21, 100], 0.06f);
        Check(file, "b", TensorDType.Q8, 32, [5, 3, 2], 0.0021f);
        Assert.True(file.TryGet("c", out var c));
        Assert.Equal([0f, 1f], c.ToFloats());
    }

    [Fact]
    public void This_build_writes_the_committed_bytes()
    {
        Write(_temp["again"]);
        Assert.Equal(File.ReadAllBytes(Golden.Fixture("quantized", Fixture)), File.ReadAllBytes(_temp["again"]));
    }

    [Theory]
    [InlineData("version", "samengine.quantized\":\"1\"", "samengine.quantized\":\"2\"", "layout version '2'")]
    [InlineData("group", "group=64", "group=48", "group=32|64|128")]
    [InlineData("other group", "group=64", "group=32", "needs")]
    [InlineData("shape", "shape=21x100", "shape=99x100", "needs")]
    [InlineData("shape of the same length", "shape=21x100", "shape=22x100", "checksum")]
    [InlineData("overflowing shape", "shape=21x100", "shape=9x99e8", "expected")]
    [InlineData("format", "\"q4 group", "\"q8 group", "needs")]
    [InlineData("unknown format", "\"q4 group", "\"q3 group", "q8|q4")]
    [InlineData("name", "samengine.quantized:a", "samengine.quantized:d", "not in the file")]
    [InlineData("stored type", "samengine.quantized:a", "samengine.quantized:c", "expected U8")]
    [InlineData("no version", "samengine.quantized\":\"1\"", "samengine.quantizer\":\"1\"", "layout is not known")]
    public void A_changed_header_is_refused(string what, string from, string to, string expected)
    {
        byte[] bytes = File.ReadAllBytes(Golden.Fixture("quantized", Fixture));
        string header = Encoding.Latin1.GetString(bytes);
        Assert.Contains(from, header, StringComparison.Ordinal);
        Refused(Encoding.Latin1.GetBytes(header.Replace(from, to, StringComparison.Ordinal)), expected, what);
    }

    [Fact]
    public void A_truncated_file_is_refused()
    {
        byte[] bytes = File.ReadAllBytes(Golden.Fixture("quantized", Fixture));
        foreach (int length in new[] { 7, 100, bytes.Length / 2, bytes.Length - 1 })
        {
            Refused(bytes[..length], "", $"{length} bytes");
        }
    }

    [Fact]
    public void A_changed_byte_of_a_matrix_is_refused()
    {
        byte[] sound = File.ReadAllBytes(Golden.Fixture("quantized", Fixture));
        int data = 8 + (int)BitConverter.ToInt64(sound);
        for (int at = data; at < sound.Length - 8; at += 97)
        {
            byte[] bytes = [.. sound];
            bytes[at] ^= 4;
            Refused(bytes, "checksum", $"byte {at}");
        }
    }

    [Theory]
    [InlineData(0x7E00)]
    [InlineData(0xFC00)]
    public void A_scale_that_is_no_number_is_refused_even_with_its_checksum(int bits)
    {
        Write(_temp["file"], packed => BitConverter.TryWriteBytes(packed.AsSpan(10), (ushort)bits));
        Refused(File.ReadAllBytes(_temp["file"]), "scales are NaN or infinite", "scale");
    }

    public void Dispose() => _temp.Dispose();

    private static float[] Original(int count) => [.. Enumerable.Range(0, count).Select(i => (i * 7919 % 1009 - 504) / 1000f)];

    /// <summary>The committed file, or one with changed bytes of "a".</summary>
    private static void Write(string path, Action<byte[]>? change = null)
    {
        byte[] a = Quantizer.Quantize(Original(2100), WeightFormat.Q4, 21, 100, 64);
        change?.Invoke(a);
        byte[] b = Quantizer.Quantize(Original(30), WeightFormat.Q8, 5, 6, 32);
        var metadata = new Dictionary<string, string>
        {
            [QuantizedEntry.VersionKey] = "1",
        };
        foreach (var (name, entry) in new[]
        {
            ("a", new QuantizedEntry(TensorDType.Q4, 64, [21, 100], "").WithChecksumOf(a)),
            ("b", new QuantizedEntry(TensorDType.Q8, 32, [5, 3, 2], "").WithChecksumOf(b)),
        })
        {
            var (key, value) = entry.ToMetadata(name);
            metadata[key] = value;
        }
        using var writer = new SafetensorsWriter(path,
            [("a", TensorDType.U8, [a.Length]), ("b", TensorDType.U8, [b.Length]), ("c", TensorDType.F32, [2])], metadata);
        foreach (var (name, bytes) in new[] { ("a", a), ("b", b), ("c", new byte[] { 0, 0, 0, 0, 0, 0, 128, 63 }) })
        {
            writer.Begin(name);
            writer.Write(bytes);
        }
        writer.Complete();
    }

    private static void Check(SafetensorsFile file, string name, TensorDType type, int group, long[] shape, float tolerance)
    {
        Assert.True(file.TryGet(name, out var tensor));
        file.Verify(name);
        Assert.Equal((type, group), (tensor.DType, tensor.GroupSize));
        Assert.Equal(shape, tensor.Shape);
        float[] expected = Original((int)tensor.Count);
        for (int i = 0; i < expected.Length; i++)
        {
            float value = QuantizedLayout.Value(tensor.Bytes, type == TensorDType.Q8 ? WeightFormat.Q8 : WeightFormat.Q4,
                tensor.Rows, tensor.Columns, group, i / tensor.Columns, i % tensor.Columns);
            Assert.Equal(expected[i], value, tolerance);
        }
    }

    private void Refused(byte[] bytes, string expected, string what)
    {
        string path = _temp[$"x{Guid.NewGuid():N}"];
        File.WriteAllBytes(path, bytes);
        var error = Assert.Throws<CheckpointException>(() =>
        {
            using var file = SafetensorsFile.Open(path);
            foreach (string name in file.Names)
            {
                file.Verify(name);
            }
        });
        Assert.True(error.Message.Contains(expected, StringComparison.Ordinal) && error.Message.Contains(path, StringComparison.Ordinal),
            $"{what}: {error.Message}");
    }
}
