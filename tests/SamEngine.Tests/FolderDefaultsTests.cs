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
}
