using System.Diagnostics;
using System.Text;
using SamEngine.Checkpoints;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>Torch files that are damaged, lie, or would run something if they were unpickled.</summary>
public sealed class HostileTorchTests
{
    /// <summary>What is written to the path, and what the error on opening it or its tensor 'a' must say.</summary>
    private static readonly Dictionary<string, (Action<string> Write, string Expected)> Broken = new()
    {
        ["text"] = (p => File.WriteAllText(p, "not a zip file at all, but long enough"), "is not a zip file"),
        ["empty"] = (p => File.WriteAllBytes(p, []), "is empty"),
        ["short"] = (p => File.WriteAllBytes(p, "PK"u8.ToArray()), "is too short"),
        ["legacy tar"] = (WriteTar, "is not a zip file"),
        ["legacy pickle"] = (p => File.WriteAllBytes(p, new PickleWriter().Protocol().Number(1).Raw(new byte[64]).ToArray()),
            "is not a zip file"),
        ["no pickle"] = (p => Zip(p, z => z.Add("x/version", "3"u8)), "without 'data.pkl'"),
        ["compressed"] = (p => Zip(p, Good, z => z.Method = 8), "is encrypted or compressed"),
        ["encrypted"] = (p => Zip(p, Good, z => z.Flags = 1), "is encrypted or compressed"),
        ["bomb: entry larger than the file"] = (p => Zip(p, z =>
        {
            z.Begin("x/data.pkl");
            z.Write(GoodPickle());
            z.End(declared: 1 << 30);
        }), "reaches past the end"),
        ["entry twice"] = (p => Zip(p, z =>
        {
            Good(z);
            z.Add("x/data/0", new byte[8]);
        }), "has two entries"),
        ["traversal"] = (p => Zip(p, z =>
        {
            Good(z);
            z.Add("x/../../etc/passwd", new byte[8]);
        }), "is not a name torch.save writes"),
        ["absolute name"] = (p => Zip(p, z => z.Add("/x/data.pkl", GoodPickle())), "is not a name torch.save writes"),
        ["wrong checksum of the pickle"] = (p => Zip(p, Good, z => z.CrcError = 1), "checksum"),
        ["wrong checksum of a tensor"] = (p => Zip(p, z =>
        {
            z.Add("x/data.pkl", GoodPickle());
            z.Add("x/data/0", new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 });
        }, after: p => Flip(p, (byte)5, (byte)6)), "checksum"),
        ["big-endian"] = (p => Zip(p, z =>
        {
            Good(z);
            z.Add("x/byteorder", "big"u8);
        }), "big-endian"),

