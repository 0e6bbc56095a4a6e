using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Testing;

/// <summary>A tiny random model with tokenizers of the real formats: what it says means nothing, but every part runs.</summary>
internal sealed class TinyModel : IDisposable
{
    private readonly TempFolder _folder = new();

    public TinyModel(Func<SamConfig, SamConfig>? change = null, ulong seed = 1)
    {
        Folder = _folder["tiny"];
        var config = (change ?? (c => c))(Config);
        RandomModelWriter.Write(Folder, config, "f32", seed);
        File.Copy(Golden.Fixture("text", "tokenizer.model"), Path.Combine(Folder, SamCheckpoint.TokenizerName));
        File.Copy(Golden.Fixture("text", "vocab.txt"), Path.Combine(Folder, SamCheckpoint.VocabularyName));
    }

    /// <summary>Dimensions that fit the committed tokenizers; odd widths, so that every tail is met.</summary>
    public static SamConfig Config { get; } = new()
    {
        Vision = new VisionConfig { ImageSize = 56, Width = 66, Depth = 2, Heads = 3, MlpHidden = 100 },
        QFormer = new QFormerConfig
        {
            HiddenSize = 48,
            Layers = 3,
            Heads = 4,
            IntermediateSize = 72,
            EncoderWidth = 66,
            QueryTokens = 4,
            VocabularySize = 219,
            MaxPositions = 160,
            OneToMultipleLayer = 2,
            MultipleToOneLayer = 2,
        },
        Llm = new LlamaConfig
        {
            HiddenSize = 64,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 4,
            IntermediateSize = 100,
            VocabularySize = 601,
            MaxPositions = 256,
            PadTokenId = 600,
        },
    };

    /// <summary>The model folder.</summary>
    public string Folder { get; }

    /// <summary>A picture of random pixels, different for every seed.</summary>
    public static SamImage Picture(int seed, int width = 64, int height = 48)
    {
        byte[] pixels = new byte[width * height * 3];
        new Random(seed).NextBytes(pixels);
        return SamImage.FromPixels(pixels, width, height);
    }

    /// <summary>Changes the values of the tensors that <paramref name="which"/> names, in the file.</summary>
    public void Change(Func<string, bool> which, Action<float[]> change)
    {
        string path = Path.Combine(Folder, SafetensorsFolder.SingleName);
        var changed = new List<(long FromEnd, float[] Values)>();
        using (var file = SafetensorsFile.Open(path))
        {
            var tensors = file.Names.Select(n => file.TryGet(n, out var t) ? t : throw new InvalidOperationException(n)).ToList();
            nint end = tensors.Max(t => t.Address + (nint)t.ByteLength);
            foreach (var tensor in tensors.Where(t => which(t.Name)))
            {
                float[] values = tensor.ToFloats();
                change(values);
                changed.Add((end - tensor.Address, values));
            }
        }
        if (changed.Count == 0)
        {
            throw new InvalidOperationException("no tensor has that name");
        }
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Write);
        foreach (var (fromEnd, values) in changed)
        {
            stream.Seek(-fromEnd, SeekOrigin.End);
            stream.Write(MemoryMarshal.AsBytes(values.AsSpan()));
        }
    }

    /// <summary>Zeroes the layers through which the pictures of a group guide each other.</summary>
    public void ZeroExchange() => Change(n => n.Contains("one_2_muliple", StringComparison.Ordinal)
        || n.Contains("multiple_2_one", StringComparison.Ordinal), Array.Clear);

    public void Dispose() => _folder.Dispose();
}
