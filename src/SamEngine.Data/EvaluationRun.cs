using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using SamEngine.Data.Mini;
using SamEngine.Data.Scores;

namespace SamEngine.Data;

/// <summary>What an evaluation found.</summary>
/// <param name="Scores">ROUGE-L, CIDEr, BLEU, exactly as the reference computes them.</param>
/// <param name="Accuracy">Right answers and samples by family, where the data set says what a right answer names.</param>
public sealed record EvaluationResult(Evaluation Scores, IReadOnlyList<FamilyAccuracy> Accuracy);

/// <summary>Right answers of a family.</summary>
/// <param name="Family">As the data set names it.</param>
/// <param name="Right">Answers that name all that is required and nothing else of the data set's names.</param>
/// <param name="Samples">Samples of the family.</param>
/// <param name="Majority">Samples that always giving the family's most frequent expected answer would get right.</param>
public sealed record FamilyAccuracy(string Family, int Right, int Samples, int Majority);

/// <summary>
/// Runs a model over a data set and writes <c>pred.json</c>, <c>eval.json</c> and <c>eval_score.json</c> as the reference's
/// scripts do. Answers go to <c>answers.jsonl</c> as they come, so that a run that was killed goes on where it stood: no sample
/// is lost, none is asked twice.
/// </summary>
public sealed class EvaluationRun
{
    private const string AnswersName = "answers.jsonl";
    private const string SettingsName = "run.json";
    private const string PicturesKey = "pictures";
    private static readonly JsonSerializerOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly MmLinkDataset _dataset;
    private readonly IReadOnlyList<MmLinkSample> _samples;
    private readonly string _folder;
    private readonly PictureControl _pictures;
    private readonly Dictionary<string, string> _answers = new(StringComparer.Ordinal);

