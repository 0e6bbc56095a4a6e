using System.Diagnostics;
using System.Text;
using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests.Text;

/// <summary>Tokenizer files and prompts that nobody means well with.</summary>
public sealed class HostileTextTests
{
    private static readonly VicunaTokenizer Vicuna = VicunaTokenizer.Load(Golden.Fixture("text", "tokenizer.model"));
    private static readonly QFormerTokenizer Bert = QFormerTokenizer.Load(Golden.Fixture("text", "vocab.txt"));

    [Theory]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData(" \t\r\n\u00a0\u2003\u2028\u3000 ")]
    [InlineData("\0")]
    [InlineData("a\0b\0")]
    [InlineData("\ud800")]
    [InlineData("\udc00\ud800 a")]
    [InlineData("a\ud83d")]
    [InlineData("</s>")]
    [InlineData("[PAD]")]
    [InlineData("<s></s><unk>[PAD][CLS][SEP][MASK][DEC][UNK]")]
    [InlineData("</s")]
    [InlineData("\ufeff\u200b\u00ad\ufffd\uffff")]
    [InlineData("\u0301\u0301\u0301")]
    [InlineData("\uac01\u1100\u0130\u03a3")]
    public void Any_text_is_encoded(string text)
    {
        int[] prompt = Vicuna.EncodePrompt(text);
        Assert.Equal(2, prompt[0]);
        Assert.All(prompt, id => Assert.InRange(id, 0, Vicuna.VocabularySize - 1));
        int[] instruction = Bert.EncodeInstruction(text);
        Assert.Equal(Bert.ClsTokenId, instruction[0]);
        Assert.Equal(Bert.SepTokenId, instruction[^1]);
        Assert.All(instruction, id => Assert.InRange(id, 0, Bert.VocabularySize - 1));
        _ = Vicuna.Decode(prompt, skipSpecialTokens: false);
    }

    [Theory]
    [InlineData("a word and another. ", 10)]
    [InlineData("a", 2)]
    [InlineData(" ", 2)]
    [InlineData(".", 2)]
    [InlineData("\0", 2)]
    [InlineData("\ud83d\ude00", 2)]
    [InlineData("\u4e2d", 2)]
    [InlineData("\u0301", 2)]
    [InlineData("</s>", 2)]
    [InlineData("\ud800", 2)]
    public void Megabytes_are_encoded_in_bounded_time(string unit, int megabytes)
    {
        string text = string.Concat(Enumerable.Repeat(unit, megabytes * 1_000_000 / Encoding.UTF8.GetByteCount(unit)));
        var clock = Stopwatch.StartNew();
        Assert.InRange(Bert.EncodeInstruction(text).Length, 2, 128);
        Assert.NotEmpty(Vicuna.EncodePrompt(text));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"{clock.Elapsed}");
    }

    [Theory]
    [InlineData("\ud83d\ude00")]
    [InlineData("a\ud83d\ude00b\u4e2d\u00e9 \ud83d\udc68\u200d\ud83d\udc69")]
    public void Characters_split_over_ids_come_out_whole(string text)
    {
        int[] ids = Vicuna.EncodeText(text);
        Assert.True(ids.Length > text.Length);
        var stream = new StreamingDetokenizer(Vicuna);
        var pieces = ids.Select(stream.Append).Append(stream.Finish()).ToList();
        Assert.Equal(text, string.Concat(pieces));
        Assert.All(pieces, p => Assert.DoesNotContain("\ufffd", p, StringComparison.Ordinal));
        Assert.All(pieces, p => Assert.False(p.Length > 0 && char.IsHighSurrogate(p[^1])));
        // Cut inside the character: what is there is marked, nothing is lost or thrown.
        for (int length = 0; length < ids.Length; length++)
        {
            _ = StreamingDetokenizer.Decode(Vicuna, ids.AsSpan(0, length));
        }
    }

    [Fact]
    public async Task A_prompt_that_no_context_holds_is_refused_before_it_is_read()
    {
        using var tiny = new TinyModel();
        await using var model = await SamModel.LoadAsync(tiny.Folder);
        string text = new('a', 10_000_000);
        var error = await Assert.ThrowsAsync<RequestException>(async () =>
        {
            await foreach (var _ in model.DescribeAsync([TinyModel.Picture(1)], text))
            {
            }
        });
        Assert.Equal("Prompt", error.Option);
        Assert.Contains("has a text of 10000000 characters", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Any_ids_are_decoded()
    {
        var random = new Random(5);
        for (int i = 0; i < 200; i++)
        {
            int[] ids = [.. Enumerable.Range(0, 50).Select(_ => random.Next(Vicuna.VocabularySize))];
            _ = StreamingDetokenizer.Decode(Vicuna, ids);
            _ = Vicuna.Decode(ids, skipSpecialTokens: i % 2 == 0);
        }
    }

    [Theory]
    [InlineData("no pieces", "has 0 pieces")]
    [InlineData("huge piece", "a piece has")]
    [InlineData("huge length", "")]
    [InlineData("not BPE", "expected BPE")]
    [InlineData("piece twice", "there twice")]
    [InlineData("score NaN", "without a finite score")]
    [InlineData("byte piece of another form", "is not of the form <0xNN>")]
    [InlineData("not UTF-8", "is not UTF-8")]
    public void A_tokenizer_model_that_is_wrong_is_refused(string fault, string expected)
    {
        using var temp = new TempFolder();
        byte[] sound = File.ReadAllBytes(Golden.Fixture("text", "tokenizer.model"));
        File.WriteAllBytes(temp["tokenizer.model"], fault switch
        {
            "no pieces" => Message(2, Field(3, 2)),
            "huge piece" => [.. Piece(new string('x', 1 << 20), 1), .. sound],
            "huge length" => [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1, 2, 3],
            "not BPE" => [.. sound, .. Message(2, Field(3, 1))],
            "piece twice" => [.. sound, .. Piece("x y", 1), .. Piece("x y", 1)],
            "score NaN" => [.. sound, .. Piece("x y", 1, float.NaN)],
            "byte piece of another form" => [.. sound, .. Piece("<0xZZ>", 6)],
            _ => [.. sound, .. Message(1, [0x0A, 2, 0xFF, 0xFE])],
        });
        var error = Assert.Throws<CheckpointException>(() => VicunaTokenizer.Load(temp["tokenizer.model"]));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[PAD]\n[UNK]\n[CLS]\n", "has no line '[SEP]'")]
    [InlineData("\n\n\n", "has no line '[UNK]'")]
    public void A_vocabulary_that_is_wrong_is_refused(string text, string expected)
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp["vocab.txt"], text);
        var error = Assert.Throws<CheckpointException>(() => QFormerTokenizer.Load(temp["vocab.txt"]));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_vocabulary_with_long_lines_works()
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp["vocab.txt"], "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##a\n" + new string('a', 1 << 20) + "\n");
        var tokenizer = QFormerTokenizer.Load(temp["vocab.txt"]);
        Assert.Equal(100, tokenizer.EncodeToIds(new string('a', 100)).Count);
        Assert.Equal(1, tokenizer.EncodeToIds(new string('a', 101))[0]);
    }

    private static byte[] Piece(string text, int type, float score = 0)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        return Message(1, [0x0A, .. Varint(utf8.Length), .. utf8, 0x15, .. BitConverter.GetBytes(score), .. Field(3, type)]);
    }

    private static byte[] Message(int field, byte[] content) => [(byte)(field << 3 | 2), .. Varint(content.Length), .. content];

    private static byte[] Field(int field, int value) => [(byte)(field << 3), .. Varint(value)];

    private static byte[] Varint(int value)
    {
        var bytes = new List<byte>();
        for (; value > 127; value >>= 7)
        {
            bytes.Add((byte)(value & 127 | 128));
        }
        bytes.Add((byte)value);
        return [.. bytes];
    }
}
