namespace SamEngine.Data.Mini;

/// <summary>What to write.</summary>
public sealed record MmLinkMiniOptions
{
    /// <summary>Everything follows from it.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Samples of the training split.</summary>
    public int Train { get; init; } = 1000;

    /// <summary>Samples of the test split, which alone holds some pairs of object and setting.</summary>
    public int Test { get; init; } = 300;

    /// <summary>Where the links lie; null mixes all.</summary>
    public Placement? Placement { get; init; }

    /// <summary>Pixels of a picture's side.</summary>
    public int Side { get; init; } = 224;

    /// <summary>The font file of the objects; null takes Debian's.</summary>
    public string? FontPath { get; init; }
}

/// <summary>Writes MmLINK-mini: two data sets in the MmLINK form, <c>train</c> and <c>test</c>.</summary>
public static class MmLinkMini
{
    /// <summary>Families in the proportions of a data set.</summary>
    private static readonly MiniFamily[] Mix =
        [MiniFamily.Group, MiniFamily.Group, MiniFamily.Story, MiniFamily.Change];

    /// <summary>Writes both splits into a new folder.</summary>
    /// <param name="folder">Must not exist or be empty.</param>
    /// <param name="options">What to write.</param>
    /// <param name="progress">Pictures' samples written so far, of all.</param>
    /// <param name="cancellation">Looked at between samples; then nothing is left behind.</param>
    /// <exception cref="RequestException">An option is out of range.</exception>
    /// <exception cref="DatasetException">The font is missing.</exception>
    /// <exception cref="OutputException">The folder is not empty or can't be written.</exception>
    public static void Write(string folder, MmLinkMiniOptions options, IProgress<(int Done, int Total)>? progress = null,
        CancellationToken cancellation = default)
    {
        void Require(bool holds, string option, string expected)
        {
            if (!holds)
            {
                throw new RequestException(option, expected);
            }
        }
        Require(options.Train >= 0, nameof(options.Train), $"is {options.Train}, expected 0 or more");
        Require(options.Test >= 0, nameof(options.Test), $"is {options.Test}, expected 0 or more");
        Require(options.Train > 0 || options.Test > 0, nameof(options.Train), $"is 0 and so is {nameof(options.Test)}, expected one " +
            "above 0");
        Require(options.Side is >= 56 and <= 1024, nameof(options.Side), $"is {options.Side}, expected 56 to 1024 pixels");
        OutputFolder.Require(folder, mustBeEmpty: true);
        using var renderer = new SceneRenderer(options.FontPath);
        OutputFolder.Fill(folder, partial => Draw(partial, options, renderer, progress, cancellation));
    }

    private static void Draw(string folder, MmLinkMiniOptions options, SceneRenderer renderer, IProgress<(int Done, int Total)>? progress,
        CancellationToken cancellation)
    {
        int done = 0;
        int total = options.Train + options.Test;
        foreach (var (split, count) in new[] { ("train", options.Train), ("test", options.Test) })
        {
            if (count == 0)
            {
                continue;
            }
            string target = Path.Combine(folder, split);
            Directory.CreateDirectory(Path.Combine(target, "images"));
            var samples = new List<MmLinkSample>();
            foreach (var (sample, i) in Samples(options.Seed, split == "test", count, options.Placement).Select((s, i) => (s, i)))
            {
                cancellation.ThrowIfCancellationRequested();
                string[] images = [.. sample.Scenes.Select((_, j) => $"images/{i:D6}_{j + 1}.png")];
                for (int j = 0; j < images.Length; j++)
                {
                    renderer.WritePng(sample.Scenes[j], options.Side, Path.Combine(target, images[j]));
                }
                samples.Add(ToSample(sample, i.ToString(System.Globalization.CultureInfo.InvariantCulture), images));
                progress?.Report((++done, total));
            }
            MmLinkDataset.WriteAnnotations(target, samples);
        }
    }

    /// <summary>The samples of a split, before drawing.</summary>
    internal static IEnumerable<MiniSample> Samples(int seed, bool test, int count, Placement? placement)
    {
        for (int i = 0; i < count; i++)
        {
            // A generator for every sample: the first n of a longer list are the list of n.
            int own = HashCode(seed, test, i);
            var random = new Random(own);
            var generator = new MiniGenerator(random.Next(), test);
            yield return generator.Next(Mix[i % Mix.Length], placement ?? (Placement)(i / Mix.Length % 3));
        }
    }

    private static MmLinkSample ToSample(MiniSample sample, string id, string[] images) =>
        new(id, images, sample.Instruction, sample.Output)
        {
            Family = $"{sample.Family}, {sample.Placement}".ToLowerInvariant(),
            Required = sample.Required,
        };

    /// <summary>Mixes to a seed; System.HashCode differs from run to run.</summary>
    private static int HashCode(int seed, bool test, int index)
    {
        ulong x = (ulong)(uint)seed << 33 ^ (uint)index << 1 ^ (test ? 1UL : 0);
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
        x = (x ^ x >> 27) * 0x94D049BB133111EB;
        return (int)(x ^ x >> 31);
    }
}
