using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using SamEngine.Compute;

namespace SamEngine.Checkpoints;

/// <summary>What to quantize.</summary>
public sealed record QuantizeOptions
{
    /// <summary>A model folder.</summary>
    public required string Source { get; init; }

    /// <summary>Where to write; must not exist, or be empty.</summary>
    public required string Output { get; init; }

    /// <summary>Formats of the matrices, part by part.</summary>
    public required WeightFormats Weights { get; init; }

    /// <summary>Open torch files as well as safetensors. Nothing in them is executed.</summary>
    public bool AllowTorchFiles { get; init; }

    /// <summary>Bytes of a shard.</summary>
    public long MaxShardBytes { get; init; } = 4L << 30;
}

/// <summary>
/// Writes a model folder again with its matrices in other formats, packed so that they are read in place from the mapped
/// file (docs/quantisation.md). One matrix is in memory at a time. The work grows in <c>OUTPUT.partial</c> beside a journal
/// of the tensors that are safely on the disk: given again after it was stopped or killed, the same command goes on behind
/// the last of them. The folder gets its name only when it is complete and every checksum has been read back.
/// </summary>
public static class ModelQuantizer
{
    private const string JournalName = "quantize.journal";

    /// <summary>Quantizes.</summary>
    /// <param name="options">What, whereto and how.</param>
    /// <param name="progress">Told of every tensor.</param>
    /// <param name="cancellation">Stops between tensors; the same call goes on from there.</param>
    /// <returns>Notes a user should see.</returns>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="CheckpointException">The source is not a model.</exception>
    /// <exception cref="OutputException">The output can't be written.</exception>
    /// <exception cref="RequestException">The weights asked for can't be made of what the source stores.</exception>
    public static IReadOnlyList<string> Quantize(QuantizeOptions options, IProgress<ConvertProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Weights.CheckGroupSize();
        string output = Path.TrimEndingDirectorySeparator(Path.GetFullPath(options.Output));
        OutputFolder.Require(output, mustBeEmpty: true);
        using var source = SamCheckpoint.Open(options.Source, new CheckpointOptions { AllowTorchFiles = options.AllowTorchFiles });
        CheckpointShapes.Check(source);
        var shards = Plan(source, options);
        string partial = output + ".partial";
        Journal? journal = null;
        try
        {
            Directory.CreateDirectory(partial);
            var notes = new List<string>(source.Notes);
            using (journal = Journal.Open(Path.Combine(partial, JournalName), Fingerprint(source, options, shards)))
            {
                if (journal.Count > 0)
                {
                    notes.Add($"went on behind the {journal.Count} tensors that an earlier run had written");
                }
                Write(source, options, shards, partial, journal, progress, cancellation);
                WriteRest(source, partial, shards);
            }
            using (var written = SamCheckpoint.Open(partial))
            {
                CheckpointShapes.Check(written);
            }
            File.Delete(Path.Combine(partial, JournalName));
            if (Directory.Exists(output))
            {
                Directory.Delete(output);
            }
            Directory.Move(partial, output);
            return notes;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OutputException)
        {
            if (journal is { Count: 0 })
            {
                // Nothing is written that another run could go on behind.
                Directory.Delete(partial, recursive: true);
            }
            if (e is OutputException)
            {
                throw;
            }
            throw new OutputException(partial, "can't be written: " + e.Message + (journal is { Count: > 0 }
                ? " (what is written stays; the same command goes on behind it)" : ""), e);
        }
    }

    /// <summary>Whether the model uses a tensor as the matrix of a linear layer or as embeddings; what else has two extents is
    /// a table that is read as fp32.</summary>
    private static bool IsMatrix(TensorData tensor, string name) => tensor.Shape.Count >= 2 && tensor.Shape[0] > 1
        && !name.EndsWith("position_embeddings.weight", StringComparison.Ordinal);

