using SamEngine.Checkpoints;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>The published forms of a golden model (.pth, sharded .bin) give exactly its model.safetensors.</summary>
public sealed class GoldenConversionTests
{
    [Fact]
    public void Converted_checkpoints_are_bit_identical()
    {
        int converted = 0;
        foreach (string folder in Golden.Folders("tiny-").Where(f => File.Exists(Path.Combine(f, "lavis.pth"))))
        {
            using var temp = new TempFolder();
            var notes = CheckpointConverter.Convert(Options(folder, temp["out"]) with { MaxShardBytes = 500_000 });
            Assert.Contains(notes, n => n.Contains("inv_freq", StringComparison.Ordinal)
                || n.Contains("position_ids", StringComparison.Ordinal));
            using var expected = SafetensorsFolder.Open(folder);
            using var actual = SamCheckpoint.Open(temp["out"]);
            Assert.True(File.Exists(Path.Combine(temp["out"], SafetensorsFolder.IndexName)));
            Assert.True(actual.HasAdapters);
            int compared = 0;
            foreach (string name in expected.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)))
            {
                Assert.True(expected.TryGet(name, out var tensor));
                Assert.True(tensor.Bytes.SequenceEqual(actual.Get(name, [.. tensor.Shape]).Bytes), name);
                compared++;
            }
            Assert.Equal(compared, actual.Names.Count);
            converted++;
        }
        Assert.True(converted > 0);
    }

    [Fact]
    public void Half_precision_is_rounded_to_nearest()
    {
        string folder = Golden.Folder("tiny-a");
        foreach (var (dtype, type) in (IEnumerable<(string, TensorDType)>)[("bf16", TensorDType.BF16), ("f16", TensorDType.F16)])
        {
            using var temp = new TempFolder();
            CheckpointConverter.Convert(Options(folder, temp["out"]) with { DType = dtype });
            using var expected = SafetensorsFolder.Open(folder);
            using var actual = SamCheckpoint.Open(temp["out"]);
            Assert.True(expected.TryGet("llm_proj.weight", out var tensor));
            var written = actual.Get("llm_proj.weight", [.. tensor.Shape]);
            Assert.Equal(type, written.DType);
            float[] wanted = tensor.ToFloats();
            float[] found = written.ToFloats();
            for (int i = 0; i < wanted.Length; i++)
            {
                float rounded = type == TensorDType.F16 ? (float)(Half)wanted[i]
                    : BitConverter.UInt32BitsToSingle((uint)TensorData.ToBFloat16(wanted[i]) << 16);
                Assert.Equal(rounded, found[i]);
            }
        }
    }

    [Fact]
    public void Without_adapters_it_is_plain_InstructBlip_and_says_so()
    {
        string folder = Golden.Folder("tiny-a");
        using var temp = new TempFolder();
        var notes = CheckpointConverter.Convert(Options(folder, temp["out"]) with { Sam = null });
        Assert.Contains(notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
        using var checkpoint = SamCheckpoint.Open(temp["out"]);
        Assert.False(checkpoint.HasAdapters);
        Assert.Contains(checkpoint.Notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
    }

    [Fact]
    public void An_interrupted_conversion_leaves_nothing()
    {
        string folder = Golden.Folder("tiny-a");
        using var temp = new TempFolder();
        using var cancel = new CancellationTokenSource();
        var progress = new Progress(p =>
        {
            if (p.BytesDone > 100_000)
            {
                cancel.Cancel();
            }
        });
        Assert.Throws<OperationCanceledException>(() =>
            CheckpointConverter.Convert(Options(folder, temp["out"]), progress, cancel.Token));
        Assert.Empty(Directory.EnumerateFileSystemEntries(temp.Path));
    }

    [Fact]
    public void Another_models_dimensions_are_refused_by_name()
    {
        string folder = Golden.Folder("tiny-a");
        using var temp = new TempFolder();
        File.WriteAllText(temp["config.json"], File.ReadAllText(Path.Combine(folder, "config.json"))
            .Replace("\"intermediate_size\": 172", "\"intermediate_size\": 173", StringComparison.Ordinal));
        var error = Assert.Throws<CheckpointException>(() =>
            CheckpointConverter.Convert(Options(folder, temp["out"]) with { Config = temp["config.json"] }));
        Assert.Contains("gate_proj", error.Message, StringComparison.Ordinal);
        Assert.Contains("173", error.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(temp["out"]));
    }

    private static ConvertOptions Options(string folder, string output) => new()
    {
        InstructBlip = Path.Combine(folder, "lavis.pth"),
        Sam = Path.Combine(folder, "sam_ckpt.pth"),
        Llm = Path.Combine(folder, "llm"),
        Output = output,
        DType = "f32",
        Config = Path.Combine(folder, "config.json"),
    };

    private sealed class Progress(Action<ConvertProgress> report) : IProgress<ConvertProgress>
    {
        public void Report(ConvertProgress value) => report(value);
    }
}
