using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests;

/// <summary>NaN in the weights: found in the logits of the requests that meet it, and of no other.</summary>
public sealed class DamagedWeightTests : IDisposable
{
    private readonly TinyModel _tiny = new();

    public void Dispose() => _tiny.Dispose();

    [Fact]
    public async Task Found_in_every_request_when_every_request_meets_it()
    {
        _tiny.Change(n => n == "llm_model.model.norm.weight", v => v[^1] = float.NaN);
        using var model = await SamModel.LoadAsync(_tiny.Folder);
        foreach (int beams in (int[])[1, 5])
        {
            var error = await Assert.ThrowsAsync<NumericException>(() => model.DescribeToEndAsync(Request("a dog", 0, beams)));
            Assert.Contains("NaN", error.Message, StringComparison.Ordinal);
        }
        Assert.Contains("NaN", (await Assert.ThrowsAsync<NumericException>(() => model.RankAsync(new RankRequest
        {
            Images = Request("", 0, 1).Images,
            Prompt = "a dog",
            Candidates = ["a boat runs", "a river"],
        }))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Found_in_the_prompt_of_one_request(int beams)
    {
        int[] dog;
        int[] boat;
        DescribeResult[] expected;
        using (var model = await SamModel.LoadAsync(_tiny.Folder))
        {
            var tokenizer = VicunaTokenizer.Load(Golden.Fixture("text", "tokenizer.model"));
            dog = tokenizer.EncodeText("dog");
            boat = tokenizer.EncodeText("river");
            expected = [.. await Task.WhenAll(Enumerable.Range(0, 3).Select(i => model.DescribeToEndAsync(Request("river", i, beams))))];
        }
        // A row that only the one prompt reads, and no text runs into.
        int row = dog.First(id => !boat.Contains(id) && !expected.Any(r => r.Texts[0].TokenIds.Contains(id)));
        Damage(row);
        using var damaged = await SamModel.LoadAsync(_tiny.Folder);
        for (int round = 0; round < 3; round++)
        {
            var good = Enumerable.Range(0, 3).Select(i => damaged.DescribeToEndAsync(Request("river", i, beams))).ToList();
            var error = await Assert.ThrowsAsync<NumericException>(() => damaged.DescribeToEndAsync(Request("dog", 5, beams)));
            Assert.Contains("step 0", error.Message, StringComparison.Ordinal);
            AssertSame(expected, await Task.WhenAll(good));
            Assert.True(SpinWait.SpinUntil(() => damaged.Engine.UsedBlocks == 0, 5000));
        }
    }

    [Fact]
    public async Task Found_in_the_middle_of_one_text()
    {
        const int Place = 5;
        DescribeResult[] all;
        using (var model = await SamModel.LoadAsync(_tiny.Folder))
        {
            all = [.. await Task.WhenAll(Enumerable.Range(0, 6).Select(i => model.DescribeToEndAsync(Request("river", i, 1))))];
        }
        // A token that one text comes to and the others do not.
        var meets = all.First(r => r.Texts[0].TokenIds.Count > Place + 2 && Alone(r, r.Texts[0].TokenIds[Place]));
        int row = meets.Texts[0].TokenIds[Place];
        bool Alone(DescribeResult result, int id) => result.Texts[0].TokenIds.Take(Place).All(t => t != id)
            && all.Where(r => r != result).All(r => !r.Texts[0].TokenIds.Contains(id));
        Damage(row);
        using var damaged = await SamModel.LoadAsync(_tiny.Folder);
        int at = Array.IndexOf(all, meets);
        var running = Enumerable.Range(0, 6).Select(i => damaged.DescribeToEndAsync(Request("river", i, 1))).ToList();
        var error = await Assert.ThrowsAsync<NumericException>(() => running[at]);
        // The token at this place is fed in the step after it.
        Assert.Contains($"step {Place + 1}", error.Message, StringComparison.Ordinal);
        running.RemoveAt(at);
        AssertSame([.. all.Where(r => r != meets)], await Task.WhenAll(running));
        // What was said before stays said.
        string text = "";
        await Assert.ThrowsAsync<NumericException>(async () =>
        {
            await foreach (var piece in damaged.DescribeAsync(Request("river", at, 1)))
            {
                text += piece.Text;
            }
        });
        Assert.StartsWith(text, meets.Text, StringComparison.Ordinal);
        Assert.True(SpinWait.SpinUntil(() => damaged.Engine.UsedBlocks == 0, 5000));
    }

    private void Damage(int row)
    {
        int width = TinyModel.Config.Llm.HiddenSize;
        _tiny.Change(n => n == "llm_model.model.embed_tokens.weight", v => v.AsSpan(row * width, width).Fill(float.NaN));
    }

    private static void AssertSame(DescribeResult[] expected, DescribeResult[] actual)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i].Texts[0].TokenIds, actual[i].Texts[0].TokenIds);
            Assert.Equal(expected[i].Texts[0].Score, actual[i].Texts[0].Score);
        }
    }

    private static DescribeRequest Request(string prompt, int picture, int beams) => new()
    {
        Images = [TinyModel.Picture(picture)],
        Prompt = prompt,
        Options = new GenerationOptions { NumBeams = beams, MaxLength = 20 },
    };
}
