using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Model;
using SamEngine.Testing;
using SamEngine.Tests.Model;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>The Hugging Face port of InstructBLIP, with SAM's adapters on top and without.</summary>
public sealed class HuggingFacePortTests
{
    [Fact]
    public async Task The_golden_model_under_the_ports_names_gives_the_same_stages_and_texts()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var temp = new TempFolder();
            PortWriter.Write(folder, temp["port"]);
            using var backend = new CpuBackend();
            var forms = new List<CheckpointOptions>
            {
                new() { Adapters = Path.Combine(temp["port"], PortWriter.AdaptersName) },
            };
            if (File.Exists(Path.Combine(folder, "sam_ckpt.pth")))
            {
                forms.Add(new() { Adapters = Path.Combine(folder, "sam_ckpt.pth"), AllowTorchFiles = true });
            }
            foreach (var options in forms)
            {
                using var checkpoint = SamCheckpoint.Open(temp["port"], options);
                Assert.True(checkpoint.HasAdapters);
                await GoldenStageTests.Check(golden, checkpoint, backend);
                await GoldenGenerationTests.Check(golden, checkpoint, backend);
            }
        }
    }

    [Fact]
    public void Converted_with_SAM_on_top_it_is_the_LAVIS_checkpoint()
    {
        string folder = Golden.Folder("tiny-a");
        using var temp = new TempFolder();
        PortWriter.Write(folder, temp["port"]);
        CheckpointConverter.Convert(new ConvertOptions
        {
            HuggingFace = temp["port"],
            Sam = Path.Combine(folder, "sam_ckpt.pth"),
            Output = temp["out"],
            DType = "f32",
        });
        using var expected = SamCheckpoint.Open(folder);
        using var actual = SamCheckpoint.Open(temp["out"]);
        Assert.Equal(1e-5f, actual.Config.LnVisionEps);
        var names = expected.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)).ToList();
        Assert.Equal(names, actual.Names);
        using var store = SafetensorsFolder.Open(folder);
        foreach (string name in names)
        {
            Assert.True(store.TryGet(name, out var tensor));
            Assert.True(tensor.Bytes.SequenceEqual(actual.Get(name, [.. tensor.Shape]).Bytes), name);
        }
    }

    [Fact]
    public async Task Without_adapters_it_is_plain_InstructBlip_with_the_ports_epsilon_and_says_so()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        PortWriter.Write(tiny.Folder, temp["port"]);
        File.Copy(Golden.Fixture("text", "tokenizer.model"), Path.Combine(temp["port"], SamCheckpoint.TokenizerName));
        Directory.CreateDirectory(Path.Combine(temp["port"], "qformer_tokenizer"));
        File.Copy(Golden.Fixture("text", "vocab.txt"), Path.Combine(temp["port"], "qformer_tokenizer", "vocab.txt"));
        using (var checkpoint = SamCheckpoint.Open(temp["port"]))
        {
            Assert.False(checkpoint.HasAdapters);
            Assert.Equal(1e-6f, checkpoint.Config.LnVisionEps);
            Assert.Contains(checkpoint.Notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
        }
        using var model = await SamModel.LoadAsync(temp["port"]);
        var request = new DescribeRequest
        {
            Images = [TinyModel.Picture(1), TinyModel.Picture(2)],
            Prompt = "What is this?",
            Options = new GenerationOptions { MaxLength = 8 },
        };
        Assert.False((await model.DescribeToEndAsync(request)).Guided);
        var error = await Assert.ThrowsAsync<RequestException>(() =>
            model.DescribeToEndAsync(request with { Guidance = Guidance.On }));
        Assert.Contains("Adapters", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_torch_file_is_opened_only_when_asked_for()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        File.WriteAllText(temp["sam.pth"], "");
        var error = Assert.Throws<CheckpointException>(() =>
            SamCheckpoint.Open(tiny.Folder, new CheckpointOptions { Adapters = temp["sam.pth"] }));
        Assert.Contains("AllowTorchFiles", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_joint_bias_with_key_biases_is_refused()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        PortWriter.Write(tiny.Folder, temp["port"]);
        string file = Path.Combine(temp["port"], SafetensorsFolder.SingleName);
        long at;
        using (var store = SafetensorsFile.Open(file))
        {
            Assert.True(store.TryGet("vision_model.encoder.layers.1.self_attn.qkv.bias", out var tensor));
            long start = store.Names.Min(n => store.TryGet(n, out var t) ? t.Address : nint.MaxValue);
            long data = store.Names.Sum(n => store.TryGet(n, out var t) ? t.ByteLength : 0);
            at = new FileInfo(file).Length - data + (tensor.Address - start) + tensor.ByteLength / 3;
        }
        using (var stream = new FileStream(file, FileMode.Open, FileAccess.Write))
        {
            stream.Position = at;
            stream.Write(BitConverter.GetBytes(1f));
        }
        using var checkpoint = SamCheckpoint.Open(temp["port"]);
        using var backend = new CpuBackend();
        var error = Assert.Throws<CheckpointException>(() => SamWeights.Load(checkpoint, backend));
        Assert.Contains("layers.1.self_attn.qkv.bias", error.Message, StringComparison.Ordinal);
        Assert.Contains("keys", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_name_the_port_does_not_have_is_named()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        PortWriter.Write(tiny.Folder, temp["port"]);
        string file = Path.Combine(temp["port"], SafetensorsFolder.SingleName);
        byte[] bytes = File.ReadAllBytes(file);
        int at = bytes.AsSpan().IndexOf("qformer.encoder.layer.1.output_query.dense.bias"u8);
        Assert.True(at > 0);
        "qformer.encoder.layer.1.output_qqqqq.dense.bias"u8.CopyTo(bytes.AsSpan(at));
        File.WriteAllBytes(file, bytes);
        using var checkpoint = SamCheckpoint.Open(temp["port"]);
        using var backend = new CpuBackend();
        var error = Assert.Throws<CheckpointException>(() => SamWeights.Load(checkpoint, backend));
        Assert.Contains("layer.1.output_query.dense.bias", error.Message, StringComparison.Ordinal);
    }
}
