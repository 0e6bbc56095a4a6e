using System.CommandLine;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Cuda;
using SamEngine.Model;

namespace SamEngine.Cli;

/// <summary>Options of every command that loads a model.</summary>
internal sealed class ModelOptions
{
    private readonly Option<string?> _model = CommandOptions.Path("--model",
        $"Model folder, as 'sam model convert' writes it ({BundledModel.Name}, which comes with the command)", "-m");

    private readonly Option<BackendName?> _backend = CommandOptions.Choice<BackendName>("--backend",
        "Where to compute; auto: on a GPU that CUDA, else ILGPU, can use, else on the processor (auto)");

    private readonly Option<int?> _device = CommandOptions.Whole<int>("--device",
        "Device of --backend cuda or ilgpu, as 'sam doctor' numbers them (the first GPU; ilgpu: else ILGPU's CPU accelerator)", least: 0);

    private readonly Option<CudaActivationType?> _activations = CommandOptions.Choice<CudaActivationType>("--activations",
        "Type of activations on --backend cuda; f32 is slow and exact (f16)");

    private readonly Option<string?> _weights = new("--weights")
    {
        Description = "Weight formats in memory: f32, f16, bf16, q8 or q4, or by part: vision=q8,qformer=bf16,llm=q4 (as stored)",
    };

    private readonly Option<string?> _adapters = CommandOptions.Path("--adapters",
        "A file with SAM's trained tensors to put over the folder's: safetensors, or with --allow-torch .pth");

    private readonly Option<bool> _allowTorch = new("--allow-torch")
    {
        Description = "Open torch files (.bin, .pth) too (nothing in them is executed)",
    };

    private readonly Option<bool> _noMmap = new("--no-mmap")
    {
        Description = "Read weight files instead of mapping them (when they may change while in use)",
    };

    private readonly Option<int?> _threads = CommandOptions.Whole<int>("--threads", "Most threads; 0: one per processor (0)");

    private readonly Option<string?> _isa = new("--isa") { Description = "Instruction set: scalar, avx2, avx512, avx512-vnni, avx512-bf16 (the best there is)" };

    private readonly Option<int?> _kvTokens = CommandOptions.Whole<int>("--kv-tokens",
        "Tokens of key/value memory; 0: twice the context, or what the request needs (0)");

    public void AddTo(Command command)
    {
        command.Options.Add(_model);
        command.Options.Add(_backend);
        command.Options.Add(_device);
        command.Options.Add(_activations);
        command.Options.Add(_weights);
        command.Options.Add(_adapters);
        command.Options.Add(_allowTorch);
        command.Options.Add(_noMmap);
        command.Options.Add(_threads);
        command.Options.Add(_isa);
        command.Options.Add(_kvTokens);
    }

    /// <summary>Loads the model, with room for <paramref name="request"/> where <c>--kv-tokens</c> is not given, showing progress and
    /// the checkpoint's notes on standard error unless <paramref name="quiet"/>.</summary>
    public async Task<SamModel> LoadAsync(ParseResult parsed, bool quiet, CancellationToken cancellation,
        GenerationOptions? request = null)
    {
        var selection = BackendSelection.Choose(parsed.GetValue(_backend) ?? BackendName.Auto, parsed.GetValue(_device),
            parsed.GetValue(_activations));
        string? named = parsed.GetValue(_model);
        string folder = named ?? BundledModel.Require();
        var options = new SamModelOptions
        {
            BackendProvider = selection.Provider,
            Weights = parsed.GetValue(_weights) is { } weights ? WeightFormats.Parse(weights) : null,
            Adapters = CommandOptions.MustExist(parsed.GetValue(_adapters)),
            AllowTorchFiles = parsed.GetValue(_allowTorch),
            UseMmap = !parsed.GetValue(_noMmap),
            Threads = parsed.GetValue(_threads) ?? 0,
            InstructionSet = parsed.GetValue(_isa),
            KvCacheTokens = parsed.GetValue(_kvTokens) is { } tokens and not 0 ? tokens : RoomFor(request, folder),
        };
        var model = await ProgressBar.WaitAsync("loading", report => SamModel.LoadAsync(folder, options,
            new Reports<LoadProgress>(p => report(p.BytesDone, p.BytesTotal)), cancellation), quiet);
        if (!quiet)
        {
            foreach (string note in model.Info.Notes)
            {
                await Console.Error.WriteLineAsync("note: " + note);
            }
            var backend = model.Info.Backend;
            // Its long path in an installed tool is doctor's and --json's to say.
            string name = named ?? $"{BundledModel.Name} (bundled)";
            await Console.Error.WriteLineAsync(
                $"model: {name}, {Units.Bytes(model.Info.WeightBytes)} of weights, backend: {backend.Name} " +
                $"{backend.InstructionSet}, {(backend.Threads > 0 ? $"{backend.Threads} threads " : "")}({backend.Device}){selection.Reason}");
        }
        return model;
    }

