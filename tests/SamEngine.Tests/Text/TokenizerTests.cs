using System.Text.Json;
using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests.Text;

/// <summary>The tokenizers on the committed small models (tests/fixtures/text).</summary>
public sealed class TokenizerTests
{
    [Fact]
    public void Ids_and_texts_equal_those_of_SentencePiece()
    {
        var tokenizer = VicunaTokenizer.Load(Golden.Fixture("text", "tokenizer.model"));
        using var json = JsonDocument.Parse(File.ReadAllBytes(Golden.Fixture("text", "sentencepiece_vectors.json")));
        foreach (var vector in json.RootElement.EnumerateArray())
        {
            string text = vector.GetProperty("text").GetString()!;
            int[] ids = [.. vector.GetProperty("ids").EnumerateArray().Select(v => v.GetInt32())];
            Assert.Equal(ids, tokenizer.EncodeText(text));
            Assert.Equal([2, .. ids], tokenizer.EncodePrompt(text));
        }
    }

    [Fact]
    public void Ids_of_instructions_are_those_of_BertTokenizer()
    {
        var tokenizer = QFormerTokenizer.Load(Golden.Fixture("text", "vocab.txt"));
        using var json = JsonDocument.Parse(File.ReadAllBytes(Golden.Fixture("text", "bert_vectors.json")));
        int count = 0;
        foreach (var vector in json.RootElement.EnumerateArray())
        {
            string text = vector.GetProperty("text").GetString()!;
            int[] Ids(string key) => [.. vector.GetProperty(key).EnumerateArray().Select(v => v.GetInt32())];
            Assert.True(Ids("ids").SequenceEqual(tokenizer.EncodeToIds(text)), text);
            Assert.True(Ids("instruction").SequenceEqual(tokenizer.EncodeInstruction(text)), text);
            count++;
        }
        Assert.True(count > 50);
    }

    [Fact]
    public void Long_texts_are_quick()
    {
        var tokenizer = VicunaTokenizer.Load(Golden.Fixture("text", "tokenizer.model"));
        var bert = QFormerTokenizer.Load(Golden.Fixture("text", "vocab.txt"));
        string text = string.Concat(Enumerable.Repeat("a dog runs along the river ", 80_000));
        Assert.True(tokenizer.EncodeText(text).Length > 100_000);
        Assert.Equal(128, bert.EncodeInstruction(text).Length);
        Assert.Single(tokenizer.EncodeText("\u0001").Distinct().Skip(1));
    }

    [Fact]
    public void Damaged_files_are_named()
    {
        using var temp = new TempFolder();
        byte[] model = File.ReadAllBytes(Golden.Fixture("text", "tokenizer.model"));
        File.WriteAllBytes(temp["empty"], []);
        File.WriteAllBytes(temp["text"], "not a model at all"u8.ToArray());
        foreach (string name in (string[])["missing", "empty", "text"])
        {
            var error = Assert.Throws<CheckpointException>(() => VicunaTokenizer.Load(temp[name]));
            Assert.Contains(temp[name], error.Message, StringComparison.Ordinal);
            Assert.Throws<CheckpointException>(() => QFormerTokenizer.Load(temp[name]));
        }
        for (int length = 1; length < model.Length; length += 97)
        {
            File.WriteAllBytes(temp["cut"], model[..length]);
            Assert.Throws<CheckpointException>(() => VicunaTokenizer.Load(temp["cut"]));
        }
        File.WriteAllBytes(temp["latin"], [0xFF, 0xFE, (byte)'\n']);
        Assert.Throws<CheckpointException>(() => QFormerTokenizer.Load(temp["latin"]));
    }
}
