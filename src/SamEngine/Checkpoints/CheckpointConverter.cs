using System.Text.Json;
using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine.Checkpoints;

/// <summary>What to convert.</summary>
public sealed record ConvertOptions
{
    /// <summary>The LAVIS checkpoint with the vision encoder, Q-Former and projection (<c>.pth</c>); needs
    /// <see cref="Llm"/> beside it.</summary>
    public string? InstructBlip { get; init; }

    /// <summary>Instead of <see cref="InstructBlip"/> and <see cref="Llm"/>: the folder of the Hugging Face port of
    /// InstructBLIP, which holds both.</summary>
    public string? HuggingFace { get; init; }

    /// <summary>The SAM checkpoint with the trained adapters (<c>.pth</c>); null converts plain InstructBLIP.</summary>
    public string? Sam { get; init; }

    /// <summary>The language model's Hugging Face folder.</summary>
    public string? Llm { get; init; }

    /// <summary>bert-base-uncased <c>vocab.txt</c> for the Q-Former; null takes the port's, or leaves it out.</summary>
    public string? BertVocabulary { get; init; }

    /// <summary>Where to write; must not exist, or be empty.</summary>
    public required string Output { get; init; }

    /// <summary>Type of the weight matrices: "f32", "f16", "bf16".</summary>
    public string DType { get; init; } = "bf16";

    /// <summary>A config.json with what the checkpoints do not state (heads, eps) or state differently.</summary>
    public string? Config { get; init; }

    /// <summary>Bytes of a shard.</summary>
    public long MaxShardBytes { get; init; } = 4L << 30;
}

/// <summary>How far a conversion is.</summary>
/// <param name="Tensor">The tensor being written.</param>
/// <param name="BytesDone">Bytes written.</param>
/// <param name="BytesTotal">Bytes to write.</param>
public readonly record struct ConvertProgress(string Tensor, long BytesDone, long BytesTotal);

/// <summary>
/// Writes one model folder from the published checkpoints: configuration, sharded safetensors under the canonical names,
/// tokenizer files, generation defaults. Tensors are streamed, so memory stays bounded; the folder gets its name only when
/// it is complete.
/// </summary>
public static class CheckpointConverter
{
    private const int PieceElements = 1 << 20;

