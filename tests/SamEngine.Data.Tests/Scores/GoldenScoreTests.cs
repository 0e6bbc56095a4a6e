using System.Text.Json;
using SamEngine.Data.Scores;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests.Scores;

/// <summary>Every vector of golden/metrics, to 1e-9.</summary>
public sealed class GoldenScoreTests
{
    private const double Tolerance = 1e-9;

    [Fact]
    public void Text_processing()
    {
        foreach (var line in Lines("process.jsonl"))
        {
            Assert.Equal(line.GetProperty("processed").GetString(), AnswerText.Process(line.GetProperty("text").GetString()!));
        }
    }

    [Fact]
    public void Rouge_of_raw_pairs()
    {
        int compared = 0;
        foreach (var line in Lines("rouge_pairs.jsonl"))
        {
            string hypothesis = line.GetProperty("hyp").GetString()!;
            string reference = line.GetProperty("ref").GetString()!;
            if (line.TryGetProperty("error", out var error) && error.ValueKind == JsonValueKind.String)
            {
                Assert.Throws<DatasetException>(() => RougeL.Score(hypothesis, reference, "pair"));
                continue;
            }
            var score = RougeL.Score(hypothesis, reference, "pair");
            Close(line.GetProperty("f"), score.F);
            Close(line.GetProperty("p"), score.Precision);
            Close(line.GetProperty("r"), score.Recall);
            compared++;
        }
        Assert.NotEqual(0, compared);
    }

    [Fact]
    public void Whole_sets()
    {
        foreach (string set in Sets())
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(set, "expected.json")));
            var expected = document.RootElement;
            var result = Evaluation.Of(Evaluation.ReadPredictions(Path.Combine(set, "pred.json")));

            var corpus = expected.GetProperty("corpus_full_precision");
            Close(corpus.GetProperty("rouge_l_f_mean"), result.Rouge);
            Close(corpus.GetProperty("cider"), result.Cider);
            for (int n = 1; n <= 4; n++)
            {
                Close(corpus.GetProperty($"bleu{n}"), result.Bleu[n - 1]);
            }
            var eval = result.ToEvalJson();
            foreach (var field in expected.GetProperty("eval_json").EnumerateObject())
            {
                Assert.Equal(field.Value.GetDouble(), eval[field.Name]!.GetValue<double>());
            }
            using var written = JsonDocument.Parse(result.ToEvalScoreJson().ToJsonString());
            var scores = expected.GetProperty("eval_score_json");
            Assert.Equal(scores.GetArrayLength(), written.RootElement.GetArrayLength());
            foreach (var (want, got) in scores.EnumerateArray().Zip(written.RootElement.EnumerateArray()))
            {
                Assert.Equal(want.GetProperty("id").GetRawText(), got.GetProperty("id").GetRawText());
                foreach (string name in (string[])["rouge", "cider", "bleu4"])
                {
                    Close(want.GetProperty(name), got.GetProperty(name).GetDouble());
                }
            }
            foreach (var (want, got) in expected.GetProperty("per_unique_id_cider_bleu").EnumerateArray().Zip(result.Samples))
            {
                for (int n = 1; n <= 4; n++)
                {
                    Close(want.GetProperty($"bleu{n}"), got.Bleu[n - 1]);
                }
            }
        }
    }

    [Fact]
    public void Lists_the_script_refuses()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Golden.Folder("metrics"), "errors.json")));
        foreach (var test in document.RootElement.EnumerateArray())
        {
            string name = test.GetProperty("name").GetString()!;
            var list = test.GetProperty("preds");
            // The script's recursion limit is Python's, not the score's.
            if (test.GetProperty("error").GetString() is null or "RecursionError")
            {
                Assert.NotEmpty(Evaluation.Of(Evaluation.ReadPredictions(list, name)).Samples);
            }
            else
            {
                Assert.Throws<DatasetException>(() => Evaluation.Of(Evaluation.ReadPredictions(list, name)));
            }
        }
    }

    private static IEnumerable<string> Sets() => Directory.EnumerateDirectories(Golden.Folder("metrics"));

    private static IEnumerable<JsonElement> Lines(string file) =>
        File.ReadLines(Path.Combine(Golden.Folder("metrics"), file)).Select(l => JsonDocument.Parse(l).RootElement);

    private static void Close(JsonElement expected, double actual) =>
        Assert.True(Math.Abs(expected.GetDouble() - actual) <= Tolerance, $"{actual:R}, expected {expected.GetRawText()}");
}