        ["os.system"] = (Pickle(w => w.Op('}').Text("a").Global("os", "system").Text("touch /tmp/owned").Op('\x85').Op('R').Op('s')),
            "holds no tensors"),
        ["os.system as a tensor"] = (Pickle(w => w.Op('}').Op('(').Text("a").Global("os", "system").Text("true").Op('\x85').Op('R')
            .Text("b").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op('u')), "'a' is a call of os.system, expected a tensor"),
        ["os.system by STACK_GLOBAL"] = (Pickle(w => w.Op('}').Op('(').Text("a").Text("os").Text("system").Op('\x93').Text("true")
            .Op('\x85').Op('R').Text("b").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op('u')), "a call of os.system"),
        ["NEWOBJ"] = (Pickle(w => w.Op('}').Op('(').Text("a").Global("subprocess", "Popen").Op(')').Op('\x81')
            .Text("b").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op('u')), "an object of subprocess.Popen"),
        ["BUILD on a tensor is passed over"] = (Pickle(w => w.Op('}').Op('(').Text("a").Tensor("FloatStorage", "0", 2, 0, [3], [1])
            .Op('}').Text("x").Number(1).Op('s').Op('b').Op('u')), "reaches element 2"),
        ["INST"] = (Pickle(w => w.Op('(').Op('i').Raw("os\nsystem\n"u8.ToArray())), "opcode 0x69"),
        ["OBJ"] = (Pickle(w => w.Op('(').Global("os", "system").Op('o')), "opcode 0x6f"),
        ["EXT1"] = (Pickle(w => w.Op('\x82').Raw(1)), "opcode 0x82"),
        ["memo never written"] = (Pickle(w => w.Op('h').Raw(7)), "memo entry 7 was never written"),
        ["long memo index"] = (Pickle(w => w.Op('N').Op('r').Raw(255, 255, 255, 255)), "declares a value of 4294967295 bytes"),
        ["empty stack"] = (Pickle(w => w.Op('0')), "takes more from the stack"),
        ["dup of nothing"] = (Pickle(w => w.Op('2')), "is damaged"),
        ["no mark"] = (Pickle(w => w.Op('t')), "a mark is missing"),
        ["endless stack"] = (Pickle(w => w.Raw([.. Enumerable.Repeat((byte)'N', 1_100_000)])), "stack grows without end"),
        ["endless marks"] = (Pickle(w => w.Raw([.. Enumerable.Repeat((byte)'(', 1_100_000)])), "marks grow without end"),
        ["names that grow"] = (Pickle(w => w.Global("os", "system").Raw(
            [.. Enumerable.Range(0, 400_000).SelectMany(_ => (byte[])[(byte)')', 0x81])])), "does not hold a dictionary"),
        ["contains itself"] = (Pickle(w => w.Op('}').Op('q').Raw(0).Text("model").Op('h').Raw(0).Op('s')), "holds no tensors"),
        ["a list in itself"] = (Pickle(w => w.Op(']').Op('q').Raw(0).Op('h').Raw(0).Op('a')), "does not hold a dictionary"),
        ["text of 2^31 bytes"] = (Pickle(w => w.Op('X').Raw(0, 0, 0, 0x80)), "declares a value of 2147483648 bytes"),
        ["text of 2^62 bytes"] = (Pickle(w => w.Op('\x8d').Raw(0, 0, 0, 0, 0, 0, 0, 0x40)), "declares a value of"),
        ["text over the file"] = (Pickle(w => w.Op('X').Raw(0, 0, 1, 0)), "ends in the middle"),
        ["number of 2^31 bytes"] = (Pickle(w => w.Op('\x8b').Raw(255, 255, 255, 127)), "declares a number of"),
        ["no end"] = (p => ZipOf(p, [0x80, 2, (byte)'N']), "ends in the middle"),
        ["protocol 6"] = (Pickle(w => w.Protocol(6)), "uses pickle protocol 6"),
        ["not a dictionary"] = (Pickle(w => w.Number(1)), "does not hold a dictionary"),

