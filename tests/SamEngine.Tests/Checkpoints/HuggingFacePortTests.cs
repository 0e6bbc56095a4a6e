using System.Text.Json.Nodes;
using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>The Hugging Face port of InstructBLIP: golden weights under its names give what they give under the canonical
/// ones.</summary>
public sealed class HuggingFacePortTests
{
    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task With_adapters_every_stage_and_generation_is_the_golden_one(bool torch, bool later)
    {
        using var temp = new TempFolder();
        using var golden = new GoldenModel(Golden.Folder("tiny-a"));
        WritePort(golden, temp["port"], torch, later);
        using var checkpoint = SamCheckpoint.Open(temp["port"], new CheckpointOptions
        {
            Adapters = Path.Combine(golden.Folder, "sam_ckpt.pth"),
            AllowTorchFiles = true,
        });
        Assert.True(checkpoint.IsPort);
        Assert.True(checkpoint.HasAdapters);
        Assert.Equal(1e-5f, checkpoint.Config.LnVisionEps);
        Assert.Contains(checkpoint.Notes, n => n.Contains("ln_vision.eps is 1E-05", StringComparison.Ordinal));
        Assert.Equal(golden.Config.Llm.BosTokenId, checkpoint.Config.Llm.BosTokenId);
        AssertSameTensors(golden.Folder, checkpoint);
        using var backend = new CpuBackend();
        await GoldenStages.Check(golden, checkpoint, backend);
        if (!torch && !later)
        {
            await GoldenGenerations.Check(golden, checkpoint, backend);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Converted_with_adapters_it_is_the_golden_model(bool torch)
    {
        using var temp = new TempFolder();
        using var golden = new GoldenModel(Golden.Folder("tiny-a"));
        WritePort(golden, temp["port"], torch);
        CheckpointConverter.Convert(new ConvertOptions
        {
            HuggingFace = temp["port"],
            Sam = Path.Combine(golden.Folder, "sam_ckpt.pth"),
            Output = temp["out"],
            DType = "f32",
        });
        using var checkpoint = SamCheckpoint.Open(temp["out"]);
        Assert.Equal(golden.Config with { Llm = checkpoint.Config.Llm }, checkpoint.Config);
        AssertSameTensors(golden.Folder, checkpoint);
        CheckpointShapes.Check(checkpoint);
    }

    [Fact]
    public void Without_adapters_it_is_plain_InstructBlip_and_says_so()
    {
        using var temp = new TempFolder();
        using var golden = new GoldenModel(Golden.Folder("tiny-a"));
        WritePort(golden, temp["port"]);
        using (var checkpoint = SamCheckpoint.Open(temp["port"]))
        {
            Assert.False(checkpoint.HasAdapters);
            Assert.Equal(1e-6f, checkpoint.Config.LnVisionEps);
            Assert.Contains(checkpoint.Notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
            CheckpointShapes.Check(checkpoint);
        }
        var inspected = CheckpointInspector.Inspect(temp["port"]);
        Assert.Contains(inspected.Notes, n => n.StartsWith("incomplete: has no tokenizer.model and no vocab.txt", StringComparison.Ordinal));
        Assert.Contains(inspected.Notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
        Assert.DoesNotContain(inspected.Parts, p => p.Name == "other");
        var notes = CheckpointConverter.Convert(new ConvertOptions { HuggingFace = temp["port"], Output = temp["out"] });
        Assert.Contains(notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
        using var converted = SamCheckpoint.Open(temp["out"]);
        Assert.Equal(1e-6f, converted.Config.LnVisionEps);
    }

    [Fact]
    public void Torch_files_are_opened_only_where_that_is_allowed()
    {
        using var temp = new TempFolder();
        using var golden = new GoldenModel(Golden.Folder("tiny-a"));
        WritePort(golden, temp["torch"], torch: true);
        WritePort(golden, temp["safe"]);
        AssertError("only where that is allowed", () => SamCheckpoint.Open(temp["torch"]));
        AssertError("only where that is allowed", () => SamCheckpoint.Open(temp["safe"],
            new CheckpointOptions { Adapters = Path.Combine(golden.Folder, "sam_ckpt.pth") }));
    }

    [Fact]
    public void Rows_behind_the_tokenizers_vocabulary_are_not_shown()
    {
        using var temp = new TempFolder();
        using var tiny = new TinyModel();
        using var weights = SafetensorsFolder.Open(tiny.Folder);
        // Later versions of the port have an image token and padding to a multiple of 64.
        var padded = TinyModel.Config with { Llm = TinyModel.Config.Llm with { VocabularySize = 640 } };
        PortWriter.Write(temp["port"], weights, padded, change: tensors => [.. tensors.Select(t =>
            t.Shape is [601, var width] ? t with
            {
                Shape = [640, width],
                Bytes = () => [.. t.Bytes(), new byte[39 * width * 4]],
            } : t)]);
        File.Copy(Golden.Fixture("text", "tokenizer.model"), Path.Combine(temp["port"], "tokenizer.model"));
        Directory.CreateDirectory(Path.Combine(temp["port"], "qformer_tokenizer"));
        File.Copy(Golden.Fixture("text", "vocab.txt"), Path.Combine(temp["port"], "qformer_tokenizer", "vocab.txt"));
        using (var checkpoint = SamCheckpoint.Open(temp["port"]))
        {
            Assert.Equal(601, checkpoint.Config.Llm.VocabularySize);
            Assert.Equal(600, checkpoint.Config.Llm.PadTokenId);
            AssertSameTensors(tiny.Folder, checkpoint);
            CheckpointShapes.Check(checkpoint);
            Assert.EndsWith(Path.Combine("qformer_tokenizer", "vocab.txt"), checkpoint.VocabularyPath, StringComparison.Ordinal);
        }
        CheckpointConverter.Convert(new ConvertOptions { HuggingFace = temp["port"], Output = temp["out"], DType = "f32" });
        using var converted = SamCheckpoint.Open(temp["out"]);
        AssertSameTensors(tiny.Folder, converted);
        Assert.NotNull(converted.VocabularyPath);
        Assert.Contains("600", File.ReadAllText(converted.GenerationConfigPath!), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_port_folder_describes_pictures()
    {
        using var temp = new TempFolder();
        using var tiny = new TinyModel();
        using (var weights = SafetensorsFolder.Open(tiny.Folder))
        {
            PortWriter.Write(temp["port"], weights, TinyModel.Config);
        }
        File.Copy(Golden.Fixture("text", "tokenizer.model"), Path.Combine(temp["port"], "tokenizer.model"));
        File.Copy(Golden.Fixture("text", "vocab.txt"), Path.Combine(temp["port"], "vocab.txt"));
        using var model = await SamModel.LoadAsync(temp["port"]);
        Assert.False(model.Info.HasGuidance);
        Assert.Contains(model.Info.Notes, n => n.Contains("plain InstructBLIP", StringComparison.Ordinal));
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

    [Theory]
    [InlineData("missing", "'vision_model.encoder.layers.1.self_attn.qkv.bias' (visual_encoder.blocks.1.attn.q_bias) is missing")]
    [InlineData("unknown", "'qformer.encoder.layer.0.extra.weight'", "Qformer.bert.encoder.layer.0.extra.weight")]
    [InlineData("misshapen", "'language_projection.bias' (llm_proj.bias) is [63], expected [64]")]
    [InlineData("misshapen bias", "'vision_model.encoder.layers.0.self_attn.qkv.bias' is [197], expected [3 * width]")]
    [InlineData("key bias", "'vision_model.encoder.layers.0.self_attn.qkv.bias' has a bias for keys")]
    [InlineData("twice", "is the same as")]
    [InlineData("another language model", "'text_config.model_type' is \"t5\", expected one of: llama")]
    public void What_is_wrong_is_named(string fault, string expected, string? instead = null)
    {
        using var temp = new TempFolder();
        using var golden = new GoldenModel(Golden.Folder("tiny-a"));
        const string Bias = "vision_model.encoder.layers.0.self_attn.qkv.bias";
        WritePort(golden, temp["port"], change: tensors => fault switch
        {
            "missing" => [.. tensors.Where(t => t.Name != "vision_model.encoder.layers.1.self_attn.qkv.bias")],
            "unknown" => [.. tensors, TensorSource.Of("qformer.encoder.layer.0.extra.weight", 1, 2)],
            "misshapen" => Replace(tensors, TensorSource.Of("language_projection.bias", new float[63])),
            "misshapen bias" => Replace(tensors, TensorSource.Of(Bias, new float[197])),
            "key bias" => Replace(tensors, TensorSource.Of(Bias, [.. Enumerable.Range(0, 198).Select(i => i == 70 ? 1f : 0f)])),
            "twice" => [.. tensors, tensors.Single(t => t.Name == "query_tokens") with { Name = "model.query_tokens" }],
            _ => tensors,
        });
        if (fault == "another language model")
        {
            var json = JsonNode.Parse(File.ReadAllText(Path.Combine(temp["port"], "config.json")))!;
            json["text_config"]!["model_type"] = "t5";
            File.WriteAllText(Path.Combine(temp["port"], "config.json"), json.ToJsonString());
        }
        foreach (var open in (Action[])[
            () =>
            {
                using var checkpoint = SamCheckpoint.Open(temp["port"]);
                CheckpointShapes.Check(checkpoint);
            },
            () => CheckpointConverter.Convert(new ConvertOptions { HuggingFace = temp["port"], Output = temp["out"] }),
        ])
        {
            var error = Assert.Throws<CheckpointException>(open);
            Assert.True(error.Message.Contains(expected, StringComparison.Ordinal)
                || (instead is not null && error.Message.Contains(instead, StringComparison.Ordinal)), error.Message);
            Assert.False(Directory.Exists(temp["out"]));
        }
    }

    [Fact]
    public void Only_one_source_of_a_conversion_is_taken()
    {
        using var temp = new TempFolder();
        Assert.Throws<RequestException>(() => CheckpointConverter.Convert(new ConvertOptions
        {
            HuggingFace = temp.Path,
            Llm = temp.Path,
            Output = temp["out"],
        }));
        Assert.Throws<RequestException>(() => CheckpointConverter.Convert(new ConvertOptions
        {
            InstructBlip = temp.Path,
            Output = temp["out"],
        }));
    }

    private static void WritePort(GoldenModel golden, string folder, bool torch = false, bool later = false,
        Func<List<TensorSource>, List<TensorSource>>? change = null)
    {
        using var weights = SafetensorsFolder.Open(golden.Folder);
        PortWriter.Write(folder, weights, golden.Config, torch, later, change);
    }

    private static List<TensorSource> Replace(List<TensorSource> tensors, TensorSource by) =>
        [.. tensors.Select(t => t.Name == by.Name ? by : t)];

    private static void AssertSameTensors(string folder, SamCheckpoint actual)
    {
        using var expected = SafetensorsFolder.Open(folder);
        foreach (string name in expected.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)
            && (actual.HasAdapters || !SamCheckpoint.IsAdapter(n))))
        {
            Assert.True(expected.TryGet(name, out var tensor));
            Assert.True(tensor.Bytes.SequenceEqual(actual.Get(name, [.. tensor.Shape]).Bytes), name);
        }
    }

    private static void AssertError(string fragment, Action action) =>
        Assert.Contains(fragment, Assert.Throws<CheckpointException>(action).Message, StringComparison.Ordinal);
}
