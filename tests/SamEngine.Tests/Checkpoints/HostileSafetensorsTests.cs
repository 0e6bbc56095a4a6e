using System.Text;
using SamEngine.Checkpoints;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>Safetensors files that break the format's rules, or only look as if.</summary>
public sealed class HostileSafetensorsTests
{
    private const string Good = """{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""";

    /// <summary>Files by what is wrong with them, and what the error must say.</summary>
    private static readonly Dictionary<string, (Func<byte[]> File, string Expected)> BrokenFiles = new()
    {
        ["empty"] = (() => [], "is empty"),
        ["7 bytes"] = (() => new byte[7], "is truncated"),
        ["header length 0"] = (() => new byte[64], "does not start with '{'"),
        ["header length 2^63"] = (() => Declared(1UL << 63), "declares a header of 9223372036854775808 bytes, more than the"),
        ["header length 2^64-1"] = (() => Declared(ulong.MaxValue), "more than the"),
        ["header over the file"] = (() => Declared(1000), "but only 56 follow: it is truncated"),
        ["header over 100 MB"] = (() => Declared(100_000_001), "more than the 100000000 allowed"),
        ["header not UTF-8"] = (() => SafetensorsFiles.File([(byte)'{', (byte)'"', 0xFF, 0xFE, (byte)'"', (byte)':', (byte)'1', (byte)'}']), "is not valid JSON"),
        ["not JSON"] = (() => Header("{hello}"), "is not valid JSON"),
        ["not an object"] = (() => Header("[1]"), "does not start with '{'"),
        ["not closed"] = (() => Header("{\"a\":" + Good), "is not valid JSON"),
        ["leading space"] = (() => Header(" {}"), "does not start with '{'"),
        ["deep nesting"] = (() => Header("{\"a\":" + new string('[', 5000) + new string(']', 5000) + "}"), "entry is not an object"),
        ["deep nesting in a shape"] = (() => Tensor("\"F32\"", "[[[[[[1]]]]]]", "[0,8]"), "whole numbers >= 0"),
        ["a million keys"] = (() => SafetensorsFiles.File(Millions()), "lists more than"),
        ["a million metadata keys"] = (() => Header("{\"__metadata__\":{" + string.Join(',', Enumerable.Range(0, 300_000)
            .Select(i => $"\"{i}\":\"\"")) + "}}"), "'__metadata__' has more than"),
        ["tensor twice"] = (() => Header($$"""{"a":{{Good}},"a":{{Good}}}""", 8), "'a' is listed twice"),
        ["field twice"] = (() => Header("""{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8), "repeated field 'dtype'"),
        ["metadata key twice"] = (() => Header("""{"__metadata__":{"a":"1","a":"2"}}"""), "is there twice"),
        ["metadata not texts"] = (() => Header("""{"__metadata__":{"a":1}}"""), "is not a text"),
        ["text after the object"] = (() => Header("{\"a\":" + Good + "} x", 8), "is not valid JSON"),
        ["bytes after the data"] = (() => Header("{\"a\":" + Good + "}", 9), "1 bytes belong to none"),
        ["unknown type"] = (() => Tensor("\"F8_E4M3\"", "[8]", "[0,8]"), "unknown dtype 'F8_E4M3'"),
        ["type not a text"] = (() => Tensor("7", "[2]", "[0,8]"), "unexpected or repeated field 'dtype'"),
        ["negative extent"] = (() => Tensor("\"F32\"", "[-2]", "[0,8]"), "whole numbers >= 0"),
        ["huge extent"] = (() => Tensor("\"F32\"", "[9223372036854775808]", "[0,8]"), "whole numbers >= 0"),
        ["broken extent"] = (() => Tensor("\"F32\"", "[2.5]", "[0,8]"), "whole numbers >= 0"),
        ["product overflows"] = (() => Tensor("\"F32\"", "[4294967296,4294967296]", "[0,8]"), "overflows"),
        ["rank 64"] = (() => Tensor("\"F32\"", "[" + string.Join(',', Enumerable.Repeat("1", 64)) + "]", "[0,8]"), "at most 8"),
        ["offsets reversed"] = (() => Tensor("\"F32\"", "[2]", "[8,0]"), "offsets overlap"),
        ["offsets overlap"] = (() => Header("""
            {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}
            """.Trim(), 12), "offsets overlap"),
        ["offsets with holes"] = (() => Header("""
            {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}
            """.Trim(), 20), "leave holes"),
        ["offsets past the end"] = (() => Tensor("\"F32\"", "[4]", "[0,16]"), "or the file is truncated"),
        ["offsets before the start"] = (() => Tensor("\"F32\"", "[2]", "[-8,0]"), "whole numbers >= 0"),
        ["one offset"] = (() => Tensor("\"F32\"", "[2]", "[0]"), "data_offsets (two numbers) is missing"),
        ["three offsets"] = (() => Tensor("\"F32\"", "[2]", "[0,8,8]"), "at most 2"),
        ["shape larger than bytes"] = (() => Tensor("\"F32\"", "[3]", "[0,8]"), "needs 12 bytes, its offsets give 8"),
        ["type larger than bytes"] = (() => Tensor("\"F64\"", "[2]", "[0,8]"), "needs 16 bytes, its offsets give 8"),
        ["no shape"] = (() => Header("""{"a":{"dtype":"F32","data_offsets":[0,8]}}""", 8), "shape or data_offsets"),
        ["entry not an object"] = (() => Header("""{"a":5}"""), "entry is not an object"),
        ["long name"] = (() => Header("{\"" + new string('x', 100_000) + "\":5}"), "entry is not an object"),
    };

    public static TheoryData<string> Broken => [.. BrokenFiles.Keys];

    [Theory]
    [MemberData(nameof(Broken))]
    public void A_broken_file_is_refused_with_its_reason(string name)
    {
        var (file, expected) = BrokenFiles[name];
        using var temp = new TempFolder();
        string path = temp["model.safetensors"];
        File.WriteAllBytes(path, file());
        foreach (bool mapped in (bool[])[true, false])
        {
            var error = Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(path, mapped));
            Assert.Contains(expected, error.Message, StringComparison.Ordinal);
            Assert.StartsWith(path, error.Message, StringComparison.Ordinal);
            Assert.True(error.Message.Length < 1000, name);
        }
    }

    public static TheoryData<string, byte[]> Sound => new()
    {
        { "no tensors", Header("{}") },
        { "rank 0", Header("""{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}""", 4) },
        { "rank 8", Header("""{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}""", 4) },
        { "zero extent", Header("""{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}""") },
        { "spaces behind the header", Header("{\"a\":" + Good + "}      ", 8) },
        { "unaligned", Header("""
            {"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}}
            """.Trim(), 9) },
        { "not in order", Header("""
            {"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]},"b":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}
            """.Trim(), 9) },
    };

    [Theory]
    [MemberData(nameof(Sound))]
    public void What_only_looks_strange_is_read(string name, byte[] file)
    {
        using var temp = new TempFolder();
        File.WriteAllBytes(temp["file"], file);
        using var store = SafetensorsFile.Open(temp["file"]);
        foreach (string tensor in store.Names)
        {
            Assert.True(store.TryGet(tensor, out var data), name);
            Assert.All(data.ToFloats(), v => Assert.Equal(0, v));
        }
    }

    [Fact]
    public void A_file_cut_anywhere_is_refused()
    {
        using var temp = new TempFolder();
        SafetensorsFiles.Write(temp["whole"], [TensorSource.Of("a", 1, 2, 3), TensorSource.Of("b", 4)]);
        byte[] whole = File.ReadAllBytes(temp["whole"]);
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(temp["cut"], whole[..length]);
            Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(temp["cut"]));
        }
    }

    [Fact]
    public void A_file_read_into_memory_may_be_cut_afterwards()
    {
        using var temp = new TempFolder();
        SafetensorsFiles.Write(temp["file"], [TensorSource.Of("a", [.. Enumerable.Range(0, 100_000).Select(i => (float)i)])]);
        using var store = SafetensorsFile.Open(temp["file"], useMmap: false);
        using (var stream = new FileStream(temp["file"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            stream.SetLength(16);
        }
        Assert.True(store.TryGet("a", out var tensor));
        Assert.Equal(99_999, tensor.ToFloats()[^1]);
    }

    [Fact]
    public void Zero_and_denormal_weights_are_kept()
    {
        using var temp = new TempFolder();
        float[] values = [0, -0f, float.Epsilon, 1e-40f, -1e-40f, float.MaxValue];
        SafetensorsFiles.Write(temp["file"], [TensorSource.Of("a", values)]);
        using var store = SafetensorsFile.Open(temp["file"]);
        Assert.True(store.TryGet("a", out var tensor));
        Assert.True(tensor.IsFinite());
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), tensor.ToFloats().Select(BitConverter.SingleToInt32Bits));
    }

    [Theory]
    [InlineData("missing", "missing", "llm_proj.bias")]
    [InlineData("extra", "not part of the model", "surplus.weight")]
    [InlineData("misshapen", "[63], expected [64]", "llm_proj.bias")]
    [InlineData("not floats", "is I64, expected floating point", "llm_proj.bias")]
    public void A_model_with_other_tensors_names_them(string fault, string expected, string tensor)
    {
        using var temp = new TempFolder();
        using var tiny = new TinyModel();
        ChangeModel(tiny.Folder, tensors => fault switch
        {
            "missing" => [.. tensors.Where(t => t.Name != tensor)],
            "extra" => [.. tensors, TensorSource.Of(tensor, 1)],
            "misshapen" => [.. tensors.Select(t => t.Name == tensor ? TensorSource.Of(tensor, new float[63]) : t)],
            _ => [.. tensors.Select(t => t.Name == "llm_proj.bias" ? t with { DType = TensorDType.I64, Bytes = () => [new byte[512]] } : t)],
        });
        var error = Assert.Throws<CheckpointException>(() =>
        {
            using var checkpoint = SamCheckpoint.Open(tiny.Folder);
            CheckpointShapes.Check(checkpoint);
        });
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains(tensor, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Another_models_weights_are_refused()
    {
        using var one = new TinyModel();
        using var other = new TinyModel(c => c with { Llm = c.Llm with { IntermediateSize = 104 } });
        File.Copy(Path.Combine(other.Folder, "model.safetensors"), Path.Combine(one.Folder, "model.safetensors"), overwrite: true);
        using var checkpoint = SamCheckpoint.Open(one.Folder);
        var error = Assert.Throws<CheckpointException>(() => CheckpointShapes.Check(checkpoint));
        Assert.Contains("[104, 64], expected [100, 64] from config.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unaligned_weights_compute_the_same()
    {
        using var aligned = new TinyModel();
        using var unaligned = new TinyModel();
        string path = Path.Combine(unaligned.Folder, "model.safetensors");
        byte[] file = File.ReadAllBytes(path);
        long header = BitConverter.ToInt64(file, 0);
        byte[] shifted = [.. BitConverter.GetBytes(header + 1), .. file[8..(int)(8 + header)], (byte)' ', .. file[(int)(8 + header)..]];
        File.WriteAllBytes(path, shifted);
        var texts = new List<string>();
        foreach (string folder in (string[])[aligned.Folder, unaligned.Folder])
        {
            await using var model = await SamModel.LoadAsync(folder);
            var text = new StringBuilder();
            await foreach (var piece in model.DescribeAsync([TinyModel.Picture(1), TinyModel.Picture(2)], "What links them?",
                new GenerationOptions { MaxLength = 12 }))
            {
                text.Append(piece.Text);
            }
            texts.Add(text.ToString());
        }
        Assert.Equal(texts[0], texts[1]);
    }

    private static void ChangeModel(string folder, Func<List<TensorSource>, List<TensorSource>> change)
    {
        string path = Path.Combine(folder, "model.safetensors");
        using (var store = SafetensorsFile.Open(path, useMmap: false))
        {
            var tensors = store.Names.Select(n => TensorSource.Of(n, store.TryGet(n, out var t) ? t : throw new KeyNotFoundException(n)));
            File.Delete(path);
            SafetensorsFiles.Write(path, change([.. tensors]));
        }
    }

    private static byte[] Header(string header, int dataBytes = 0) => SafetensorsFiles.File(header, dataBytes);

    private static byte[] Tensor(string dtype, string shape, string offsets) =>
        Header("{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}", 8);

    private static byte[] Declared(ulong length)
    {
        byte[] file = new byte[64];
        BitConverter.TryWriteBytes(file, length);
        file[8] = (byte)'{';
        return file;
    }

    private static byte[] Millions()
    {
        var header = new StringBuilder("{");
        for (int i = 0; i < 1_000_000; i++)
        {
            header.Append(System.Globalization.CultureInfo.InvariantCulture,
                $"{(i > 0 ? "," : "")}\"{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        }
        return Encoding.UTF8.GetBytes(header.Append('}').ToString());
    }
}
