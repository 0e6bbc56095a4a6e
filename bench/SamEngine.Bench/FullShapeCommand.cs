using System.CommandLine;
using System.Diagnostics;
using SamEngine.Checkpoints;
using SamEngine.Imaging;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary><c>full-shape</c>: that a mapped model of the published shape answers a five-image request with little memory of
/// its own.</summary>
internal static class FullShapeCommand
{
    private const int Images = 5;
    private const int Words = 16;
    private const int PromptIds = 16;
    private const long Spare = 1_000_000_000;

    public static Command Create()
    {
        var folder = new Argument<string>("folder") { Description = "Model folder; when it is missing, InstructBLIP-Vicuna-7B's shape is written there with random bf16 weights (16 GB)" };
        var beams = new Option<int>("--beams") { Description = "Beams of the search", DefaultValueFactory = _ => 5 };
        var tokens = new Option<int>("--tokens") { Description = "Tokens to generate", DefaultValueFactory = _ => 8 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var command = new Command("full-shape", "Loads a mapped model, describes five pictures, compares anonymous memory with keys, values, " +
            "workspace and 1 GB; exit code 1 when there is more")
        {
            folder, beams, tokens, threads,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            string path = parsed.GetRequiredValue(folder);
            if (!SafetensorsFolder.IsIn(path))
            {
                await Console.Error.WriteLineAsync("writing " + path);
                RandomModelWriter.Write(path, SamConfig.Published, "bf16", 1, null, cancellation);
            }
            using var memory = new ProcessMemory();
            bool holds = await RunAsync(path, parsed.GetValue(beams), parsed.GetValue(tokens), parsed.GetValue(threads), memory,
                cancellation);
            return holds ? 0 : 1;
        });
        return command;
    }

    private static async Task<bool> RunAsync(string path, int beams, int tokens, int threads, ProcessMemory memory,
        CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        using var model = await SamModel.LoadAsync(path, new SamModelOptions { Threads = threads }, null, cancellation);
        var config = model.Info.Config;
        var output = Console.Out;
        var backend = model.Info.Backend;
        output.WriteLine($"{model.Info.WeightBytes / 1e9:0.00} GB of weights mapped in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s; " +
            $"{backend.InstructionSet} kernels, {backend.Threads} threads, {backend.Device}");

        start = Stopwatch.GetTimestamp();
        var input = Samples.Request(config, Images, Words, Images * config.QFormer.QueryTokens + PromptIds);
        var preprocessor = new ImagePreprocessor(config.Vision.ImageSize, ImagePreprocessor.ReferenceMean,
            ImagePreprocessor.ReferenceStd, new ImageLimits());
        preprocessor.Load([.. Enumerable.Range(0, Images).Select(i => SamImage.FromBytes(Samples.Jpeg(i)))], input.Pixels, cancellation);
        double pictures = Stopwatch.GetElapsedTime(start).TotalSeconds;

        var run = await EngineRun.RunAsync(model, input, beams, tokens, EngineStage.Decode);
        int rows = model.Engine.PromptRows(input);
        output.WriteLine($"{Images} pictures made and read in {pictures:0.0} s, vision {run.Vision.Total:0.0} s, Q-Former " +
            $"{run.QFormer.Total:0.0} s, prefill of {rows} rows {run.Prefill.Total:0.0} s, {run.Steps.Count} steps of {beams} beams " +
            $"{run.Steps.Average(s => s.Total):0.00} s each");
        output.WriteLine("ids: " + string.Join(' ', run.Tokens));

        // Only what the request used of the cache is backed by memory.
        var llm = config.Llm;
        long perToken = 2L * llm.Layers * llm.KeyValueHeads * llm.HeadDim * sizeof(float);
        long keysAndValues = perToken * (rows + (long)beams * tokens);
        long workspace = model.Engine.WorkspaceBytes;
        long allowed = keysAndValues + workspace + Spare;
        long peak = memory.PeakAnonymousBytes();
        output.WriteLine($"RssAnon {Megabytes(ProcessMemory.Read("RssAnon"))} now, {Megabytes(peak)} at most (looked at every " +
            $"{ProcessMemory.Interval.TotalMilliseconds:0} ms); VmHWM {Megabytes(ProcessMemory.Read("VmHWM"))}, mapped weights included");
        output.WriteLine($"allowed: keys and values {Megabytes(keysAndValues)} + workspace {Megabytes(workspace)} + 1000 MB = {Megabytes(allowed)}");
        bool holds = peak <= allowed;
        output.WriteLine(holds ? "PASS: anonymous memory stays within the allowance" : "FAIL: more anonymous memory than allowed");
        return holds;
    }

    private static string Megabytes(long bytes) => FormattableString.Invariant($"{bytes / 1e6:0} MB");
}