    /// <summary>Tokens of key/value memory for the request; 0, the model's own choice, where that holds it.</summary>
    private static int RoomFor(GenerationOptions? request, string folder)
    {
        string config = Path.Combine(folder, SamCheckpoint.ConfigName);
        if (request is null || (request.NumBeams ?? request.MaxLength) is null || !File.Exists(config))
        {
            return 0;
        }
        var model = PortConfig.LoadEither(config);
        int tokens = InferenceEngine.CacheTokens(model, request);
        return tokens > InferenceEngine.CacheTokens(model, new GenerationOptions()) ? tokens : 0;
    }

    /// <summary>What a loaded model's answers depend on, for runs whose parts must agree: the folder and what its files are, how
    /// its weights are held and what computes.</summary>
    public IReadOnlyDictionary<string, string> Settings(ParseResult parsed, SamModel model) => new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["model"] = Path.GetFullPath(model.Info.Folder),
        ["model_files"] = Fingerprint(model.Info.Folder, parsed.GetValue(_adapters)),
        ["adapters"] = parsed.GetValue(_adapters) is { } adapters ? Path.GetFullPath(adapters) : "the model's",
        ["weights"] = parsed.GetValue(_weights) is { } weights ? WeightFormats.Parse(weights).ToString() : "as stored",
        ["backend"] = $"{model.Info.Backend.Name} {model.Info.Backend.InstructionSet}",
    };

    /// <summary>Names, sizes and times of the files: reading all of a large model would take longer than loading it.</summary>
    private static string Fingerprint(string folder, string? adapters)
    {
        var text = new StringBuilder();
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
            .Concat(adapters is null ? [] : (string[])[adapters]))
        {
            var info = new FileInfo(file);
            text.Append(CultureInfo.InvariantCulture, $"{Path.GetRelativePath(folder, file)} {info.Length} {info.LastWriteTimeUtc.Ticks}\n");
        }
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())))[..16];
    }
}

internal static class Json
{
    /// <summary>Other scripts stay readable; only what JSON must escape is escaped.</summary>
    public static JsonWriterOptions Options { get; } = new()
    {
        Indented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };
}

internal static class Units
{
    public static string Bytes(long bytes) => bytes switch
    {
        >= 1L << 30 => FormattableString.Invariant($"{bytes / (double)(1L << 30):0.0} GiB"),
        >= 1L << 20 => FormattableString.Invariant($"{bytes / (double)(1L << 20):0.0} MiB"),
        _ => FormattableString.Invariant($"{bytes / 1024.0:0.0} KiB"),
    };

    public static string Time(TimeSpan time) => time.TotalSeconds >= 1
        ? FormattableString.Invariant($"{time.TotalSeconds:0.00} s")
        : FormattableString.Invariant($"{time.TotalMilliseconds:0.0} ms");
}
