using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SamEngine.Data.Scores;

/// <summary>One answer of a model beside the expected one, an entry of <c>pred.json</c>.</summary>
/// <param name="SampleId">Id of the sample, as JSON writes it.</param>
/// <param name="Response">What the model wrote.</param>
/// <param name="Expected">What the data set says.</param>
public sealed record Prediction(string SampleId, string Response, string Expected);

/// <summary>Scores of one sample.</summary>
/// <param name="SampleId">Id of the sample.</param>
/// <param name="Rouge">ROUGE-L f, 0 to 1.</param>
/// <param name="Cider">CIDEr, 0 to 10.</param>
/// <param name="Bleu">BLEU-1 to BLEU-4, 0 to 1.</param>
public sealed record SampleScores(string SampleId, double Rouge, double Cider, IReadOnlyList<double> Bleu);

/// <summary>
/// ROUGE-L, CIDEr and BLEU of a list of predictions, exactly as the reference's evaluate_score.py computes them.
/// </summary>
public sealed class Evaluation
{
    private Evaluation(IReadOnlyList<SampleScores> samples, IReadOnlyList<double> bleu)
    {
        Samples = samples;
        Bleu = bleu;
        Rouge = samples.Average(s => s.Rouge);
        Cider = samples.Average(s => s.Cider);
    }

    /// <summary>Scores sample by sample.</summary>
    public IReadOnlyList<SampleScores> Samples { get; }

    /// <summary>Mean ROUGE-L f, 0 to 1.</summary>
    public double Rouge { get; }

    /// <summary>Mean CIDEr, 0 to 10.</summary>
    public double Cider { get; }

    /// <summary>Corpus BLEU-1 to BLEU-4, 0 to 1: on summed counts, not the mean of the samples.</summary>
    public IReadOnlyList<double> Bleu { get; }

    /// <summary>Scores predictions.</summary>
    /// <exception cref="DatasetException">No samples, an id twice, or a text without words where the scores are undefined;
    /// the message names the sample.</exception>
    public static Evaluation Of(IReadOnlyList<Prediction> predictions)
    {
        if (predictions.Count == 0)
        {
            throw new DatasetException("predictions", "the list is empty, there is nothing to score");
        }
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var bleu = new Bleu();
        var words = new List<(string[], string[])>();
        var rouge = new List<double>();
        var bleus = new List<double[]>();
        foreach (var prediction in predictions)
        {
            string subject = $"sample {prediction.SampleId}";
            if (!seen.Add(prediction.SampleId))
            {
                throw new DatasetException(subject, "appears twice; every sample_id must be unique");
            }
            string response = AnswerText.Process(prediction.Response);
            string expected = AnswerText.Process(prediction.Expected);
            if (expected.Length == 0)
            {
                throw new DatasetException(subject, "the expected answer has no words");
            }
            rouge.Add(response.Length == 0 ? 0 : RougeL.Score(response, expected, subject).F);
            words.Add((AnswerText.Words(response), AnswerText.Words(expected)));
            bleus.Add(bleu.Add(words[^1].Item1, words[^1].Item2));
        }
        double[] cider = Scores.Cider.Scores(words);
        return new Evaluation([.. predictions.Select((p, i) => new SampleScores(p.SampleId, rouge[i], cider[i], bleus[i]))],
            bleu.Corpus());
    }

    /// <summary>Reads <c>pred.json</c>: a list of <c>sample_id</c>, <c>pred_response</c>, <c>gt_response</c>.</summary>
    /// <exception cref="DatasetException">Unreadable, not JSON, or an entry without one of the fields.</exception>
    public static IReadOnlyList<Prediction> ReadPredictions(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            return ReadPredictions(json.RootElement, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new DatasetException(path, "can't be read as predictions: " + e.Message, e);
        }
    }

    internal static IReadOnlyList<Prediction> ReadPredictions(JsonElement list, string path)
    {
        if (list.ValueKind != JsonValueKind.Array)
        {
            throw new DatasetException(path, $"is a JSON {list.ValueKind}, expected a list of predictions");
        }
        var predictions = new List<Prediction>();
        foreach (var entry in list.EnumerateArray())
        {
            string subject = $"{path}, entry {predictions.Count}";
            string Field(string name, bool text) =>
                entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty(name, out var value)
                && (value.ValueKind == JsonValueKind.String || (!text && value.ValueKind == JsonValueKind.Number))
                    ? value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText()
                    : throw new DatasetException(subject, $"has no '{name}' of the right kind; expected sample_id, " +
                        "pred_response and gt_response");
            predictions.Add(new Prediction(Field("sample_id", false), Field("pred_response", true),
                Field("gt_response", true)));
        }
        return predictions;
    }

    /// <summary>The content of <c>eval.json</c>: times 100, two places.</summary>
    public JsonObject ToEvalJson() => new()
    {
        ["rouge"] = Percent(Rouge),
        ["cider"] = Percent(Cider),
        ["bleu4"] = Percent(Bleu[3]),
    };

    /// <summary>The content of <c>eval_score.json</c>: scores of every sample, unrounded.</summary>
    public JsonArray ToEvalScoreJson() => new([.. Samples.Select(s => (JsonNode)new JsonObject
    {
        ["id"] = IdNode(s.SampleId),
        ["rouge"] = s.Rouge,
        ["cider"] = s.Cider,
        ["bleu4"] = s.Bleu[3],
    })]);

    /// <summary>Ids that are numbers are written as numbers.</summary>
    internal static JsonValue IdNode(string id) =>
        long.TryParse(id, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number)
            ? JsonValue.Create(number) : JsonValue.Create(id);

    private static double Percent(double value) => Math.Round(value * 100 * 100, MidpointRounding.ToEven) / 100;
}
