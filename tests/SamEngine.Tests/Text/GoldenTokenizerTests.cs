using System.Text.Json;
using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests.Text;

/// <summary>Every vector of golden/tokenizer-bert and golden/tokenizer-llama.</summary>
public sealed class GoldenTokenizerTests
{
    [Fact]
    public void Bert_ids_are_exact()
    {
        string folder = Golden.Folder("tokenizer-bert");
        var tokenizer = QFormerTokenizer.Load(Path.Combine(folder, "vocab.txt"));
        Assert.Equal(30523, tokenizer.VocabularySize);
        Assert.Equal(30522, tokenizer.DecTokenId);
        int count = 0;
        foreach (var line in Lines(folder, "encode.jsonl"))
        {
            string text = line.GetProperty("text").GetString()!;
            Check(line, Ints(line, "ids"), tokenizer.EncodeInstruction(text));
            Check(line, Ints(line, "ids_nospecial"), tokenizer.EncodeToIds(text));
            count++;
        }
        foreach (var line in Lines(folder, "encode_llamacpp.jsonl"))
        {
            Check(line, Ints(line, "ids_nospecial"), tokenizer.EncodeToIds(line.GetProperty("text").GetString()!));
            count++;
        }
        Assert.Equal(319 + 46, count);
        foreach (var (text, ids) in Batch(folder))
        {
            Assert.Equal(ids, tokenizer.EncodeInstruction(text));
        }
    }

    [Fact]
    public void Llama_ids_are_exact()
    {
        string folder = Golden.Folder("tokenizer-llama");
        var tokenizer = VicunaTokenizer.Load(Path.Combine(folder, "tokenizer.model"));
        Assert.Equal(32001, tokenizer.VocabularySize);
        int count = 0;
        foreach (string file in (string[])["encode.jsonl", "encode_llamacpp.jsonl"])
        {
            foreach (var line in Lines(folder, file))
            {
                string text = line.GetProperty("text").GetString()!;
                Check(line, Ints(line, "ids"), tokenizer.EncodeText(text));
                if (line.TryGetProperty("ids_bos", out _))
                {
                    Check(line, Ints(line, "ids_bos"), tokenizer.EncodePrompt(text));
                }
                count++;
            }
        }
        Assert.Equal(312 + 46, count);
        foreach (var (text, ids) in Batch(folder))
        {
            Assert.Equal(ids, tokenizer.EncodePrompt(text));
        }
    }

    [Fact]
    public void Llama_decoding_and_streaming_are_exact()
    {
        string folder = Golden.Folder("tokenizer-llama");
        var tokenizer = VicunaTokenizer.Load(Path.Combine(folder, "tokenizer.model"));
        int count = 0;
        foreach (var line in Lines(folder, "decode.jsonl"))
        {
            string name = line.GetProperty("name").GetString()!;
            int[] ids = Ints(line, "ids");
            Equal(name, line.GetProperty("text").GetString()!, tokenizer.Decode(ids, skipSpecialTokens: true));
            Equal(name, line.GetProperty("text_keep_special").GetString()!, tokenizer.Decode(ids, skipSpecialTokens: false));
            if (line.TryGetProperty("prefix_texts", out var prefixes))
            {
                for (int k = 0; k < ids.Length; k++)
                {
                    Equal($"{name}[..{k + 1}]", prefixes[k].GetString()!,
                        tokenizer.Decode(ids[..(k + 1)], skipSpecialTokens: true));
                }
            }
            var stream = new StreamingDetokenizer(tokenizer);
            string streamed = "";
            foreach (int id in ids)
            {
                string piece = stream.Append(id);
                Assert.False(piece.Length > 0 && char.IsHighSurrogate(piece[^1]), $"{name}: half a character");
                streamed += piece;
                Assert.StartsWith(streamed, line.GetProperty("reference_output").GetString()!, StringComparison.Ordinal);
            }
            Equal(name, line.GetProperty("reference_output").GetString()!, streamed + stream.Finish());
            count++;
        }
        Assert.Equal(210, count);
    }

    private static void Equal(string name, string expected, string actual) =>
        Assert.True(expected == actual, $"{name}: '{actual}', expected '{expected}'");

    private static void Check(JsonElement line, int[] expected, IReadOnlyList<int> actual) =>
        Assert.True(expected.SequenceEqual(actual), $"{line.GetProperty("name")}: [{string.Join(", ", actual)}], expected " +
            $"[{string.Join(", ", expected)}]");

    private static int[] Ints(JsonElement line, string key) =>
        [.. line.GetProperty(key).EnumerateArray().Select(v => v.GetInt32())];

    private static IEnumerable<JsonElement> Lines(string folder, string file) =>
        File.ReadLines(Path.Combine(folder, file)).Select(l => JsonDocument.Parse(l).RootElement);

    /// <summary>Texts of the batches with their ids, padding removed.</summary>
    private static IEnumerable<(string Text, int[] Ids)> Batch(string folder)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "batch.json")));
        foreach (var batch in json.RootElement.EnumerateArray())
        {
            for (int i = 0; i < batch.GetProperty("texts").GetArrayLength(); i++)
            {
                var mask = batch.GetProperty("attention_mask")[i];
                int[] ids = [.. batch.GetProperty("input_ids")[i].EnumerateArray().Select(v => v.GetInt32())];
                yield return (batch.GetProperty("texts")[i].GetString()!,
                    [.. ids.Where((_, k) => mask[k].GetInt32() != 0)]);
            }
        }
    }
}
