using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests;

/// <summary>What a model folder states beside its weights: defaults that no single request asked for, tokenizers.</summary>
public sealed class FolderDefaultsTests
{
    [Fact]
    public async Task Warming_up_does_not_depend_on_the_folders_generation_defaults()
    {
        using var tiny = new TinyModel();
        File.WriteAllText(Path.Combine(tiny.Folder, "generation_config.json"),
            """{"num_beams": 4, "num_return_sequences": 3, "min_length": 20, "max_length": 30}""");
        using var model = await SamModel.LoadAsync(tiny.Folder);
        await model.WarmUpAsync();
        var result = await model.DescribeToEndAsync(new DescribeRequest { Images = [TinyModel.Picture(1)], Prompt = "a dog" });
        Assert.Equal(3, result.Texts.Count);
    }

    [Fact]
    public async Task Defaults_come_from_the_folder_and_requests_win()
    {
        using var tiny = new TinyModel();
        // As transformers writes it: keys without a meaning for the text, ids, ways of decoding that are switched off.
        Write(tiny, """
            {
              "_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2], "pad_token_id": -1, "use_cache": false,
              "transformers_version": "4.33.2", "early_stopping": false, "typical_p": 1.0, "max_time": null, "top_k": null,
              "num_beams": 2, "max_length": 99, "max_new_tokens": 6, "min_length": 2, "min_new_tokens": 6,
              "repetition_penalty": 1.25, "stop_strings": "never said", "num_return_sequences": 2, "suppress_tokens": [600]
            }
            """);
        using var model = await SamModel.LoadAsync(tiny.Folder);
        var defaults = model.Info.GenerationDefaults;
        Assert.Equal((2, 7, 7, 1.25f, (int?)null), (defaults.NumBeams, defaults.MaxLength, defaults.MinLength,
            defaults.RepetitionPenalty, defaults.TopK));
        Assert.Equal(["never said"], defaults.StopStrings!);
        Assert.Equal([600], defaults.SuppressTokens!);
        async Task<IEnumerable<int>> Lengths(GenerationOptions? options) => (await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = [TinyModel.Picture(1)],
            Prompt = "a dog",
            Options = options,
        })).Texts.Select(t => t.TokenIds.Count);
        Assert.Equal([6, 6], await Lengths(null));
        Assert.Equal([6, 6], await Lengths(new GenerationOptions { TopP = 0.5f }));
        Assert.Equal([9], await Lengths(new GenerationOptions { MaxLength = 10, MinLength = 10, NumReturnSequences = 1 }));
    }

    /// <summary>The file, and what its error says.</summary>
    public static TheoryData<string, string> BadDefaults => new()
    {
        { "[]", "expected a JSON object" },
        { "{", "can't be read" },
        { """{"num_beems": 5}""", "'num_beems' is not a key that is known here" },
        { """{"num_beams": 5, "num_beams": 5}""", "'num_beams' is there twice" },
        { """{"\ud800": 5}""", "can't be read" },
        { """{"num_beams": "5"}""", "'num_beams' is \"5\", expected a whole number" },
        { """{"num_beams": 5.5}""", "'num_beams' is 5.5, expected a whole number" },
        { """{"num_beams": 0}""", "'num_beams' is 0, expected 1 to 64" },
        { """{"num_beams": 2, "num_return_sequences": 3}""", "'num_return_sequences' is 3, expected 1 to num_beams (2)" },
        { """{"max_length": 1}""", "'max_length' is 1, expected 2" },
        { """{"max_new_tokens": 0}""", "'max_new_tokens', as max_length, is 1, expected 2" },
        { """{"max_new_tokens": 2147483647}""", "'max_new_tokens', as max_length, is 2147483647, expected 2" },
        { """{"min_length": 300}""", "'min_length' is 300, expected 0 to max_length (256)" },
        { """{"min_new_tokens": 20, "max_new_tokens": 19}""", "'min_new_tokens', as min_length, is 21, expected 0 to max_length (20)" },
        { """{"temperature": 0}""", "'temperature' is 0, expected 0.001 to 1000 (for the best token each time leave do_sample off)" },
        { """{"temperature": 1e60}""", "'temperature' is" },
        { """{"top_p": 1.5}""", "'top_p' is 1.5, expected above 0, at most 1" },
        { """{"top_k": -1}""", "'top_k' is -1, expected 0" },
        { """{"repetition_penalty": 0}""", "'repetition_penalty' is 0" },
        { """{"do_sample": 1}""", "'do_sample' is 1, expected true or false" },
        { """{"stop_strings": [""]}""", "'stop_strings' holds an empty text" },
        { """{"stop_strings": 7}""", "'stop_strings' is 7, expected a text" },
        { """{"suppress_tokens": 7}""", "'suppress_tokens' is 7, expected a list of ids" },
        { """{"suppress_tokens": [601]}""", "'suppress_tokens' is 601, expected 0 to 600" },
        { """{"bos_token_id": 0}""", "'bos_token_id' is 0, expected 1, the start id in config.json" },
        { """{"eos_token_id": [2, 3]}""", "'eos_token_id' is [2, 3], expected 2, the end id in config.json" },
        { """{"eos_token_id": {}}""", "'eos_token_id' is {}, expected 2" },
        { """{"pad_token_id": 601}""", "'pad_token_id' is 601, expected -1 (none) to 600" },
        { """{"no_repeat_ngram_size": 3}""", "'no_repeat_ngram_size' is 3, expected 0 (off); this is not computed here" },
        { """{"early_stopping": true}""", "'early_stopping' is true, expected false (off)" },
        { """{"bad_words_ids": [[5]]}""", "'bad_words_ids' is [[5]], expected null" },
    };

    [Theory]
    [MemberData(nameof(BadDefaults))]
    public async Task Defaults_that_cannot_be_kept_are_refused(string json, string expected)
    {
        using var tiny = new TinyModel();
        Write(tiny, json);
        var error = await Assert.ThrowsAsync<CheckpointException>(() => SamModel.LoadAsync(tiny.Folder));
        Assert.Equal(Path.Combine(tiny.Folder, "generation_config.json"), error.Path);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_tokenizer_with_some_of_the_byte_pieces_is_refused()
    {
        using var temp = new TempFolder();
        byte[] model = File.ReadAllBytes(Golden.Fixture("text", "tokenizer.model"));
        // Text, score, then the type: the byte piece becomes a control piece.
        int at = model.AsSpan().IndexOf("<0xA9>"u8);
        Assert.Equal(6, model[at + 6 + 6]);
        model[at + 6 + 6] = 3;
        File.WriteAllBytes(temp["tokenizer.model"], model);
        var error = Assert.Throws<CheckpointException>(() => VicunaTokenizer.Load(temp["tokenizer.model"]).EncodeText("é"));
        Assert.Contains("<0xA9>", error.Message, StringComparison.Ordinal);
    }

    private static void Write(TinyModel tiny, string json) =>
        File.WriteAllText(Path.Combine(tiny.Folder, "generation_config.json"), json);
}
