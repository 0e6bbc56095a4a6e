using System.CommandLine;
using System.Diagnostics;
using SamEngine.Decoding;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary><c>growth</c>: how the cost of a request grows with pictures, length of the prompt, beams, and with requests under way
/// together. Everything else is held: one picture, 224 rows, one beam.</summary>
internal static class GrowthCommand
{
    private const int Rows = 224;
    private const int Words = 16;
    private static readonly int[] PictureCounts = [1, 2, 3, 5, 8];
    private static readonly int[] RowCounts = [64, 128, 224, 512, 1024, 1900];
    private static readonly int[] BeamCounts = [1, 2, 3, 5, 8, 16];
    private static readonly int[] RequestCounts = [1, 2, 4, 8];

    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "Model folder", Required = true };
        var tokens = new Option<int>("--tokens") { Description = "Tokens to generate", DefaultValueFactory = _ => 16 };
        var runs = new Option<int>("--runs") { Description = "Timed runs of each; the median is printed", DefaultValueFactory = _ => 3 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var command = new Command("growth", "How cost grows with pictures, prompt, beams and concurrent requests") { model, tokens, runs, threads };
        command.SetAction(async (parsed, cancellation) =>
        {
            using var loaded = await SamModel.LoadAsync(parsed.GetRequiredValue(model),
                new SamModelOptions { Threads = parsed.GetValue(threads) }, cancellationToken: cancellation);
            var bench = new Growth(loaded, Math.Max(2, parsed.GetValue(tokens)), Math.Max(1, parsed.GetValue(runs)));
            await bench.RunAsync(Console.Out);
        });
        return command;
    }

    private sealed class Growth(SamModel model, int tokens, int runs)
    {
        private readonly SamConfig _config = model.Info.Config;

        public async Task RunAsync(TextWriter output)
        {
            output.WriteLine($"{model.Info.Backend.Device}, {model.Info.Backend.Threads} threads, {model.Info.Backend.InstructionSet}; " +
                $"{tokens} tokens, medians of {runs}");
            int longest = _config.Llm.MaxPositions - tokens;
            int visual = _config.QFormer.QueryTokens;
            await OneAsync(1, Rows, 1);
            output.WriteLine("\n| pictures (64 rows of prompt beside) | vision | Q-Former | prefill | step |\n| ---: | ---: | ---: | ---: | ---: |");
            foreach (int images in PictureCounts.Where(i => i * visual + 64 <= longest))
            {
                var (vision, qformer, prefill, step) = await OneAsync(images, images * visual + 64, 1);
                output.WriteLine($"| {images} | {Time(vision)} | {Time(qformer)} | {Time(prefill)} | {Time(step)} |");
            }
            output.WriteLine("\n| rows | prefill | a row | step |\n| ---: | ---: | ---: | ---: |");
            foreach (int rows in RowCounts.Where(r => r > visual && r <= longest))
            {
                var (_, _, prefill, step) = await OneAsync(1, rows, 1);
                output.WriteLine($"| {rows} | {Time(prefill)} | {Time(prefill / rows)} | {Time(step)} |");
            }
            output.WriteLine("\n| beams | step | against one |\n| ---: | ---: | ---: |");
            double one = 0;
            foreach (int beams in BeamCounts)
            {
                var (_, _, _, step) = await OneAsync(1, Rows, beams);
                one = beams == 1 ? step : one;
                output.WriteLine($"| {beams} | {Time(step)} | {step / one:0.00} |");
            }
            output.WriteLine("\n| requests at once | first token of the last | all done | tokens/s, all together |\n| ---: | ---: | ---: | ---: |");
            foreach (int requests in RequestCounts)
            {
                var times = new List<(double First, double All)>();
                for (int i = 0; i < runs; i++)
                {
                    times.Add(await TogetherAsync(requests));
                }
                double all = Median(times.Select(t => t.All));
                output.WriteLine($"| {requests} | {Time(Median(times.Select(t => t.First)))} | {Time(all)} | {requests * tokens / all:0.0} |");
            }
        }

        private static double Median(IEnumerable<double> values)
        {
            double[] sorted = [.. values.Order()];
            return sorted[sorted.Length / 2];
        }

        private static string Time(double seconds) => seconds >= 1 ? $"{seconds:0.00} s" : $"{1000 * seconds:0.0} ms";

        /// <summary>Medians in seconds; of a step: over all steps but the first.</summary>
        private async Task<(double Vision, double QFormer, double Prefill, double Step)> OneAsync(int images, int rows, int beams)
        {
            var input = Samples.Request(_config, images, Words, rows);
            var all = new List<EngineRun>();
            for (int i = 0; i < runs; i++)
            {
                all.Add(await EngineRun.RunAsync(model, input, beams, tokens, EngineStage.Decode));
            }
            return (Median(all.Select(r => r.Vision.Total)), Median(all.Select(r => r.QFormer.Total)),
                Median(all.Select(r => r.Prefill.Total)), Median(all.SelectMany(r => r.Steps.Skip(1)).Select(s => s.Total)));
        }

        /// <summary>Requests submitted together: seconds until the last has its first token, and until all are done.</summary>
        private async Task<(double First, double All)> TogetherAsync(int requests)
        {
            var input = Samples.Request(_config, 1, Words, Rows);
            var llm = _config.Llm;
            var options = new GenerationOptions { NumBeams = 1, MaxLength = tokens + 1, MinLength = tokens + 1 };
            long start = Stopwatch.GetTimestamp();
            double[] first = new double[requests];
            var work = Enumerable.Range(0, requests).Select(i =>
            {
                var settings = GenerationSettings.Create(options, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
                return new GenerationWork(input, settings, TokenSearch.Create(settings),
                    _ => first[i] = first[i] == 0 ? Stopwatch.GetElapsedTime(start).TotalSeconds : first[i], CancellationToken.None);
            }).ToList();
            work.ForEach(model.Engine.Submit);
            await Task.WhenAll(work.Select(w => w.Completion));
            return (first.Max(), Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
    }
}
