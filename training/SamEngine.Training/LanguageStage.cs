using SamEngine.Data.Mini;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Training;

/// <summary>Teaches Q-Former, projector and language model, or only the adapters, on vision features computed once.</summary>
internal sealed class LanguageStage
{
    /// <summary>Pictures in a step.</summary>
    private const int BatchPictures = 120;

    private readonly TorchSam _model;
    private readonly TrainingData _data;
    private readonly TrainingData _validation;
    private readonly Tensor _features;
    private readonly Tensor _validationFeatures;
    private readonly List<TrainingSample>[] _bySize;

    public LanguageStage(TorchSam model, TrainingData data, TrainingData validation)
    {
        _model = model;
        _data = data;
        _validation = validation;
        _features = Features(model, data);
        _validationFeatures = Features(model, validation);
        _bySize = [.. Enumerable.Range(0, 6).Select(n => data.Samples.Where(s => s.Pictures == n).ToList())];
    }

    public Stage Create(string name, Func<string, bool> trains, bool guided, int steps, float learningRate, int seed,
        Func<TrainingSample, bool>? which = null)
    {
        var pools = which is null ? _bySize : [.. _bySize.Select(p => p.Where(which).ToList())];
        int total = pools.Sum(p => p.Count);
        return new Stage
        {
            Name = name,
            Steps = steps,
            Seed = seed,
            LearningRate = learningRate,
            Trained = [.. _model.Parameters.Where(p => trains(p.Key))],
            Validate = () => Accuracy(guided),
            ValidateEvery = Math.Min(500, steps),
            Loss = random =>
            {
                // A size by the number of its samples, then samples of it.
                int pick = random.Next(total);
                int size = 0;
                while (pick >= pools[size].Count)
                {
                    pick -= pools[size++].Count;
                }
                var pool = pools[size];
                var batch = Enumerable.Range(0, Math.Max(1, Math.Min(64, BatchPictures / size)))
                    .Select(_ => pool[random.Next(pool.Count)]).ToList();
                return Loss(batch, _features, guided, random, out _);
            },
        };
    }

    /// <summary>Share of validation samples whose answer comes out to the last token, by family and placement.</summary>
    public string Accuracy(bool guided)
    {
        using var off = no_grad();
        var right = new Dictionary<string, (int Right, int All)>(StringComparer.Ordinal);
        foreach (var size in _validation.Samples.GroupBy(s => s.Pictures))
        {
            foreach (var batch in size.Chunk(64))
            {
                using var scope = NewDisposeScope();
                Loss(batch, _validationFeatures, guided, null, out bool[] exact);
                for (int i = 0; i < batch.Length; i++)
                {
                    var source = batch[i].Source;
                    foreach (string key in (string[])[$"{source.Family}", $"{source.Family}/{source.Placement}"])
                    {
                        var (r, a) = right.GetValueOrDefault(key);
                        right[key] = (r + (exact[i] ? 1 : 0), a + 1);
                    }
                }
            }
        }
        return string.Join(", ", right.OrderBy(r => r.Key, StringComparer.Ordinal)
            .Select(r => $"{r.Key} {100.0 * r.Value.Right / r.Value.All:F1} %"));
    }

    /// <summary>Mean loss of the answers' tokens. With a random source the pictures of groups are shuffled: their order says
    /// nothing.</summary>
    private Tensor Loss(IReadOnlyList<TrainingSample> batch, Tensor features, bool guided, Random? random, out bool[] exact)
    {
        int n = batch.Count;
        int pictures = batch[0].Pictures;
        long[] chosen = [.. batch.SelectMany(s =>
        {
            long[] order = [.. Enumerable.Range(s.First, s.Pictures).Select(i => (long)i)];
            if (random is not null && s.Source.Family == MiniFamily.Group)
            {
                random.Shuffle(order);
            }
            return order;
        })];
        var image = features.index_select(0, tensor(chosen)).to(ScalarType.Float32)
            .reshape(n, pictures, features.shape[1], features.shape[2]);
        int words = batch.Max(s => s.Text.Length);
        long[] text = new long[n * words];
        bool[] mask = new bool[n * words];
        int most = batch.Max(s => s.Prompt.Length + s.Answer.Length - 1);
        long[] ids = new long[n * most];
        long[] targets = new long[n * most];
        Array.Fill(targets, -100);
        for (int i = 0; i < n; i++)
        {
            var s = batch[i];
            for (int k = 0; k < s.Text.Length; k++)
            {
                text[i * words + k] = s.Text[k];
                mask[i * words + k] = true;
            }
            int[] all = [.. s.Prompt, .. s.Answer];
            for (int k = 0; k < all.Length - 1; k++)
            {
                ids[i * most + k] = all[k];
                if (k >= s.Prompt.Length - 1)
                {
                    targets[i * most + k] = all[k + 1];
                }
            }
        }
        var visual = _model.QFormer(image, tensor(text).reshape(n, words), tensor(mask).reshape(n, words), guided);
        var logits = _model.Llm(visual, tensor(ids).reshape(n, most))[.., (int)visual.shape[1]..];
        var target = tensor(targets).reshape(n, most);
        exact = [];
        if (random is null)
        {
            exact = logits.argmax(-1).eq(target).logical_or(target.eq(-100)).all(1).data<bool>().ToArray();
        }
        return F.cross_entropy(logits.reshape(-1, logits.shape[^1]), target.reshape(-1), ignore_index: -100);
    }

    /// <summary>fp16 features of all pictures, [pictures, tokens, width].</summary>
    private static Tensor Features(TorchSam model, TrainingData data)
    {
        using var off = no_grad();
        const int Piece = 256;
        var all = empty([data.Scenes.Count, model.Config.Vision.Tokens, model.Config.Vision.Width], dtype: ScalarType.Float16);
        for (int i = 0; i < data.Scenes.Count; i += Piece)
        {
            using var scope = NewDisposeScope();
            int[] chosen = [.. Enumerable.Range(i, Math.Min(Piece, data.Scenes.Count - i))];
            all[i..(i + chosen.Length)] = model.Vision(tensor(data.Normalized(chosen))
                .reshape(chosen.Length, 3, data.Side, data.Side)).to(ScalarType.Float16);
        }
        return all;
    }
}
