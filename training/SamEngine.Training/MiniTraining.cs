using System.CommandLine;
using System.Diagnostics;
using SamEngine.Data.Mini;

namespace SamEngine.Training;

/// <summary>The commands: everything that makes SAM-mini.</summary>
internal static class MiniTraining
{
    /// <summary>Families in the proportions of training.</summary>
    private static readonly MiniFamily[] Mix = [MiniFamily.Group, MiniFamily.Group, MiniFamily.Group, MiniFamily.Story,
        MiniFamily.Change, MiniFamily.Change, MiniFamily.Picture, MiniFamily.Picture];

    public static RootCommand Command()
    {
        var work = new Option<string>("--work") { Description = "Folder of checkpoints and logs", DefaultValueFactory = _ => "training/work/base1" };
        var seed = new Option<int>("--seed") { Description = "Seed of weights and batches", DefaultValueFactory = _ => 1 };
        var queries = new Option<int>("--queries") { Description = "Query tokens per picture", DefaultValueFactory = _ => 4 };
        var samples = new Option<int>("--samples") { Description = "Training samples", DefaultValueFactory = _ => 16000 };
        var visionSteps = new Option<int>("--vision-steps") { DefaultValueFactory = _ => 2400 };
        var languageSteps = new Option<int>("--language-steps") { DefaultValueFactory = _ => 4500 };
        var adapterSteps = new Option<int>("--adapter-steps") { DefaultValueFactory = _ => 300 };
        var adapterSeed = new Option<int>("--adapter-seed") { Description = "Seed of the adapters", DefaultValueFactory = _ => 1 };
        var control = new Option<bool>("--control") { Description = "Spend the adapters' steps on unguided weights instead" };
        var output = new Option<string?>("--out") { Description = "Model folder to write" };

        var train = new Command("train", "Base without guidance, then adapters; every part that is done is only loaded")
            { work, seed, queries, samples, visionSteps, languageSteps, adapterSteps, adapterSeed, control, output };
        train.SetAction(parse => Train(parse.GetValue(work)!, parse.GetValue(seed), parse.GetValue(queries),
            parse.GetValue(samples), parse.GetValue(visionSteps), parse.GetValue(languageSteps), parse.GetValue(adapterSteps),
            parse.GetValue(adapterSeed), parse.GetValue(control), parse.GetValue(output)));
        var folder = new Argument<string>("model") { Description = "Model folder" };
        var record = new Option<string?>("--record") { Description = "File for the logits" };
        var parity = new Command("parity", "Compare the logits of TorchSharp and of the engine") { folder, record };
        parity.SetAction(parse =>
        {
            double worst = ParityCheck.Run(parse.GetRequiredValue(folder), parse.GetValue(record));
            Console.WriteLine($"{ParitySamples.Count} samples, largest difference {worst:G3}");
        });
        var quick = new Command("quick", "A minute of training in a temporary folder; fails unless the losses of vision and " +
            "language fall and the result agrees with the engine");
        quick.SetAction(_ => Quick());
        return new RootCommand("Trains SAM-mini") { train, quick, parity };
    }