    /// <summary>Converts.</summary>
    /// <param name="options">What, whereto and how.</param>
    /// <param name="progress">Told of every tensor.</param>
    /// <param name="cancellation">Stops between pieces of tensors; nothing is left behind.</param>
    /// <returns>Notes a user should see.</returns>
    /// <exception cref="RequestException">The options do not go together.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="CheckpointException">An input is not what it should be; nothing is left behind.</exception>
    /// <exception cref="OutputException">The output can't be written; nothing is left behind.</exception>
    public static IReadOnlyList<string> Convert(ConvertOptions options, IProgress<ConvertProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        var dtype = options.DType.ToUpperInvariant() switch
        {
            "F32" => TensorDType.F32,
            "F16" => TensorDType.F16,
            "BF16" => TensorDType.BF16,
            _ => throw new RequestException(nameof(options.DType), $"is '{options.DType}', expected f32, f16 or bf16"),
        };
        bool isPort = options.HuggingFace is not null;
        foreach (var (name, value, other) in (IEnumerable<(string, string?, string)>)[
            (nameof(options.InstructBlip), options.InstructBlip, nameof(options.Llm)),
            (nameof(options.Llm), options.Llm, nameof(options.InstructBlip))])
        {
            if (isPort && value is not null)
            {
                throw new RequestException(name, $"is given beside {nameof(options.HuggingFace)}, which holds both; leave one out");
            }
            if (!isPort && value is null)
            {
                throw new RequestException(name, $"is missing; expected {name} and {other}, or {nameof(options.HuggingFace)} instead of both");
            }
        }
        string output = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(options.Output));
        OutputFolder.Require(output, mustBeEmpty: true);
        using var sources = new Sources(options);
        NoteLeftovers(output, sources.Notes);
        OutputFolder.Fill(output, partial => sources.Write(partial, dtype, progress, cancellation));
        return sources.Notes;
    }

    /// <summary>A conversion that was killed could not clear up; another one may still be running, so this is the user's to
    /// decide.</summary>
    private static void NoteLeftovers(string output, List<string> notes)
    {
        if (System.IO.Path.GetDirectoryName(output) is { } parent && Directory.Exists(parent))
        {
            notes.AddRange(Directory.EnumerateDirectories(parent, System.IO.Path.GetFileName(output) + ".partial-*")
                .Select(left => $"{left} is from a conversion that did not end; remove it unless one is still running"));
        }
    }

    /// <summary>The opened inputs under canonical names.</summary>
    private sealed class Sources : IDisposable
    {
        private readonly ConvertOptions _options;
        private readonly List<TensorStore> _stores = [];
        private readonly SortedDictionary<string, (TensorStore Store, string Name)> _homes = new(StringComparer.Ordinal);
        private readonly SamConfig _config;
        private readonly string _llmFolder;
        private readonly int _embedded;
        private readonly bool _appendPad;
        private readonly bool _hasUntrainedPad;

        public Sources(ConvertOptions options)
        {
            _options = options;
            _llmFolder = options.HuggingFace ?? options.Llm!;
            try
            {
                string tokenizer = System.IO.Path.Combine(_llmFolder, SamCheckpoint.TokenizerName);
                int? pieces = File.Exists(tokenizer) ? VicunaTokenizer.Load(tokenizer).PieceCount : null;
                if (options.HuggingFace is { } port)
                {
                    // Rows behind [PAD] stand for nothing that a text has.
                    var store = PortStore.Wrap(OpenFolder(port), pieces + 1 ?? int.MaxValue);
                    if (store is not PortStore)
                    {
                        store.Dispose();
                        throw new CheckpointException(port, "has no tensors 'vision_model.*'; expected the Hugging Face port " +
                            "of InstructBLIP (InstructBlipForConditionalGeneration)");
                    }
                    Add(store, "");
                }
                else
                {
                    Add(TorchZipFile.Open(options.InstructBlip!), "");
                }
                if (options.Sam is not null)
                {
                    Add(TorchZipFile.Open(options.Sam), "");
                }
                else
                {
                    Notes.Add("no SAM checkpoint was given: the result is plain InstructBLIP, images do not guide each other");
                }
                if (options.Llm is { } llm)
                {
                    Add(OpenFolder(llm), "llm_model.");
                }
                _embedded = Rows(SamCheckpoint.EmbeddingName);
                _appendPad = pieces == _embedded;
                _hasUntrainedPad = pieces + 1 == _embedded;
                var stated = options.HuggingFace is { } folder ? StatedByPort(folder) : Stated(_llmFolder);
                _config = options.Config is { } path ? SamConfig.Load(path, stated) : stated;
                if (_appendPad && _config.Llm.VocabularySize == _embedded)
                {
                    _config = _config with
                    {
                        Llm = _config.Llm with { VocabularySize = _embedded + 1, PadTokenId = _embedded },
                    };
                }
                CheckTensors();
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public List<string> Notes { get; } = [];

        public void Write(string folder, TensorDType dtype, IProgress<ConvertProgress>? progress, CancellationToken cancellation)
        {
            var skipped = _homes.Keys.Where(SamCheckpoint.IsSuperfluous).ToList();
            if (skipped.Count > 0)
            {
                Notes.Add($"left out {skipped.Count} tensors the model does not need, such as {skipped[0]}");
            }
            var tensors = new List<(string Name, TensorDType DType, long[] Shape)>();
            foreach (string name in _homes.Keys.Except(skipped))
            {
                var tensor = Get(name);
                tensors.Add((name, StoredAs(tensor, dtype), WrittenShape(name, tensor)));
                Release(name);
            }
            var shards = Shards(tensors);
            long total = tensors.Sum(t => SafetensorsWriter.ByteLength(t.DType, t.Shape));
            long done = 0;
            var map = new SortedDictionary<string, string>(StringComparer.Ordinal);
            for (int i = 0; i < shards.Count; i++)
            {
                string file = shards.Count == 1 ? SafetensorsFolder.SingleName
                    : $"model-{i + 1:00000}-of-{shards.Count:00000}.safetensors";
                using var writer = new SafetensorsWriter(System.IO.Path.Combine(folder, file), shards[i],
                    new Dictionary<string, string> { ["format"] = "pt" });
                foreach (var (name, type, shape) in shards[i])
                {
                    cancellation.ThrowIfCancellationRequested();
                    progress?.Report(new ConvertProgress(name, done, total));
                    WriteTensor(writer, name, type);
                    done += SafetensorsWriter.ByteLength(type, shape);
                    map.Add(name, file);
                }
                writer.Complete();
            }
            if (shards.Count > 1)
            {
                ShardIndex.Write(System.IO.Path.Combine(folder, SafetensorsFolder.IndexName),
                    map.Select(e => (e.Key, e.Value)), total);
            }
            WriteRest(folder);
            // The result must load; a tensor that is missing or misshapen is named now, not at the first use.
            using (var written = SamCheckpoint.Open(folder))
            {
                CheckpointShapes.Check(written);
            }
            progress?.Report(new ConvertProgress("", total, total));
        }

        public void Dispose()
        {
            foreach (var store in _stores)
            {
                store.Dispose();
            }
        }

        private static TensorStore OpenFolder(string folder)
        {
            if (!Directory.Exists(folder))
            {
                throw new CheckpointException(folder, "is not a folder; expected a Hugging Face model folder");
            }
            return SafetensorsFolder.IsIn(folder) ? SafetensorsFolder.Open(folder)
                : TorchFolder.IsIn(folder) ? TorchFolder.Open(folder)
                : throw new CheckpointException(folder, $"has no {SafetensorsFolder.SingleName}, {TorchFolder.SingleName}, " +
                    "or an index of shards of either");
        }

        /// <summary>Compares names, shapes and types with what the configuration describes, before anything is written.</summary>
        private void CheckTensors()
        {
            const int Enough = 1000;
            var expected = new HashSet<string>(StringComparer.Ordinal);
            bool hasAdapters = _homes.Keys.Any(SamCheckpoint.IsAdapter);
            var wrong = new List<string>();
            foreach (var (name, shape) in RandomModelWriter.Tensors(_config).TakeWhile(_ => wrong.Count < Enough))
            {
                expected.Add(name);
                if (!_homes.ContainsKey(name))
                {
                    if (hasAdapters || !SamCheckpoint.IsAdapter(name))
                    {
                        string stored = _options.HuggingFace is null ? name : PortNames.FromCanonical(name);
                        wrong.Add($"{SamCheckpoint.Both(stored, name)} is missing");
                    }
                    continue;
                }
                var tensor = Get(name);
                if (!WrittenShape(name, tensor).AsSpan().SequenceEqual(shape))
                {
                    wrong.Add($"{SamCheckpoint.Both(tensor.Name, name)} is [{string.Join(", ", tensor.Shape)}], expected " +
                        $"[{string.Join(", ", shape)}]");
                }
                else if (!tensor.DType.IsFloat())
                {
                    wrong.Add($"{SamCheckpoint.Both(tensor.Name, name)} is {tensor.DType}, expected floating point");
                }
                Release(name);
            }
            if (wrong.Count < Enough)
            {
                wrong.AddRange(_homes.Keys.Where(n => !expected.Contains(n) && !SamCheckpoint.IsSuperfluous(n))
                    .Select(n => $"'{n}' ({Home(n).FileOf(_homes[n].Name)}) is not part of the model"));
            }
            if (wrong.Count > 0)
            {
                throw new CheckpointException(_options.HuggingFace ?? _options.InstructBlip!,
                    $"and the other inputs do not hold the model that their shapes and {SamCheckpoint.ConfigName} describe: tensor " +
                    string.Join("; ", wrong.Take(8)) + (wrong.Count > 8 ? $"; and {wrong.Count - 8} more" : ""));
            }
        }

        private long[] WrittenShape(string name, TensorData tensor)
        {
            long[] shape = [.. tensor.Shape];
            if (IsPadded(name) && shape.Length > 0)
            {
                shape[0]++;
            }
            return shape;
        }

        private void Add(TensorStore store, string prefix)
        {
            _stores.Add(store);
            foreach (string name in store.Names)
            {
                if (prefix.Length > 0 && _homes.TryGetValue(prefix + name, out var other))
                {
                    throw new CheckpointException(store.Path, $"tensor '{name}' is also in '{other.Store.Path}'");
                }
                _homes[prefix + name] = (store, name);
            }
        }

        private TensorStore Home(string name) => _homes[name].Store;

        private TensorData Get(string name) => _homes.TryGetValue(name, out var home)
            && home.Store.TryGet(home.Name, out var tensor) ? tensor
            : throw new CheckpointException(_options.HuggingFace ?? _options.InstructBlip!,
                $"and the other inputs have no tensor '{name}'");

        private void Release(string name) => Home(name).Release(_homes[name].Name);

        private int Rows(string name) => Extent(name, 0);

        /// <summary>One of a tensor's extents; negative positions count from the end.</summary>
        private int Extent(string name, int dimension)
        {
            var tensor = Get(name);
            int at = dimension < 0 ? tensor.Shape.Count + dimension : dimension;
            if (at < 0 || at >= tensor.Shape.Count || tensor.Shape[at] is < 1 or > 1 << 24)
            {
                throw new CheckpointException(Home(name).FileOf(_homes[name].Name), $"tensor '{tensor.Name}' is " +
                    $"[{string.Join(", ", tensor.Shape)}], which no model has");
            }
            return (int)tensor.Shape[at];
        }

        private bool IsPadded(string name) =>
            _appendPad && (name is SamCheckpoint.EmbeddingName or SamCheckpoint.HeadName);

        /// <summary>Matrices take the type asked for; small and sensitive tensors keep fp32.</summary>
        private static TensorDType StoredAs(TensorData tensor, TensorDType dtype) =>
            tensor.Shape.Count >= 2 && tensor.Shape[0] > 1 ? dtype : TensorDType.F32;

        private SamConfig StatedByPort(string folder)
        {
            var config = PortConfig.LoadEither(System.IO.Path.Combine(folder, SamCheckpoint.ConfigName));
            if (config.Llm.VocabularySize > _embedded)
            {
                config = config with { Llm = config.Llm with { VocabularySize = _embedded, PadTokenId = _embedded - 1 } };
            }
            // The adapters were trained behind LAVIS' ln_vision; the port's has another epsilon.
            return _homes.ContainsKey("attn.weight") ? config with { LnVisionEps = SamConfig.Published.LnVisionEps } : config;
        }

        /// <summary>What the checkpoints state by their shapes and by the language model's config.json.</summary>
        private SamConfig Stated(string llmFolder)
        {
            var d = SamConfig.Published;
            int Layers(string prefix) => Math.Max(1, _homes.Keys.Where(n => n.StartsWith(prefix, StringComparison.Ordinal))
                .Select(n => n[prefix.Length..].Split('.')[0]).Distinct(StringComparer.Ordinal).Count());
            var llm = d.Llm;
            string config = System.IO.Path.Combine(llmFolder, SamCheckpoint.ConfigName);
            if (File.Exists(config))
            {
                // Hugging Face's fields have the same names, at the top level.
                llm = ParseLlm(config, d.Llm);
            }
            int width = Rows("visual_encoder.patch_embed.proj.weight");
            int patchSize = Extent("visual_encoder.patch_embed.proj.weight", -1);
            int side = (int)Math.Round(Math.Sqrt(Math.Max(1, Extent("visual_encoder.pos_embed", 1) - 1)));
            int layers = Layers("Qformer.bert.encoder.layer.");
            return d with
            {
                Vision = d.Vision with
                {
                    Width = width,
                    PatchSize = patchSize,
                    ImageSize = side * patchSize,
                    Depth = Layers("visual_encoder.blocks."),
                    MlpHidden = Rows("visual_encoder.blocks.0.mlp.fc1.weight"),
                },
                QFormer = d.QFormer with
                {
                    HiddenSize = Extent("query_tokens", -1),
                    QueryTokens = Extent("query_tokens", 1),
                    Layers = layers,
                    EncoderWidth = width,
                    IntermediateSize = Rows("Qformer.bert.encoder.layer.0.intermediate_query.dense.weight"),
                    VocabularySize = Rows("Qformer.bert.embeddings.word_embeddings.weight"),
                    MaxPositions = Rows("Qformer.bert.embeddings.position_embeddings.weight"),
                    OneToMultipleLayer = layers - 1,
                    MultipleToOneLayer = layers - 1,
                },
                Llm = llm,
            };
        }

        private static LlamaConfig ParseLlm(string path, LlamaConfig defaults)
        {
            try
            {
                using var json = JsonDocument.Parse(SmallFile.Read(path, SamConfig.MostBytes),
                    new JsonDocumentOptions { MaxDepth = 16 });
                return LlamaConfig.Parse(new ConfigSection(json.RootElement, path, ""), defaults);
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                throw new CheckpointException(path, "is not valid JSON: " + e.Message, e);
            }
        }

        private List<List<(string Name, TensorDType DType, long[] Shape)>> Shards(
            List<(string Name, TensorDType DType, long[] Shape)> tensors)
        {
            var shards = new List<List<(string, TensorDType, long[])>> { new() };
            long bytes = 0;
            foreach (var tensor in tensors)
            {
                long size = SafetensorsWriter.ByteLength(tensor.DType, tensor.Shape);
                if (bytes > 0 && bytes + size > _options.MaxShardBytes)
                {
                    shards.Add([]);
                    bytes = 0;
                }
                shards[^1].Add(tensor);
                bytes += size;
            }
            return shards;
        }

        private void WriteTensor(SafetensorsWriter writer, string name, TensorDType type)
        {
            Home(name).Verify(_homes[name].Name);
            var tensor = Get(name);
            writer.Begin(name);
            byte[] buffer = new byte[PieceElements * type.ByteSize()];
            for (long done = 0; done < tensor.Count; done += PieceElements)
            {
                int count = (int)Math.Min(PieceElements, tensor.Count - done);
                var piece = tensor.Part(done, count);
                if (!piece.IsFinite())
                {
                    throw new CheckpointException(Home(name).FileOf(_homes[name].Name),
                        $"tensor {SamCheckpoint.Both(tensor.Name, name)} holds NaN or infinity: the file is damaged");
                }
                var target = buffer.AsSpan(0, count * type.ByteSize());
                piece.CopyAs(type, target);
                writer.Write(target);
            }
            if (IsPadded(name))
            {
                writer.Write(new byte[checked((int)(tensor.Shape[1] * type.ByteSize()))]);
            }
            Release(name);
        }

        private void WriteRest(string folder)
        {
            using (var config = File.Create(System.IO.Path.Combine(folder, SamCheckpoint.ConfigName)))
            {
                _config.Write(config);
            }
            string tokenizer = System.IO.Path.Combine(_llmFolder, SamCheckpoint.TokenizerName);
            if (File.Exists(tokenizer))
            {
                File.Copy(tokenizer, System.IO.Path.Combine(folder, SamCheckpoint.TokenizerName));
            }
            else
            {
                Notes.Add($"{_llmFolder} has no {SamCheckpoint.TokenizerName}: the model can't read prompts until one is there");
            }
            string? found = _options.BertVocabulary
                ?? (_options.HuggingFace is { } port ? SamCheckpoint.VocabularyIn(port) : null);
            if (found is { } vocabulary)
            {
                QFormerTokenizer.Load(vocabulary);
                File.Copy(vocabulary, System.IO.Path.Combine(folder, SamCheckpoint.VocabularyName));
            }
            else
            {
                Notes.Add($"no BERT vocabulary was given: the model can't read prompts until {SamCheckpoint.VocabularyName} is there");
            }
            using var stream = File.Create(System.IO.Path.Combine(folder, SamCheckpoint.GenerationConfigName));
            using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
            json.WriteStartObject();
            json.WriteNumber("num_beams", 5);
            json.WriteNumber("repetition_penalty", 1.5);
            json.WriteNumber("length_penalty", 1.0);
            json.WriteNumber("max_length", 256);
            json.WriteNumber("min_length", 1);
            if (_appendPad || _hasUntrainedPad)
            {
                json.WriteStartArray("suppress_tokens");
                json.WriteNumberValue(_config.Llm.PadTokenId);
                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
    }
}
