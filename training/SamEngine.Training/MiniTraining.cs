using System.CommandLine;
using System.Diagnostics;
using SamEngine.Checkpoints;
using SamEngine.Data.Mini;
using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine.Training;

/// <summary>The commands: everything that makes SAM-mini.</summary>
internal static class MiniTraining
{
    private const int ValidationSamples = 1000;

    public static RootCommand Command()
    {
        var work = new Option<string>("--work") { Description = "Folder of checkpoints and logs", DefaultValueFactory = _ => "training/work/base1" };
        var seed = new Option<int>("--seed") { Description = "Seed of weights and batches", DefaultValueFactory = _ => 1 };
        var queries = new Option<int>("--queries") { Description = "Query tokens per picture", DefaultValueFactory = _ => 4 };
        var pictures = new Option<int>("--pictures") { Description = "Pictures to draw", DefaultValueFactory = _ => 48000 };
        var visionSteps = new Option<int>("--vision-steps") { DefaultValueFactory = _ => 6000 };
        var queriesSteps = new Option<int>("--queries-steps") { DefaultValueFactory = _ => 1000 };
        var wordsSteps = new Option<int>("--words-steps") { DefaultValueFactory = _ => 3000 };
        var languageSteps = new Option<int>("--language-steps") { DefaultValueFactory = _ => 9000 };
        var finishSteps = new Option<int>("--finish-steps") { DefaultValueFactory = _ => 5000 };
        var adapterSteps = new Option<int>("--adapter-steps") { DefaultValueFactory = _ => 400 };
        var adapterSeeds = new Option<int[]>("--adapter-seeds")
        {
            Description = "Seeds of the adapters; the model gets those of the first",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [1],
        };
        var controlSeeds = new Option<int[]>("--control-seeds")
        {
            Description = "Seeds of controls: the adapters' steps spent on unguided weights instead",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [],
        };
        var checkpoints = new Option<string?>("--checkpoints") { Description = "Folder for adapters-N.safetensors and control-N.safetensors" };
        var output = new Option<string?>("--out") { Description = "Model folder to write" };

        var train = new Command("train", "Base without guidance, then adapters; every part that is done is only loaded")
            { work, seed, queries, pictures, visionSteps, queriesSteps, wordsSteps, languageSteps, finishSteps, adapterSteps,
            adapterSeeds, controlSeeds, checkpoints, output };
        train.SetAction(parse => Train(parse.GetValue(work)!, parse.GetValue(seed), parse.GetValue(queries),
            parse.GetValue(pictures), parse.GetValue(visionSteps), parse.GetValue(queriesSteps), parse.GetValue(wordsSteps),
            parse.GetValue(languageSteps), parse.GetValue(finishSteps), parse.GetValue(adapterSteps),
            parse.GetValue(adapterSeeds)!, parse.GetValue(controlSeeds)!, parse.GetValue(checkpoints), parse.GetValue(output)));
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
        var tableWork = new Option<string>("--work") { Description = "Folder of test data and answers", DefaultValueFactory = _ => "training/work/table" };
        var samples = new Option<int>("--samples") { Description = "Samples of the test split", DefaultValueFactory = _ => 2400 };
        var document = new Option<string?>("--document") { Description = "File whose table to replace" };
        var table = new Command("table", "Evaluate the committed checkpoints, guided and not, and print the table")
            { tableWork, samples, document };
        table.SetAction((parse, _) => ExperimentTable.RunAsync([("K=4", "models/sam-mini"), ("K=1", "training/checkpoints/K=1/model")],
            "training/checkpoints", parse.GetValue(tableWork)!, parse.GetValue(samples), parse.GetValue(document)));
        var logs = new Argument<string>("work") { Description = "Folder of a training" };
        var picture = new Argument<string>("png") { Description = "Picture to write" };
        var curves = new Command("curves", "Draw the losses of a training") { logs, picture };
        curves.SetAction(parse => Curves.Draw(parse.GetRequiredValue(logs), parse.GetRequiredValue(picture)));
        return new RootCommand("Trains SAM-mini") { train, quick, parity, table, curves };
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
            var pool = new ScenePool(1, 3600, 100);
            var data = new TrainingData(config, instruction, prompt, pool.Scenes);
            var (validationData, validation) = Validation(config, instruction, prompt, 40);
            var language = default(LanguageStage);
            foreach (var create in (Func<Stage>[])[
                () => VisionStage.Create(model, new Lazy<TrainingData>(data), validationData, 40, 1),
                () => (language = new LanguageStage(model, pool, data, validationData, validation)).CreateQueries(20, 1),
                () => language!.Create("language", n => !TorchSam.IsVision(n) && !TorchSam.IsAdapter(n), guided: false, 60, 1.2e-3f, 1, Mix.Words),
                () => language!.Create("adapters", TorchSam.IsAdapter, guided: true, 20, 3e-3f, 1, Mix.Comparing)])
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
            double packing = Math.Max(language!.PackingError(guided: false), language.PackingError(guided: true));
            if (!(packing < ParitySamples.Tolerance))
            {
                Console.Error.WriteLine($"samples computed together differ by {packing:G3} from each alone");
                return 1;
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

    private static int Train(string work, int seed, int queries, int pictures, int visionSteps, int queriesSteps,
        int wordsSteps, int languageSteps, int finishSteps, int adapterSteps, int[] adapterSeeds, int[] controlSeeds,
        string? checkpoints, string? output)
    {
        var clock = Stopwatch.StartNew();
        var (instruction, prompt) = MiniTokenizers.Make(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(work))!, "tokenizers"));
        var config = MiniModelConfig.Create(instruction.VocabularySize, prompt.VocabularySize, queries);
        using var model = new TorchSam(config, seed);
        Console.WriteLine($"{model.Parameters.Sum(p => p.Value.numel()) / 1e6:F2} M weights; drawing {pictures} pictures");
        var (validationData, validation) = Validation(config, instruction, prompt, ValidationSamples);
        // Half of the pictures in fours: a scene and its changes.
        ScenePool Pool(int number) => new(1000 * number + seed, pictures / 2, pictures / 8);
        TrainingData Draw(ScenePool scenes)
        {
            var drawn = new TrainingData(config, instruction, prompt, scenes.Scenes);
            Console.WriteLine($"drawn after {clock.Elapsed:hh\\:mm\\:ss}");
            return drawn;
        }
        VisionStage.Create(model, new Lazy<TrainingData>(() => Draw(Pool(1))), validationData, visionSteps, seed).Run(work);
        // Other pictures than the vision encoder learnt from: its features of those are better than of any others.
        LanguageStage Language(int number, LanguageStage? before = null)
        {
            var pool = Pool(number);
            var stage = new LanguageStage(model, pool, Draw(pool), validationData, validation, before);
            Console.WriteLine($"features after {clock.Elapsed:hh\\:mm\\:ss}");
            return stage;
        }
        var language = Language(2);
        language.CreateQueries(queriesSteps, seed).Run(work);
        static bool Unguided(string name) => !TorchSam.IsVision(name) && !TorchSam.IsAdapter(name);
        void Keep(string name, Func<string, bool> which)
        {
            if (checkpoints is not null)
            {
                Directory.CreateDirectory(checkpoints);
                Checkpoint.Save(Path.Combine(checkpoints, name + ".safetensors"), model.Parameters.Where(p => which(p.Key))
                    .Select(p => (p.Key, (TorchSharp.torch.Tensor)p.Value)), TensorDType.F16);
            }
        }
        language.Create("words", Unguided, guided: false, wordsSteps, 1.2e-3f, seed, Mix.Words).Run(work);
        language.Create("language", Unguided, guided: false, languageSteps, 1.2e-3f, seed, Mix.Comparing).Run(work);
        // And others again: what was learnt by heart of the last ones does not help here.
        language = Language(3, language);
        void Base() => language.Create("finish", Unguided, guided: false, finishSteps, 6e-4f, seed + 100, Mix.Comparing).Run(work);
        Base();
        void Adapters(int adapterSeed)
        {
            Restart(model, adapterSeed);
            language.Create($"adapters-{adapterSeed}", TorchSam.IsAdapter, guided: true, adapterSteps, 3e-3f, adapterSeed, Mix.Comparing).Run(work);
        }
        foreach (int adapterSeed in adapterSeeds.Reverse())
        {
            Adapters(adapterSeed);
            Keep($"adapters-{adapterSeed}", TorchSam.IsAdapter);
        }
        Console.WriteLine($"after {clock.Elapsed:hh\\:mm\\:ss}");
        if (output is not null)
        {
            ModelExport.Write(model, Path.Combine(Path.GetDirectoryName(Path.GetFullPath(work))!, "tokenizers"), output);
            Console.WriteLine($"wrote {output}");
        }
        foreach (int controlSeed in controlSeeds)
        {
            Base();
            language.Create($"control-{controlSeed}", Unguided, guided: false, adapterSteps, 3e-4f, controlSeed, Mix.Comparing).Run(work);
            Keep($"control-{controlSeed}", Unguided);
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

    /// <summary>Samples as the test split's are made, of other scenes and without held-out pairs; the test split stays
    /// unseen.</summary>
    private static (TrainingData Data, List<TrainingSample> Samples) Validation(SamConfig config, QFormerTokenizer instruction,
        VicunaTokenizer prompt, int count)
    {
        var generator = new MiniGenerator(99, test: false);
        var samples = Enumerable.Range(0, count).Select(i => generator.Next((MiniFamily)(i % 4), (Placement)(i / 4 % 3))).ToList();
        var data = new TrainingData(config, instruction, prompt, [.. samples.SelectMany(s => s.Scenes)]);
        int first = 0;
        return (data, [.. samples.Select(s =>
        {
            first += s.Scenes.Count;
            return data.Encode(s, [.. Enumerable.Range(first - s.Scenes.Count, s.Scenes.Count)]);
        })]);
    }
}