        ["storage larger than its entry"] = (Tensor(3, 0, [3], [1]), "its storage declares 3 elements of F32, the file has 8"),
        ["storage of 2^62"] = (Tensor(1L << 62, 0, [2], [1]), "overflows"),
        ["storage of negative size"] = (Tensor(-1, 0, [2], [1]), "expected a tensor"),
        ["offset past the end"] = (Tensor(2, 1, [2], [1]), "reaches element 2 of a storage of 2"),
        ["offset negative"] = (Tensor(2, -1, [2], [1]), "negative"),
        ["stride past the end"] = (Tensor(2, 0, [2], [2]), "reaches element 2"),
        ["stride negative"] = (Tensor(2, 1, [2], [-1]), "negative"),
        ["stride of 2^62"] = (Tensor(2, 0, [8, 1], [1L << 62, 1]), "overflows"),
        ["shape negative"] = (Tensor(2, 0, [-2], [1]), "negative"),
        ["shape overflows"] = (Tensor(2, 0, [1L << 32, 1L << 32], [0, 0]), "overflows"),
        ["overlapping view"] = (Tensor(2, 0, [1 << 20, 1 << 10], [0, 0]), "its view overlaps"),
        ["more strides than extents"] = (Tensor(2, 0, [2], [1, 1]), "incomplete"),
        ["storage not in the file"] = (Pickle(w => w.Op('}').Text("a").Tensor("FloatStorage", "9", 2, 0, [2], [1]).Op('s')),
            "names the storage '9', which is not in the file"),
        ["storage named by a path"] = (Pickle(w => w.Op('}').Text("a").Tensor("FloatStorage", "../0", 2, 0, [2], [1]).Op('s')),
            "names the storage '../0'"),
        ["unknown storage"] = (Pickle(w => w.Op('}').Text("a").Tensor("ComplexFloatStorage", "0", 2, 0, [2], [1]).Op('s')),
            "torch.ComplexFloatStorage, which is not supported"),
    };

    public static TheoryData<string> BrokenNames => [.. Broken.Keys];

    [Theory]
    [MemberData(nameof(BrokenNames))]
    public void A_broken_file_is_refused_with_its_reason(string name)
    {
        var (write, expected) = Broken[name];
        using var temp = new TempFolder();
        string path = temp["x.pth"];
        write(path);
        var clock = Stopwatch.StartNew();
        long before = GC.GetAllocatedBytesForCurrentThread();
        var error = Assert.Throws<CheckpointException>(() =>
        {
            using var file = TorchZipFile.Open(path);
            file.TryGet("a", out _);
            file.Verify("a");
        });
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.StartsWith(path, error.Message, StringComparison.Ordinal);
        Assert.True(error.Message.Length < 1000, error.Message);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"{clock.Elapsed}");
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 600L << 20, name);
    }

    [Fact]
    public void A_cut_file_is_refused_wherever_it_ends()
    {
        using var temp = new TempFolder();
        TorchFileWriter.Write(temp["x.pth"], [TensorSource.Of("a", 1, 2, 3)]);
        byte[] whole = File.ReadAllBytes(temp["x.pth"]);
        for (int length = 0; length < whole.Length; length += 3)
        {
            File.WriteAllBytes(temp["cut.pth"], whole[..length]);
            Assert.Throws<CheckpointException>(() => TorchZipFile.Open(temp["cut.pth"]));
        }
    }

    [Fact]
    public void Fields_for_large_files_are_read()
    {
        using var temp = new TempFolder();
        TorchFileWriter.Write(temp["x.pth"], [TensorSource.Of("a", 1, 2, 3)], nested: true, zip64: true);
        using var file = TorchZipFile.Open(temp["x.pth"]);
        Assert.True(file.TryGet("a", out var tensor));
        file.Verify("a");
        Assert.Equal([1, 2, 3], tensor.ToFloats());
    }

    [Fact]
    public void A_storage_of_more_than_4_GB_is_read()
    {
        using var temp = new TempFolder();
        const long Elements = (1L << 30) + 100;
        using (var zip = new StoredZip(temp["x.pth"]) { Zip64 = true })
        {
            zip.Add("x/data.pkl", new PickleWriter().Protocol().Op('}').Text("a")
                .Tensor("FloatStorage", "0", Elements, 0, [Elements], [1]).Op('s').Op('.').ToArray());
            // A hole in the file: it takes no room on the disk.
            zip.Begin("x/data/0");
            zip.Skip(Elements * 4);
            zip.End();
            zip.Add("x/data/1", [1]);
        }
        using var file = TorchZipFile.Open(temp["x.pth"]);
        Assert.True(file.TryGet("a", out var tensor));
        Assert.Equal(Elements, tensor.Count);
        Assert.Equal([0, 0, 0, 0], tensor.Slice(Elements * 4 - 4, 4).ToArray());
        Assert.Throws<OverflowException>(() => tensor.Bytes.Length);
    }

    [Fact]
    public void Views_are_read_as_what_they_show()
    {
        using var temp = new TempFolder();
        Tensor(6, 0, [3, 2], [1, 3], [0, 1, 2, 3, 4, 5])(temp["x.pth"]);
        using (var file = TorchZipFile.Open(temp["x.pth"]))
        {
            Assert.True(file.TryGet("a", out var transposed));
            Assert.Equal([0, 3, 1, 4, 2, 5], transposed.ToFloats());
            Assert.True(file.TryGet("a", out var again));
            Assert.Same(transposed, again);
            file.Release("a");
        }
        Tensor(6, 2, [2], [2], [0, 1, 2, 3, 4, 5])(temp["y.pth"]);
        using (var file = TorchZipFile.Open(temp["y.pth"]))
        {
            Assert.True(file.TryGet("a", out var slice));
            Assert.Equal([2, 4], slice.ToFloats());
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Conversion_names_a_tensor_that_is_not_finite(float value)
    {
        using var temp = new TempFolder();
        using var tiny = new TinyModel();
        using (var weights = SafetensorsFolder.Open(tiny.Folder))
        {
            PortWriter.Write(temp["port"], weights, TinyModel.Config, torch: true, change: tensors => [.. tensors.Select(t =>
                t.Name == "language_projection.weight" ? t with { Bytes = () => Broken(t.Bytes(), value) } : t)]);
        }
        var error = Assert.Throws<CheckpointException>(() => CheckpointConverter.Convert(
            new ConvertOptions { HuggingFace = temp["port"], Output = temp["out"] }));
        Assert.Contains("'language_projection.weight' (llm_proj.weight) holds NaN or infinity", error.Message, StringComparison.Ordinal);
        Assert.Equal(["port"], Directory.EnumerateFileSystemEntries(temp.Path).Select(Path.GetFileName));

        static IEnumerable<ReadOnlyMemory<byte>> Broken(IEnumerable<ReadOnlyMemory<byte>> pieces, float value)
        {
            byte[] bytes = pieces.Single().ToArray();
            BitConverter.TryWriteBytes(bytes.AsSpan(4 * 777), value);
            return [bytes];
        }
    }

    private static Action<string> Pickle(Func<PickleWriter, PickleWriter> write) =>
        path => ZipOf(path, write(new PickleWriter().Protocol()).Op('.').ToArray());

    private static Action<string> Tensor(long elements, long offset, long[] shape, long[] strides, params float[] values) =>
        path => Zip(path, zip =>
        {
            zip.Add("x/data.pkl", new PickleWriter().Protocol().Op('}').Op('(').Text("a")
                .Tensor("FloatStorage", "0", elements, offset, shape, strides)
                .Text("b").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op('u').Op('.').ToArray());
            zip.Add("x/data/0", values.Length == 0 ? new byte[8]
                : System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()));
        });

    private static void ZipOf(string path, byte[] pickle) => Zip(path, zip =>
    {
        zip.Add("x/data.pkl", pickle);
        zip.Add("x/data/0", new byte[8]);
    });

    private static void Zip(string path, Action<StoredZip> fill, Action<StoredZip>? before = null, Action<string>? after = null)
    {
        using (var zip = new StoredZip(path))
        {
            before?.Invoke(zip);
            fill(zip);
        }
        after?.Invoke(path);
    }

    private static void Good(StoredZip zip)
    {
        zip.Add("x/data.pkl", GoodPickle());
        zip.Add("x/data/0", new byte[8]);
    }

    private static byte[] GoodPickle() => new PickleWriter().Protocol().Op('}').Text("a")
        .Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op('s').Op('.').ToArray();

    /// <summary>Changes the first run 1 2 3 4 <paramref name="from"/> of the file.</summary>
    private static void Flip(string path, byte from, byte to)
    {
        byte[] file = File.ReadAllBytes(path);
        int at = file.AsSpan().IndexOf((ReadOnlySpan<byte>)[1, 2, 3, 4, from]);
        file[at + 4] = to;
        File.WriteAllBytes(path, file);
    }

    private static void WriteTar(string path)
    {
        using var stream = File.Create(path);
        using var tar = new System.Formats.Tar.TarWriter(stream);
        tar.WriteEntry(new System.Formats.Tar.PaxTarEntry(System.Formats.Tar.TarEntryType.RegularFile, "storages")
        {
            DataStream = new MemoryStream(Encoding.ASCII.GetBytes("abc")),
        });
    }
}
