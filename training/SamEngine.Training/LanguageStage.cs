using SamEngine.Data.Mini;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Training;

/// <summary>Teaches Q-Former, projector and language model, or only the adapters, on vision features computed once.</summary>
internal sealed class LanguageStage
{
    /// <summary>Pictures in each of a step's two batches.</summary>
    private const int BatchPictures = 60;

    /// <summary>Training validates on this many pictures of a batch at a time.</summary>
    private const int ValidationBatch = 48;

    private readonly TorchSam _model;
    private readonly ScenePool _pool;
    private readonly TrainingData _data;
    private readonly IReadOnlyList<TrainingSample> _validation;
    private readonly Tensor _features;
    private readonly Tensor _validationFeatures;

    /// <param name="model">What is trained.</param>
    /// <param name="pool">Scenes to compose from.</param>
    /// <param name="data">The pool's pictures.</param>
    /// <param name="validationData">Other pictures.</param>
    /// <param name="validation">Samples of the other pictures.</param>
    /// <param name="before">The stage whose place this one takes: it is used no more.</param>
    public LanguageStage(TorchSam model, ScenePool pool, TrainingData data, TrainingData validationData,
        IReadOnlyList<TrainingSample> validation, LanguageStage? before = null)
    {
        _model = model;
        _pool = pool;
        _data = data;
        _validation = validation;
        _features = Features(model, data);
        _validationFeatures = before?._validationFeatures ?? Features(model, validationData);
        before?._features.Dispose();
    }

    /// <summary>Teaches the queries to carry everything that a picture shows, whatever is asked: a linear head, thrown away
    /// afterwards, reads it off the projected tokens.</summary>
    public Stage CreateQueries(int steps, int seed)
    {
        const int Batch = 128;
        var config = _model.Config;
        int width = config.QFormer.QueryTokens * config.Llm.HiddenSize;
        var head = new TorchSharp.Modules.Parameter(zeros(TrainingData.Classes, width));
        var bias = new TorchSharp.Modules.Parameter(zeros(TrainingData.Classes));
        Tensor Logits(Tensor features, IReadOnlyList<TrainingSample> samples)
        {
            int[] pictures = [.. samples.Select(s => s.Pictures[0])];
            var visual = _model.QFormer(Images(features, pictures), [.. pictures.Select(_ => 1)], [.. samples.Select(s => s.Text)],
                guided: false);
            return F.linear(visual.reshape(pictures.Length, width), head, bias);
        }
        return new Stage
        {
            Name = "queries",
            Steps = steps,
            Seed = seed,
            LearningRate = 1.5e-3f,
            Trained = [.. _model.Parameters.Where(p => (p.Key.StartsWith("Qformer.", StringComparison.Ordinal)
                || p.Key.StartsWith("llm_proj.", StringComparison.Ordinal) || p.Key == "query_tokens") && !TorchSam.IsAdapter(p.Key)),
                new("head.weight", head), new("head.bias", bias)],
            Parts = (random, _) =>
            {
                // The pictures of any question, one by one.
                var samples = Enumerable.Range(0, Batch).Select(_ =>
                {
                    var (sample, pictures) = _pool.Compose((MiniFamily)random.Next(4), Placement.Free, random.Next(2, 4), random);
                    return _data.Encode(sample, [pictures[random.Next(pictures.Length)]]);
                }).ToList();
                Tensor Part(List<TrainingSample> half) => 5 * F.binary_cross_entropy_with_logits(Logits(_features, half),
                    tensor(_data.Present([.. half.Select(s => s.Pictures[0])])).reshape(half.Count, TrainingData.Classes));
                return (() => Part(samples[..(Batch / 2)]), () => Part(samples[(Batch / 2)..]));
            },
        };
    }

