using SamEngine.Bench.MakeModel;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Bench.Tests;

/// <summary>What <c>make-model --format gguf</c> writes.</summary>
public sealed class GgufTests
{
    private const int Hidden = 64;
    private const int HeadDim = 16;

    [Fact]
    public void Q4_0_blocks_have_the_scale_and_codes_of_ggml()
    {
        float[] values = [.. Enumerable.Range(0, 32).Select(i => (i % 16 - 8) * 0.5f)];
        byte[] block = new byte[18];
        GgmlType.Q4_0.Encode(values, block);
        Assert.Equal((Half)0.5f, BitConverter.ToHalf(block));
        Assert.Equal(Enumerable.Range(0, 16).Select(i => (byte)(i | i << 4)), block[2..]);
        // The sign goes into the scale: the largest magnitude is code 0.
        values[5] = 8;
        GgmlType.Q4_0.Encode(values, block);
        Assert.Equal((Half)(-1f), BitConverter.ToHalf(block));
        Assert.Equal(0, block[2 + 5] & 15);
    }

    [Fact]
    public void Q8_0_blocks_round_half_away_from_zero()
    {
        float[] values = new float[32];
        (values[0], values[1], values[2]) = (127, 2.5f, -2.5f);
        byte[] block = new byte[34];
        GgmlType.Q8_0.Encode(values, block);
        Assert.Equal((Half)1f, BitConverter.ToHalf(block));
        Assert.Equal([127, 3, unchecked((byte)-3), 0], block[2..6]);
    }

    [Fact]
    public void A_block_of_zeros_is_zeros()
    {
        foreach (var type in GgmlType.All)
        {
            byte[] bytes = new byte[type.ByteLength(32)];
            type.Encode(new float[32], bytes);
            // Q4_0's code of zero is 8.
            Assert.All(bytes[..2], b => Assert.Equal(0, b & 0x7F));
        }
    }

    [Fact]
    public async Task The_language_model_lies_in_the_file_with_q_and_k_in_llama_cpps_order()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        string path = temp["tiny-f32.gguf"];
        Assert.Equal(0, await MakeAsync(path, "gguf", tiny.Folder, "f32"));
        var header = GgufHeader.Read(path);
        Assert.Equal("llama", header.Metadata["general.architecture"]);
        Assert.Equal(2L, header.Layers);
        Assert.Equal((uint)Hidden, header.Metadata["llama.embedding_length"]);
        Assert.Equal(100u, header.Metadata["llama.feed_forward_length"]);
        // 601 rows, of which the last 25 fill no 32.
        Assert.Equal(576u, header.Metadata["llama.vocab_size"]);
        Assert.Equal([Hidden, 576], header.Tensors["output.weight"].Sizes);
        Assert.Equal(2 * 9 + 3, header.Tensors.Count);
        Assert.All(header.Tensors.Values, t => Assert.Equal(0, t.Offset % 32));

        byte[] file = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        using var source = new SourceFolder(tiny.Folder);
        float[] Row(string name, int row) => [.. Enumerable.Range(0, Hidden).Select(c =>
            BitConverter.ToSingle(file, (int)header.Tensors[name].Offset + 4 * (row * Hidden + c)))];
        float[] SourceRow(string name, int row) => source.Floats("llm_model.model." + name).Values[(row * Hidden)..((row + 1) * Hidden)];
        Assert.Equal(SourceRow("embed_tokens.weight", 575), Row("token_embd.weight", 575));
        Assert.Equal(SourceRow("layers.1.self_attn.v_proj.weight", 17), Row("blk.1.attn_v.weight", 17));
        foreach (var (ggml, name) in ((string, string)[])[("q", "q"), ("k", "k")])
        {
            for (int row = 0; row < Hidden; row++)
            {
                int inHead = row % HeadDim;
                int expected = row - inHead + (inHead % 2 == 0 ? inHead / 2 : HeadDim / 2 + inHead / 2);
                Assert.Equal(SourceRow($"layers.0.self_attn.{name}_proj.weight", expected), Row($"blk.0.attn_{ggml}.weight", row));
            }
        }
        var last = header.Tensors.Values.MaxBy(t => t.Offset)!;
        Assert.Equal((last.Offset + last.Sizes.Aggregate(4L, (a, b) => a * b) + 31) / 32 * 32, file.Length);
    }

    [Fact]
    public async Task Fewer_layers_are_said_in_the_file()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        Assert.Equal(0, await MakeAsync(temp["one.gguf"], "gguf", tiny.Folder, "f16", "--layers", "1"));
        var header = GgufHeader.Read(temp["one.gguf"]);
        Assert.Equal(1L, header.Layers);
        Assert.Contains("1 of 2 layers", (string)header.Metadata["general.name"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Columns_that_fill_no_block_are_refused_and_leave_no_file()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        // The feed-forward part is 100 wide.
        var error = await Assert.ThrowsAsync<CheckpointException>(() => MakeAsync(temp["x.gguf"], "gguf", tiny.Folder, "q4_0"));
        Assert.Contains("100 columns", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFiles(temp.Path));
    }

    [Theory]
    [InlineData("")]
    [InlineData("GGUF")]
    [InlineData("GGML then something else that is longer")]
    [InlineData("GGUF\u0003\0\0\0ÿÿÿÿÿÿÿ\u007f\u0001\0\0\0\0\0\0\0")]
    public void Other_files_are_refused(string content)
    {
        using var temp = new TempFolder();
        File.WriteAllBytes(temp["x"], System.Text.Encoding.Latin1.GetBytes(content));
        Assert.Contains("GGUF file", Assert.Throws<CheckpointException>(() => GgufHeader.Read(temp["x"])).Message, StringComparison.Ordinal);
    }

    internal static Task<int> MakeAsync(string path, string format, string source, string type, params string[] more) => MakeModelCommand.Create()
        .Parse([path, "--format", format, "--source", source, "--type", type, .. more])
        .InvokeAsync(new System.CommandLine.InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