    private static List<Shard> Plan(SamCheckpoint source, QuantizeOptions options)
    {
        var tensors = new List<Planned>();
        foreach (string name in source.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)))
        {
            var tensor = source.Peek(name);
            var wanted = IsMatrix(tensor, name) ? options.Weights.Of(name) : null;
            bool same = wanted is null || (tensor.DType == TensorDType.Q8 && wanted == WeightFormat.Q8)
                || (tensor.DType == TensorDType.Q4 && wanted == WeightFormat.Q4);
            if (tensor.DType.IsQuantized() && !same)
            {
                throw new RequestException(nameof(options.Weights), $"asks for {wanted}, but '{name}' of '{options.Source}' is stored " +
                    $"as {tensor.DType}: rounding twice would cost accuracy; quantize the original");
            }
            long[] shape = [.. tensor.Shape];
            QuantizedEntry? matrix = tensor.DType.IsQuantized()
                ? new QuantizedEntry(tensor.DType, tensor.GroupSize, shape, QuantizedEntry.NoChecksum)
                : wanted is WeightFormat.Q8 or WeightFormat.Q4
                    ? new QuantizedEntry(wanted == WeightFormat.Q8 ? TensorDType.Q8 : TensorDType.Q4, options.Weights.GroupSize,
                        shape, QuantizedEntry.NoChecksum)
                    : null;
            var type = matrix is not null ? TensorDType.U8 : wanted switch
            {
                WeightFormat.F32 => TensorDType.F32,
                WeightFormat.F16 => TensorDType.F16,
                WeightFormat.BF16 => TensorDType.BF16,
                _ => tensor.DType,
            };
            tensors.Add(new Planned(name, matrix, type, matrix is null ? shape : [matrix.ByteLength]));
        }
        // Quantised matrices first: their lengths are multiples of 64, so that all of them lie on cache lines.
        var shards = new List<Shard>();
        foreach (var tensor in tensors.OrderBy(t => t.Matrix is null))
        {
            if (shards.Count == 0 || shards[^1].Tensors.Sum(t => t.ByteLength) + tensor.ByteLength > options.MaxShardBytes)
            {
                shards.Add(new Shard([]));
            }
            shards[^1].Tensors.Add(tensor);
        }
        for (int i = 0; i < shards.Count; i++)
        {
            shards[i].File = shards.Count == 1 ? SafetensorsFolder.SingleName
                : $"model-{i + 1:00000}-of-{shards.Count:00000}.safetensors";
        }
        return shards;
    }

    private static void Write(SamCheckpoint source, QuantizeOptions options, List<Shard> shards, string folder, Journal journal,
        IProgress<ConvertProgress>? progress, CancellationToken cancellation)
    {
        long total = shards.Sum(s => s.Tensors.Sum(t => t.ByteLength));
        long done = 0;
        CheckSpace(folder, shards, total);
        foreach (var shard in shards)
        {
            using var file = new FileStream(Path.Combine(folder, shard.File), FileMode.OpenOrCreate, FileAccess.Write,
                FileShare.None, 1 << 20);
            // The header's length does not depend on the checksums, so the data has its place before they are known.
            long at = shard.Header(_ => QuantizedEntry.NoChecksum).Length;
            foreach (var tensor in shard.Tensors)
            {
                cancellation.ThrowIfCancellationRequested();
                progress?.Report(new ConvertProgress(tensor.Name, done, total));
                if (!journal.Has(tensor.Name))
                {
                    file.Position = at;
                    string checksum = WriteTensor(source, options, tensor, file, cancellation);
                    file.Flush(flushToDisk: true);
                    journal.Add(tensor.Name, checksum);
                    source.Release(tensor.Name);
                }
                at += tensor.ByteLength;
                done += tensor.ByteLength;
            }
            file.Position = 0;
            file.Write(shard.Header(journal.ChecksumOf));
            file.SetLength(at);
            file.Flush(flushToDisk: true);
        }
        progress?.Report(new ConvertProgress("", total, total));
    }

    /// <summary>Returns the checksum of a quantised matrix.</summary>
    private static unsafe string WriteTensor(SamCheckpoint source, QuantizeOptions options, Planned planned, FileStream file,
        CancellationToken cancellation)
    {
        var tensor = source.Peek(planned.Name);
        if (planned.Matrix is { } matrix && !tensor.DType.IsQuantized())
        {
            long length = matrix.ByteLength;
            byte* packed = (byte*)NativeMemory.AlignedAlloc((nuint)length, 64);
            try
            {
                TensorQuantizer.Quantize(tensor, source.FileOf(planned.Name), matrix.Format, options.Weights.GroupSize,
                    (nint)packed, length, -1, cancellation);
                var bytes = new ReadOnlySpan<byte>(packed, checked((int)length));
                file.Write(bytes);
                return matrix.WithChecksumOf(bytes).Checksum;
            }
            finally
            {
                NativeMemory.AlignedFree(packed);
            }
        }
        if (planned.Matrix is { } same)
        {
            file.Write(tensor.Bytes);
            return same.WithChecksumOf(tensor.Bytes).Checksum;
        }
        const int Piece = 1 << 20;
        byte[] buffer = new byte[Piece * planned.DType.ByteSize()];
        for (long done = 0; done < tensor.Count; done += Piece)
        {
            int count = (int)Math.Min(Piece, tensor.Count - done);
            var target = buffer.AsSpan(0, count * planned.DType.ByteSize());
            tensor.Part(done, count).CopyAs(planned.DType, target);
            file.Write(target);
        }
        return "-";
    }

    private static void WriteRest(SamCheckpoint source, string folder, List<Shard> shards)
    {
        string index = Path.Combine(folder, SafetensorsFolder.IndexName);
        if (shards.Count > 1)
        {
            ShardIndex.Write(index, shards.SelectMany(s => s.Tensors.Select(t => (t.Name, s.File))),
                shards.Sum(s => s.Tensors.Sum(t => t.ByteLength)));
        }
        using (var config = File.Create(Path.Combine(folder, SamCheckpoint.ConfigName)))
        {
            source.Config.Write(config);
        }
        foreach (var (path, name) in (IEnumerable<(string?, string)>)[
            (source.TokenizerModelPath, SamCheckpoint.TokenizerName), (source.VocabularyPath, SamCheckpoint.VocabularyName),
            (source.GenerationConfigPath, SamCheckpoint.GenerationConfigName)])
        {
            if (path is not null)
            {
                File.Copy(path, Path.Combine(folder, name), overwrite: true);
            }
        }
    }

    private static void CheckSpace(string folder, List<Shard> shards, long total)
    {
        long there = shards.Select(s => new FileInfo(Path.Combine(folder, s.File))).Where(f => f.Exists).Sum(f => f.Length);
        long free = new DriveInfo(folder).AvailableFreeSpace;
        if (free < total - there)
        {
            throw new OutputException(folder, $"needs {total - there} bytes of disk, {free} are free");
        }
    }

    /// <summary>What must be the same for a run to go on where another stood.</summary>
    private static string Fingerprint(SamCheckpoint source, QuantizeOptions options, List<Shard> shards)
    {
        var text = new StringBuilder($"{QuantizedLayout.Version} {Path.GetFullPath(options.Source)} {options.Weights} {options.Weights.GroupSize}");
        foreach (string file in shards.SelectMany(s => s.Tensors).Select(t => source.FileOf(t.Name)).Distinct(StringComparer.Ordinal))
        {
            var info = new FileInfo(file);
            text.Append(CultureInfo.InvariantCulture, $"\n{file} {info.Length} {info.LastWriteTimeUtc.Ticks}");
        }
        foreach (var tensor in shards.SelectMany(s => s.Tensors))
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{tensor.Name} {tensor.ByteLength}");
        }
        return System.Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    /// <summary>A tensor as it will be stored; a quantised matrix as U8 [bytes].</summary>
    private sealed record Planned(string Name, QuantizedEntry? Matrix, TensorDType DType, long[] Shape)
    {
        public long ByteLength => SafetensorsWriter.ByteLength(DType, Shape);
    }

    private sealed record Shard(List<Planned> Tensors)
    {
        public string File { get; set; } = "";

        public byte[] Header(Func<string, string> checksumOf)
        {
            var metadata = new Dictionary<string, string>(StringComparer.Ordinal) { ["format"] = "pt" };
            foreach (var tensor in Tensors.Where(t => t.Matrix is not null))
            {
                metadata[QuantizedEntry.VersionKey] = QuantizedLayout.Version.ToString(CultureInfo.InvariantCulture);
                var (key, value) = (tensor.Matrix! with { Checksum = checksumOf(tensor.Name) }).ToMetadata(tensor.Name);
                metadata[key] = value;
            }
            return SafetensorsWriter.Header([.. Tensors.Select(t => (t.Name, t.DType, t.Shape))], metadata);
        }
    }

    /// <summary>A line for every tensor that is on the disk, behind a first line that says of what.</summary>
    private sealed class Journal : IDisposable
    {
        private readonly Dictionary<string, string> _done = new(StringComparer.Ordinal);
        private readonly FileStream _stream;

        private Journal(FileStream stream)
        {
            _stream = stream;
        }

        public int Count => _done.Count;

        public static Journal Open(string path, string fingerprint)
        {
            // Nobody else may write: two runs into one folder would spoil each other's work.
            var journal = new Journal(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
            try
            {
                using var reader = new StreamReader(journal._stream, Encoding.UTF8, false, 4096, leaveOpen: true);
                string text = reader.ReadToEnd();
                // A line without its end was being written when the run was killed.
                string[] lines = text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries);
                if (lines.Length > 0 && lines[0] != fingerprint)
                {
                    throw new OutputException(Path.GetDirectoryName(path)!, "holds the beginning of another quantization (other " +
                        "source, weights or groups, or the source has changed); remove it or name another output");
                }
                foreach (string line in lines.Skip(1))
                {
                    if (line.Split('\t') is [var name, { } checksum] && checksum.Length is 1 or 32)
                    {
                        journal._done[name] = checksum;
                    }
                }
                journal._stream.SetLength(Encoding.UTF8.GetByteCount(string.Concat(lines.Select(l => l + "\n"))));
                journal._stream.Seek(0, SeekOrigin.End);
                if (lines.Length == 0)
                {
                    journal.Append(fingerprint);
                }
                return journal;
            }
            catch
            {
                journal.Dispose();
                throw;
            }
        }

        public bool Has(string name) => _done.ContainsKey(name);

        public string ChecksumOf(string name) => _done[name];

        public void Add(string name, string checksum)
        {
            Append($"{name}\t{checksum}");
            _done.Add(name, checksum);
        }

        public void Dispose() => _stream.Dispose();

        private void Append(string line)
        {
            _stream.Write(Encoding.UTF8.GetBytes(line + "\n"));
            _stream.Flush(flushToDisk: true);
        }
    }
}
