using System.Text;
using FsCheck;
using FsCheck.Fluent;
using FsCheck.Xunit;
using SamEngine.Checkpoints;
using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>Files changed at random either load or are refused with a <see cref="CheckpointException"/>.</summary>
public sealed class CheckpointProperties
{
    private static readonly byte[] Safetensors = Written("m.safetensors", p => SafetensorsFiles.Write(p,
        [TensorSource.Of("vision.weight", 1, 2, 3), TensorSource.Of("b", 4), TensorSource.Of("cé", 5, 6)]));

    private static readonly byte[] Torch = Written("m.pth", p => TorchFileWriter.Write(p,
        [TensorSource.Of("vision.weight", 1, 2, 3), TensorSource.Of("b", 4)], nested: true));

    private static readonly byte[] Torch64 = Written("m.pth", p => TorchFileWriter.Write(p,
        [TensorSource.Of("vision.weight", 1, 2, 3), TensorSource.Of("b", 4)], zip64: true));

    private static readonly byte[] Pickle = new PickleWriter().Protocol().Op('}').Op('(').Text("model")
        .Global("collections", "OrderedDict").Op(')').Op('R').Op('q').Raw(1).Op('(')
        .Text("a").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Text("b").Number(7).Op('u').Op('}').Op('b')
        .Text("list").Op(']').Op('(').Number(1).Text("x").Op('e').Text("again").Op('h').Raw(1).Op('u').Op('.').ToArray();

    private static readonly byte[] Index =
        Encoding.UTF8.GetBytes("""{"metadata":{"total_size":12},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}""");

    private static readonly byte[] Tokenizer = File.ReadAllBytes(Golden.Fixture("text", "tokenizer.model"));

    private static readonly byte[] Vocabulary = File.ReadAllBytes(Golden.Fixture("text", "vocab.txt"));

    [Property(MaxTest = 600)]
    public void A_changed_safetensors_file(int seed) => Holds(Safetensors, seed, path =>
    {
        using var file = SafetensorsFile.Open(path, useMmap: seed % 2 == 0);
        ReadAll(file);
    });

    [Property(MaxTest = 600)]
    public void A_changed_torch_file(int seed) => Holds(seed % 2 == 0 ? Torch : Torch64, seed, path =>
    {
        using var file = TorchZipFile.Open(path);
        ReadAll(file);
    });

    [Property(MaxTest = 1000)]
    public void A_changed_pickle(int seed)
    {
        byte[] pickle = Changed(Pickle, seed);
        Refused(() => PickleReader.Read(pickle, "x"));
        using var temp = new TempFolder();
        using (var zip = new StoredZip(temp["x.pth"]))
        {
            zip.Add("x/data.pkl", pickle);
            zip.Add("x/data/0", new byte[8]);
        }
        Refused(() =>
        {
            using var file = TorchZipFile.Open(temp["x.pth"]);
            ReadAll(file);
        });
    }

    [Property(MaxTest = 2000)]
    public void Bytes_at_random_as_a_pickle(byte[] bytes) => Refused(() => PickleReader.Read(bytes, "x"));

    [Property(MaxTest = 500)]
    public void A_changed_index(int seed) => Holds(Index, seed, path => ShardIndex.Read(path));

    [Property(MaxTest = 300)]
    public void A_changed_tokenizer_model(int seed) => Holds(Tokenizer, seed, path =>
        VicunaTokenizer.Load(path).EncodePrompt("A dog\0 runs.\u4e2d\ud83d\ude00 </s>"));

    [Property(MaxTest = 300)]
    public void A_changed_vocabulary(int seed) => Holds(Vocabulary, seed, path =>
        QFormerTokenizer.Load(path).EncodeInstruction("A dog\0 runs.\u4e2d\ud83d\ude00 [SEP]"));

    [Property(MaxTest = 500)]
    public void A_changed_configuration(int seed) => Holds(Encoding.UTF8.GetBytes(PortWriter.Config(TinyModel.Config).ToJsonString()),
        seed, path => PortConfig.LoadEither(path));

    /// <summary>Any names, types and shapes come back as written.</summary>
    [Property(MaxTest = 300)]
    public void What_is_written_is_read(NonNull<string>[] names, int seed)
    {
        var random = new Random(seed);
        var tensors = names.Select(n => n.Get).Where(n => n != "__metadata__" && IsText(n)).Distinct(StringComparer.Ordinal).Select(name =>
        {
            var type = (TensorDType)random.Next(10);
            long[] shape = [.. Enumerable.Range(0, random.Next(5)).Select(_ => (long)random.Next(4))];
            byte[] bytes = new byte[SafetensorsWriter.ByteLength(type, shape)];
            random.NextBytes(bytes);
            return new TensorSource(name, type, shape, () => [bytes]);
        }).ToList();
        using var temp = new TempFolder();
        SafetensorsFiles.Write(temp["file"], tensors);
        using var file = SafetensorsFile.Open(temp["file"], useMmap: seed % 2 == 0);
        Assert.Equal(tensors.Select(t => t.Name).Order(StringComparer.Ordinal), file.Names);
        foreach (var expected in tensors)
        {
            Assert.True(file.TryGet(expected.Name, out var actual));
            Assert.Equal(expected.DType, actual.DType);
            Assert.Equal(expected.Shape, actual.Shape);
            Assert.Equal(expected.Bytes().Single().ToArray(), actual.Bytes.ToArray());
        }
    }

    private static bool IsText(string name)
    {
        try
        {
            _ = new UTF8Encoding(false, throwOnInvalidBytes: true).GetByteCount(name);
            return true;
        }
        catch (EncoderFallbackException)
        {
            return false; // JSON can't hold lone surrogates
        }
    }

    private static void ReadAll(TensorStore file)
    {
        foreach (string name in file.Names)
        {
            if (file.TryGet(name, out var tensor))
            {
                file.Verify(name);
                Assert.True(tensor.Count < 1_000_000);
                _ = tensor.ToFloats().Length;
            }
        }
    }

    private static void Holds(byte[] whole, int seed, Action<string> open)
    {
        using var temp = new TempFolder();
        File.WriteAllBytes(temp["x"], Changed(whole, seed));
        Refused(() => open(temp["x"]));
    }

    private static void Refused(Action open)
    {
        try
        {
            open();
        }
        catch (CheckpointException)
        {
            // As it should be; anything else fails the property.
        }
    }

    /// <summary>Some bytes set, inserted, removed, repeated, or the end cut.</summary>
    private static byte[] Changed(byte[] whole, int seed)
    {
        var random = new Random(seed);
        var bytes = whole.ToList();
        for (int i = random.Next(1, 5); i > 0 && bytes.Count > 0; i--)
        {
            int at = random.Next(bytes.Count);
            int length = Math.Min(random.Next(1, 9), bytes.Count - at);
            switch (random.Next(6))
            {
                case 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 2:
                    bytes.InsertRange(at, bytes.GetRange(random.Next(bytes.Count - length + 1), length));
                    break;
                case 3:
                    bytes.RemoveRange(at, length);
                    break;
                case 4:
                    for (int j = 0; j < length; j++)
                    {
                        bytes[at + j] = random.Next(2) == 0 ? (byte)0xFF : (byte)0;
                    }
                    break;
                default:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
            }
        }
        return [.. bytes];
    }

    private static byte[] Written(string name, Action<string> write)
    {
        using var temp = new TempFolder();
        write(temp[name]);
        return File.ReadAllBytes(temp[name]);
    }
}