    /// <summary>Teaches to answer.</summary>
    /// <param name="name">For files and the log.</param>
    /// <param name="trains">Which parameters.</param>
    /// <param name="guided">Whether the images of a group guide each other.</param>
    /// <param name="steps">Optimiser steps.</param>
    /// <param name="learningRate">The largest.</param>
    /// <param name="seed">Of batches.</param>
    /// <param name="mix">What is asked.</param>
    public Stage Create(string name, Func<string, bool> trains, bool guided, int steps, float learningRate, int seed, Mix mix) => new()
    {
        Name = name,
        Steps = steps,
        Seed = seed,
        LearningRate = learningRate,
        Trained = [.. _model.Parameters.Where(p => trains(p.Key))],
        Validate = () => Accuracy(guided),
        ValidateEvery = Math.Min(1000, steps),
        Parts = (random, progress) =>
        {
            // Two batches, of one family each. Each counts the same, however long its answers are.
            var samples = Enumerable.Range(0, 2).SelectMany(_ =>
            {
                var batch = Compose(mix.Pick(random, progress), random);
                float weight = 0.5f / batch.Sum(s => s.Answer.Length);
                return batch.Select(s => (Sample: s, Weight: weight));
            });
            // One after the other to the part that has less work.
            var parts = new[] { new List<(TrainingSample Sample, float Weight)>(), [] };
            double[] work = new double[2];
            foreach (var next in samples.OrderByDescending(s => Work(s.Sample)))
            {
                int part = work[0] <= work[1] ? 0 : 1;
                parts[part].Add(next);
                work[part] += Work(next.Sample);
            }
            Tensor Loss(IEnumerable<(TrainingSample Sample, float Weight)> part)
            {
                // Guidance takes groups of equal size together.
                var ordered = part.OrderBy(s => s.Sample.Pictures.Length).ToList();
                var (logits, targets) = Answers([.. ordered.Select(s => s.Sample)], _features, guided);
                float[] weights = [.. ordered.SelectMany(s => Enumerable.Repeat(s.Weight, s.Sample.Answer.Length))];
                return (F.cross_entropy(logits, targets, reduction: TorchSharp.torch.nn.Reduction.None) * tensor(weights)).sum();
            }
            return (() => Loss(parts[0]), () => Loss(parts[1]));
        },
    };

    /// <summary>Share of validation samples whose answer comes out to the last token, by family and placement.</summary>
    public string Accuracy(bool guided)
    {
        var batches = _validation.Chunk(ValidationBatch).ToList();
        bool[][] exact = new bool[batches.Count][];
        using var workers = new Workers();
        workers.Run(batches.Count, i =>
        {
            using var off = no_grad();
            exact[i] = Exact(batches[i], guided);
            return 0;
        });
        var right = new Dictionary<string, (int Right, int All)>(StringComparer.Ordinal);
        foreach (var (source, correct) in _validation.Select(s => s.Source).Zip(exact.SelectMany(e => e)))
        {
            string[] keys = source.Family is MiniFamily.Group or MiniFamily.Story
                ? [$"{source.Family}", $"{source.Family}/{source.Placement}"] : [$"{source.Family}"];
            foreach (string key in keys)
            {
                var (r, n) = right.GetValueOrDefault(key);
                right[key] = (r + (correct ? 1 : 0), n + 1);
            }
        }
        return string.Join(", ", right.OrderBy(r => r.Key, StringComparer.Ordinal)
            .Select(r => $"{r.Key} {100.0 * r.Value.Right / r.Value.All:F1} %"));
    }

    /// <summary>What computing samples of all lengths and sizes together changes in their logits: the largest difference from each
    /// alone.</summary>
    public double PackingError(bool guided)
    {
        using var scope = NewDisposeScope();
        using var off = no_grad();
        var samples = _validation.Take(ValidationBatch).ToList();
        var together = Answers(samples, _validationFeatures, guided).Logits;
        var alone = cat([.. samples.Select(s => Answers([s], _validationFeatures, guided).Logits)], 0);
        return (together - alone).abs().max().item<float>();
    }

    private List<TrainingSample> Compose(MiniFamily family, Random random)
    {
        int size = family switch
        {
            MiniFamily.Picture => 1,
            MiniFamily.Change => 2,
            _ => random.Next(2, 6),
        };
        return [.. Enumerable.Range(0, BatchPictures / Math.Max(2, size)).Select(_ =>
        {
            var (sample, pictures) = _pool.Compose(family, (Placement)random.Next(3), size, random);
            return _data.Encode(sample, pictures);
        })];
    }