    /// <summary>Every part of the training on very little, as a check of the code and not of what it can learn.</summary>
    private static int Quick()
    {
        var work = Directory.CreateTempSubdirectory("sam-mini-quick-");
        try
        {
            var (instruction, prompt) = MiniTokenizers.Make(work.FullName);
            var config = MiniModelConfig.Create(instruction.VocabularySize, prompt.VocabularySize, queryTokens: 2);
            using var model = new TorchSam(config, seed: 1);
            var data = new TrainingData(config, instruction, prompt, Samples(1, 240));
            var language = default(LanguageStage);
            foreach (var create in (Func<Stage>[])[
                () => VisionStage.Create(model, data, data, 40, 1),
                () => (language = new LanguageStage(model, data, data)).Create("language",
                    n => !TorchSam.IsVision(n) && !TorchSam.IsAdapter(n), guided: false, 60, 1.2e-3f, 1),
                () => language!.Create("adapters", TorchSam.IsAdapter, guided: true, 20, 3e-3f, 1)])
            {
                var stage = create();
                var (first, last) = stage.Run(work.FullName);
                // Twenty steps of adapters on such a base say nothing; that they run is what is checked.
                if (stage.Name != "adapters" && !(last < first))
                {
                    Console.Error.WriteLine($"{stage.Name}: the loss went from {first:F3} to {last:F3}");
                    return 1;
                }
            }
            string folder = Path.Combine(work.FullName, "model");
            ModelExport.Write(model, work.FullName, folder);
            Console.WriteLine($"the engine's logits differ by at most {ParityCheck.Run(folder, null):G3}");
            return 0;
        }
        finally
        {
            work.Delete(recursive: true);
        }
    }

    private static int Train(string work, int seed, int queries, int sampleCount, int visionSteps, int languageSteps,
        int adapterSteps, int adapterSeed, bool control, string? output)
    {
        var clock = Stopwatch.StartNew();
        var (instruction, prompt) = MiniTokenizers.Make(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(work))!, "tokenizers"));
        var config = MiniModelConfig.Create(instruction.VocabularySize, prompt.VocabularySize, queries);
        using var model = new TorchSam(config, seed);
        Console.WriteLine($"{model.Parameters.Sum(p => p.Value.numel()) / 1e6:F2} M weights; drawing {sampleCount} samples");
        var data = new TrainingData(config, instruction, prompt, Samples(1000 + seed, sampleCount));
        // Other scenes of the same kind; the test split stays unseen.
        var validation = new TrainingData(config, instruction, prompt, Samples(99, 800));
        Console.WriteLine($"{data.Scenes.Count} pictures after {clock.Elapsed:hh\\:mm\\:ss}");

        var vision = VisionStage.Create(model, data, validation, visionSteps, seed).Run(work);
        var language = new LanguageStage(model, data, validation);
        Console.WriteLine($"features after {clock.Elapsed:hh\\:mm\\:ss}");
        language.Create("language", n => !TorchSam.IsVision(n) && !TorchSam.IsAdapter(n), guided: false, languageSteps, 1.2e-3f,
            seed).Run(work);
        if (control)
        {
            language.Create($"control-{adapterSeed}", n => !TorchSam.IsVision(n) && !TorchSam.IsAdapter(n), guided: false,
                adapterSteps, 3e-4f, adapterSeed).Run(work);
        }
        else if (adapterSteps > 0)
        {
            Restart(model, adapterSeed);
            language.Create($"adapters-{adapterSeed}", TorchSam.IsAdapter, guided: true, adapterSteps, 3e-3f, adapterSeed).Run(work);
        }
        Console.WriteLine($"after {clock.Elapsed:hh\\:mm\\:ss}");
        if (output is not null)
        {
            ModelExport.Write(model, Path.Combine(Path.GetDirectoryName(Path.GetFullPath(work))!, "tokenizers"), output);
            Console.WriteLine($"wrote {output}");
        }
        return 0;
    }

    /// <summary>Adapters as the reference starts them: <c>attn</c> by a linear layer's default, the exchange from zero.</summary>
    private static void Restart(TorchSam model, int seed)
    {
        using var fresh = new TorchSam(model.Config, seed);
        using var off = TorchSharp.torch.no_grad();
        foreach (var (name, parameter) in model.Parameters.Where(p => TorchSam.IsAdapter(p.Key)))
        {
            parameter.copy_(fresh.Parameters[name]);
        }
    }

    private static List<MiniSample> Samples(int seed, int count)
    {
        var generator = new MiniGenerator(seed, test: false);
        return [.. Enumerable.Range(0, count).Select(i => generator.Next(Mix[i % Mix.Length], (Placement)(i / Mix.Length % 3)))];
    }
}
