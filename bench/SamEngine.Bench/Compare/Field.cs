using SamEngine.Bench.MakeModel;

namespace SamEngine.Bench.Compare;

/// <summary>Who takes part. A peer that was not given or can't be used is named, with the reason.</summary>
internal sealed class Field(IReadOnlyList<Contender> own)
{
    private static readonly string[] s_torchItems = [WorkItems.Vision1, WorkItems.Vision5, WorkItems.Prefill, WorkItems.Decode, WorkItems.Beam5];
    private static readonly string[] s_onnxItems = [WorkItems.Vision1, WorkItems.Vision5];
    private readonly List<Contender> _contenders = [.. own];
    private readonly List<(string Peer, string Reason)> _absent = [];

    public IReadOnlyList<string> Own { get; } = [.. own.Select(o => o.Name)];

    public IReadOnlyList<Contender> Contenders => _contenders;

    public IReadOnlyList<(string Peer, string Reason)> Absent => _absent;

    /// <summary>libtorch and ONNX Runtime, both in <c>SamEngine.Peers</c>.</summary>
    public void AddLibraries(string? program, string? source, string[] torchFormats, int torchLayers, IReadOnlyList<(string Format, string File)> onnx)
    {
        program ??= FindPeers();
        string? missing = program is null ? "SamEngine.Peers is not built; dotnet build -c Release bench/SamEngine.Peers, or give --peers PATH"
            : File.Exists(program) ? null : $"--peers '{program}' does not exist";
        if (missing is null && source is not null)
        {
            foreach (string format in torchFormats)
            {
                _contenders.Add(new LibraryPeer(program!, "torch", format, s_torchItems,
                    ["--source", source, "--layers", torchLayers.ToString(System.Globalization.CultureInfo.InvariantCulture)]));
            }
        }
        else
        {
            _absent.Add(("libtorch", missing ?? "no --source FOLDER given"));
        }
        if (onnx.Count == 0 || missing is not null)
        {
            _absent.Add(("ONNX Runtime", missing ?? "no --onnx FORMAT=FILE given"));
            return;
        }
        foreach (var (format, file) in onnx)
        {
            if (File.Exists(file))
            {
                _contenders.Add(new LibraryPeer(program!, "onnx", format, s_onnxItems, ["--onnx", file]));
            }
            else
            {
                _absent.Add(($"ONNX Runtime {format}", $"'{file}' does not exist"));
            }
        }
    }

    /// <summary>Every given program with every model file. Times of fewer layers than the whole model's can't be scaled from
    /// outside, so such a file is refused.</summary>
    public void AddLlama(string[] models, int layers, Dictionary<string, string> bench, Dictionary<string, string> batched,
        Dictionary<string, string> benchArguments, Dictionary<string, string> batchedArguments)
    {
        var labels = bench.Keys.Union(batched.Keys).ToList();
        foreach (string label in benchArguments.Keys.Union(batchedArguments.Keys).Except(labels))
        {
            throw new ContenderException(label, "has arguments but no --llama-bench or --llama-batched-bench");
        }
        if (labels.Count == 0)
        {
            _absent.Add(("llama.cpp and its like", "no --llama-bench or --llama-batched-bench given"));
        }
        else if (models.Length == 0)
        {
            _absent.Add((string.Join(", ", labels), "no --gguf FILE given"));
        }
        foreach (string label in labels.Where(_ => models.Length > 0))
        {
            string? program = bench.GetValueOrDefault(label);
            string? batchedProgram = batched.GetValueOrDefault(label);
            string? lacking = ((string?[])[program, batchedProgram, .. models]).FirstOrDefault(f => f is not null && !File.Exists(f));
            if (lacking is not null)
            {
                _absent.Add((label, $"'{lacking}' does not exist"));
                continue;
            }
            if (batchedProgram is null)
            {
                _absent.Add(($"{label} with {WorkItems.Beams} sequences", "no --llama-batched-bench given"));
            }
            foreach (string model in models)
            {
                if (GgufHeader.Read(model).Layers is var depth && depth != layers)
                {
                    _absent.Add(($"{label} {Path.GetFileName(model)}", $"it has {depth} of {layers} layers"));
                    continue;
                }
                _contenders.Add(new LlamaPeer(label, model, program, batchedProgram, Words(benchArguments, label), Words(batchedArguments, label)));
            }
        }
    }

    public async Task AddPillowAsync(string? python, string jpeg, CancellationToken cancellation)
    {
        if ((python is null ? "no --python PATH given" : await PillowPeer.WhyAbsentAsync(python, cancellation)) is { } reason)
        {
            _absent.Add(("Pillow", reason));
        }
        else
        {
            _contenders.Add(new PillowPeer(python!, jpeg));
        }
    }

    /// <summary>Rounds of children, one at a time; every other round in reverse, so that a machine that slows down or speeds up
    /// does not favour a place in the order.</summary>
    public async Task<Comparison> RunAsync(IReadOnlyCollection<string> items, int rounds, ChildSettings settings, TextWriter log,
        CancellationToken cancellation)
    {
        var reports = new List<IReadOnlyList<(string, ContenderReport)>>();
        var failures = new List<string>();
        var probes = new List<Ceilings> { Ceilings.Measure(settings.Threads) };
        var able = _contenders.Select(c => (Contender: c, Items: c.Items.Where(items.Contains).ToList())).Where(c => c.Items.Count > 0).ToList();
        for (int round = 0; round < rounds; round++)
        {
            var done = new List<(string, ContenderReport)>();
            foreach (var (contender, wanted) in round % 2 == 0 ? able : Enumerable.Reverse(able))
            {
                await log.WriteLineAsync(FormattableString.Invariant($"round {round + 1} of {rounds}: {contender.Name}: {string.Join(' ', wanted)}"));
                try
                {
                    done.Add((contender.Name, await contender.RunAsync(wanted, settings, cancellation)));
                }
                catch (ContenderException e)
                {
                    failures.Add(FormattableString.Invariant($"round {round + 1}: {e.Message}"));
                    await log.WriteLineAsync("FAILED: " + failures[^1]);
                }
            }
            reports.Add(done);
            probes.Add(Ceilings.Measure(settings.Threads));
        }
        return new Comparison(Own, reports, _absent, failures, settings.Rows, settings.Threads, probes);
    }

    private static string[] Words(Dictionary<string, string> arguments, string label) =>
        arguments.TryGetValue(label, out string? text) ? text.Split(' ', StringSplitOptions.RemoveEmptyEntries) : [];

    /// <summary>The peers' program as the build of the sources leaves it.</summary>
    private static string? FindPeers()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "SamEngine.sln")))
            {
                string program = Path.Combine(folder.FullName, "bench/SamEngine.Peers/bin/Release/net10.0/linux-x64/SamEngine.Peers");
                return File.Exists(program) ? program : null;
            }
        }
        return null;
    }
}