    /// <summary>About proportional to the operations that a sample takes: rows of the language model, and of the Q-Former, whose
    /// layers are smaller.</summary>
    private double Work(TrainingSample sample)
    {
        int visual = sample.Pictures.Length * _model.Config.QFormer.QueryTokens;
        return visual + sample.Prompt.Length + sample.Answer.Length + 0.4 * (visual + sample.Pictures.Length * sample.Text.Length);
    }

    private bool[] Exact(IReadOnlyList<TrainingSample> batch, bool guided)
    {
        var (logits, targets) = Answers(batch, _validationFeatures, guided);
        bool[] right = [.. logits.argmax(-1).eq(targets).data<bool>()];
        int at = 0;
        return [.. batch.Select(s => Enumerable.Range(0, s.Answer.Length).Count(_ => right[at++]) == s.Answer.Length)];
    }

    /// <summary>Logits of all tokens of all answers, one sample after the other, and the tokens.</summary>
    private (Tensor Logits, Tensor Targets) Answers(IReadOnlyList<TrainingSample> batch, Tensor features, bool guided)
    {
        int[] images = [.. batch.Select(s => s.Pictures.Length)];
        var visual = _model.QFormer(Images(features, batch.SelectMany(s => s.Pictures)), images, [.. batch.Select(s => s.Text)], guided);
        var logits = _model.Llm(visual, [.. images.Select(n => n * _model.Config.QFormer.QueryTokens)],
            [.. batch.Select(s => (int[])[.. s.Prompt, .. s.Answer[..^1]])], [.. batch.Select(s => s.Prompt.Length - 1)]);
        return (logits, tensor(batch.SelectMany(s => s.Answer).Select(t => (long)t).ToArray()));
    }

    /// <summary>[pictures, positions, width].</summary>
    private static Tensor Images(Tensor features, IEnumerable<int> chosen) =>
        features.index_select(0, tensor(chosen.Select(i => (long)i).ToArray())).to(ScalarType.Float32);

    /// <summary>fp16 features of all pictures, [pictures, tokens, width].</summary>
    private static Tensor Features(TorchSam model, TrainingData data)
    {
        const int Piece = 32;
        var all = empty([data.Scenes.Count, model.Config.Vision.Tokens, model.Config.Vision.Width], dtype: ScalarType.Float16);
        using var workers = new Workers();
        workers.Run((data.Scenes.Count + Piece - 1) / Piece, piece =>
        {
            using var off = no_grad();
            int first = piece * Piece;
            int[] chosen = [.. Enumerable.Range(first, Math.Min(Piece, data.Scenes.Count - first))];
            all[first..(first + chosen.Length)] = model.Vision(tensor(data.Normalized(chosen))
                .reshape(chosen.Length, 3, data.Side, data.Side)).to(ScalarType.Float16);
            return 0;
        });
        data.Forget();
        return all;
    }
}

/// <summary>Shares of the families.</summary>
/// <param name="PicturesFirst">Questions on one picture when a stage begins.</param>
/// <param name="PicturesLast">The same when it ends.</param>
/// <param name="Group">Of the rest: groups.</param>
/// <param name="Story">Of the rest: stories; what remains are changes.</param>
internal sealed record Mix(double PicturesFirst, double PicturesLast, double Group, double Story)
{
    /// <summary>First to read pictures.</summary>
    public static Mix Words { get; } = new(0.6, 0.2, 0.45, 0.25);

    /// <summary>Then to compare them: mostly what is hard.</summary>
    public static Mix Comparing { get; } = new(0.2, 0.05, 0.5, 0.12);

    public MiniFamily Pick(Random random, double progress)
    {
        double pictures = PicturesFirst + (PicturesLast - PicturesFirst) * progress;
        double x = random.NextDouble();
        if (x < pictures)
        {
            return MiniFamily.Picture;
        }
        double rest = (x - pictures) / (1 - pictures);
        return rest < Group ? MiniFamily.Group : rest < Group + Story ? MiniFamily.Story : MiniFamily.Change;
    }
}