    /// <summary>Opens or takes up a run.</summary>
    /// <param name="dataset">What is asked.</param>
    /// <param name="folder">Where results go; made if missing.</param>
    /// <param name="settings">What must not differ between the parts of a run, everything that answers depend on: model, guidance,
    /// options.</param>
    /// <param name="limit">Only the first samples; null takes all.</param>
    /// <param name="pictures">What the model is shown; it must not differ between the parts of a run either, and goes into
    /// <c>eval.json</c>.</param>
    /// <exception cref="DatasetException">The folder holds answers of a run with other settings, or to other samples.</exception>
    /// <exception cref="OutputException">The folder can't be written.</exception>
    public EvaluationRun(MmLinkDataset dataset, string folder, IReadOnlyDictionary<string, string> settings, int? limit = null,
        PictureControl pictures = PictureControl.All)
    {
        _dataset = dataset;
        _samples = limit is { } n ? [.. dataset.Samples.Take(n)] : dataset.Samples;
        _folder = folder;
        _pictures = pictures;
        if (_samples.Count == 0)
        {
            throw new DatasetException("limit", $"is {limit}, expected at least 1");
        }
        try
        {
            Directory.CreateDirectory(folder);
            ReadAnswers();
            CheckSettings(settings);
        }
        catch (JsonException e)
        {
            throw new DatasetException(folder, "can't be used for results: " + e.Message, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw OutputFolder.Failed(folder, e);
        }
    }

    /// <summary>Samples answered so far, of all.</summary>
    public (int Done, int Total) Progress => (_samples.Count(s => _answers.ContainsKey(s.Id)), _samples.Count);

    /// <summary>Asks what is not answered yet, several samples at a time, and writes the results.</summary>
    /// <param name="answer">Gives the answer to one sample; called from several tasks.</param>
    /// <param name="atOnce">Samples under way together.</param>
    /// <param name="progress">Samples done, of all.</param>
    /// <param name="cancellation">Ends the run; what was answered stays.</param>
    public async Task<EvaluationResult> RunAsync(Func<MmLinkSample, CancellationToken, Task<string>> answer, int atOnce,
        IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(answer);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(atOnce);
        var open = _samples.Where(s => !_answers.ContainsKey(s.Id)).ToList();
        int done = _samples.Count - open.Count;
        await using (var file = new FileStream(Path.Combine(_folder, AnswersName), FileMode.Append, FileAccess.Write, FileShare.Read))
        {
            await Parallel.ForEachAsync(open, new ParallelOptions { MaxDegreeOfParallelism = atOnce, CancellationToken = cancellation },
                async (sample, cancel) =>
                {
                    string text = await answer(sample, cancel);
                    string line = new JsonObject { ["id"] = sample.Id, ["answer"] = text }.ToJsonString(Relaxed) + "\n";
                    lock (_answers)
                    {
                        // A line is written whole or, when the process dies in it, recognised as torn.
                        file.Write(Encoding.UTF8.GetBytes(line));
                        file.Flush();
                        _answers.Add(sample.Id, text);
                        progress?.Report((++done, _samples.Count));
                    }
                });
        }
        return Finish();
    }

    private string PicturesName => _pictures.ToString().ToLowerInvariant();

    private EvaluationResult Finish()
    {
        var predictions = _samples.Select(s => new Prediction(s.Id, _answers[s.Id], s.Output)).ToList();
        var scores = Evaluation.Of(predictions);
        Write("pred.json", new JsonArray([.. predictions.Select(p => (JsonNode)new JsonObject
        {
            ["sample_id"] = Evaluation.IdNode(p.SampleId),
            ["pred_response"] = p.Response,
            ["gt_response"] = p.Expected,
        })]));
        var eval = scores.ToEvalJson();
        eval[PicturesKey] = PicturesName;
        Write("eval.json", eval);
        Write("eval_score.json", scores.ToEvalScoreJson());
        return new EvaluationResult(scores, Accuracy());
    }

    private List<FamilyAccuracy> Accuracy() => [.. _samples.Where(s => s.Required.Count > 0)
        .GroupBy(s => s.Family ?? "").OrderBy(g => g.Key, StringComparer.Ordinal)
        .Select(g => new FamilyAccuracy(g.Key,
            g.Count(s => AnswerRule.IsRight(_answers[s.Id], s.Required, _dataset.Vocabulary)), g.Count(),
            Majority([.. g])))];

    /// <summary>How many answers would be right if all were the most frequent expected one. Answers that name the same are one,
    /// however they are worded.</summary>
    private int Majority(List<MmLinkSample> family)
    {
        string answer = family.GroupBy(s => string.Join('\n', s.Required.Order(StringComparer.Ordinal)))
            .MaxBy(a => a.Count())!.First().Output;
        return family.Count(s => AnswerRule.IsRight(answer, s.Required, _dataset.Vocabulary));
    }

    private void Write(string name, JsonNode content)
    {
        string path = Path.Combine(_folder, name);
        using (var stream = File.Create(path + ".partial"))
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = Relaxed.Encoder }))
        {
            content.WriteTo(json);
        }
        File.Move(path + ".partial", path, overwrite: true);
    }

    private void CheckSettings(IReadOnlyDictionary<string, string> settings)
    {
        string path = Path.Combine(_folder, SettingsName);
        var wanted = new JsonObject();
        wanted["data"] = Path.GetFullPath(_dataset.Folder);
        wanted[PicturesKey] = PicturesName;
        foreach (var (key, value) in settings.OrderBy(s => s.Key, StringComparer.Ordinal))
        {
            wanted[key] = value;
        }
        // A run that has answered nothing has nothing to mix with.
        if (_answers.Count == 0)
        {
            Write(SettingsName, wanted);
            return;
        }
        if (!File.Exists(path))
        {
            throw new DatasetException(path, "is missing beside answers; name another folder, or remove this one");
        }
        var found = JsonNode.Parse(File.ReadAllBytes(path)) as JsonObject
            ?? throw new DatasetException(path, "is not a JSON object; remove it or name another folder");
        foreach (string key in wanted.Select(w => w.Key).Union(found.Select(f => f.Key)))
        {
            if (found[key]?.ToString() != wanted[key]?.ToString())
            {
                static string Said(JsonNode? value) => value is null ? "not stated" : $"'{value}'";
                throw new DatasetException(path, $"this folder holds a run with {key} {Said(found[key])}, now it is " +
                    $"{Said(wanted[key])}; name another folder, or remove it");
            }
        }
    }

    private void ReadAnswers()
    {
        string path = Path.Combine(_folder, AnswersName);
        if (!File.Exists(path))
        {
            return;
        }
        byte[] bytes = File.ReadAllBytes(path);
        int whole = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
        if (whole < bytes.Length)
        {
            // The last line is torn: its sample is asked again.
            using var file = new FileStream(path, FileMode.Open, FileAccess.Write);
            file.SetLength(whole);
        }
        int number = 0;
        foreach (string line in Encoding.UTF8.GetString(bytes, 0, whole).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            number++;
            using var json = JsonDocument.Parse(line);
            if (!json.RootElement.TryGetProperty("id", out var id) || !json.RootElement.TryGetProperty("answer", out var answer)
                || !_answers.TryAdd(id.GetString() ?? "", answer.GetString() ?? ""))
            {
                throw new DatasetException(path, $"line {number} has no id and answer, or an id for the second time");
            }
        }
    }
}
