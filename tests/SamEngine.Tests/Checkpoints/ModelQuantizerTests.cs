using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

public sealed class ModelQuantizerTests : IDisposable
{
    private static readonly WeightFormats Mixed = WeightFormats.Parse("vision=q8,qformer=bf16,llm=q4");
    private readonly TinyModel _model = new();
    private readonly TempFolder _temp = new();

    [Fact]
    public async Task A_quantized_folder_says_what_quantizing_while_loading_says()
    {
        Quantize(_temp["packed"], Mixed);
        string expected = await Describe(_model.Folder, Mixed);
        Assert.Equal(expected, await Describe(_temp["packed"], null));
        Assert.Equal(expected, await Describe(_temp["packed"], Mixed));
    }

    [Theory]
    [InlineData(32)]
    [InlineData(64)]
    [InlineData(128)]
    public void Parts_have_the_formats_asked_for_and_the_rest_stays(int group)
    {
        Quantize(_temp["packed"], Mixed with { GroupSize = group });
        using var original = SamCheckpoint.Open(_model.Folder);
        using var packed = SamCheckpoint.Open(_temp["packed"]);
        Assert.Equal(original.Names, packed.Names);
        foreach (string name in packed.Names)
        {
            var (from, to) = (original.Peek(name), packed.Peek(name));
            Assert.Equal(from.Shape, to.Shape);
            bool matrix = from.Shape.Count > 1 && from.Shape[0] > 1 && !name.Contains("position_embeddings", StringComparison.Ordinal);
            Assert.Equal(!matrix ? TensorDType.F32 : name.StartsWith("llm_model.", StringComparison.Ordinal) ? TensorDType.Q4
                : name.StartsWith("visual_encoder.", StringComparison.Ordinal) ? TensorDType.Q8 : TensorDType.BF16, to.DType);
            Assert.Equal(to.DType.IsQuantized() ? group : 0, to.GroupSize);
            Assert.True(!to.DType.IsQuantized() || to.Address % 64 == 0, name);
        }
    }

    [Fact]
    public void Every_matrix_is_about_as_close_as_plain_rounding()
    {
        Quantize(_temp["packed"], Mixed);
        var errors = QuantizationError.Compare(_model.Folder, _temp["packed"]).ToList();
        using (var stop = new CancellationTokenSource())
        {
            using var compared = QuantizationError.Compare(_model.Folder, _temp["packed"], stop.Token).GetEnumerator();
            Assert.True(compared.MoveNext());
            stop.Cancel();
            Assert.Throws<OperationCanceledException>(() => compared.MoveNext());
        }
        Assert.Contains(errors, e => e.Name == SamCheckpoint.HeadName && e.Format == "q4 groups of 64");
        // Uniform weights: evenly spaced levels suit them best, and a row's length is no multiple of a group.
        Assert.All(errors, e => Assert.True(e.RelativeError <= 1.5 * e.PlainError && e.Cosine > 0.99, e.ToString()));
    }

    [Fact]
    public void Stopped_anywhere_it_goes_on_and_writes_the_same_bytes()
    {
        Quantize(_temp["whole"], Mixed);
        for (int stops = 0, after = 1; ; stops++, after += 17)
        {
            using var cancel = new CancellationTokenSource();
            int tensors = 0;
            try
            {
                var notes = Quantize(_temp["again"], Mixed, new Told(_ =>
                {
                    if (++tensors == after)
                    {
                        cancel.Cancel();
                    }
                }), cancel.Token);
                Assert.True(stops > 2);
                Assert.Contains(notes, n => n.StartsWith("went on behind", StringComparison.Ordinal));
                break;
            }
            catch (OperationCanceledException)
            {
                Assert.False(Directory.Exists(_temp["again"]));
            }
        }
        foreach (string file in Directory.GetFiles(_temp["whole"]))
        {
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(_temp["again"], Path.GetFileName(file))));
        }
        Assert.False(Directory.Exists(_temp["again"] + ".partial"));
    }

    [Fact]
    public void Killed_in_the_middle_of_a_journal_line_it_goes_on()
    {
        Quantize(_temp["whole"], Mixed);
        using var cancel = new CancellationTokenSource();
        int tensors = 0;
        Assert.Throws<OperationCanceledException>(() => Quantize(_temp["again"], Mixed,
            new Told(_ => { if (++tensors == 9) { cancel.Cancel(); } }), cancel.Token));
        string journal = Path.Combine(_temp["again"] + ".partial", "quantize.journal");
        string text = File.ReadAllText(journal);
        File.WriteAllText(journal, text[..^5]);
        Quantize(_temp["again"], Mixed);
        Assert.Equal(File.ReadAllBytes(Path.Combine(_temp["whole"], "model.safetensors")),
            File.ReadAllBytes(Path.Combine(_temp["again"], "model.safetensors")));
    }

    [Fact]
    public void The_beginning_of_another_run_is_refused()
    {
        Directory.CreateDirectory(_temp["out"] + ".partial");
        File.WriteAllText(Path.Combine(_temp["out"] + ".partial", "quantize.journal"), "of another\n");
        var error = Assert.Throws<OutputException>(() => Quantize(_temp["out"], Mixed));
        Assert.Contains("another quantization", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Shards_hold_what_one_file_holds()
    {
        Quantize(_temp["one"], Mixed);
        ModelQuantizer.Quantize(new QuantizeOptions
        {
            Source = _model.Folder,
            Output = _temp["many"],
            Weights = Mixed,
            MaxShardBytes = 100_000,
        });
        Assert.True(Directory.GetFiles(_temp["many"], "*.safetensors").Length > 3);
        using var one = SamCheckpoint.Open(_temp["one"]);
        using var many = SamCheckpoint.Open(_temp["many"]);
        foreach (string name in one.Names)
        {
            Assert.Equal(one.Peek(name).Bytes, many.Peek(name).Bytes);
        }
    }

    [Fact]
    public async Task Quantized_weights_are_not_rounded_again()
    {
        Quantize(_temp["packed"], Mixed);
        var error = Assert.Throws<RequestException>(() => ModelQuantizer.Quantize(new QuantizeOptions
        {
            Source = _temp["packed"],
            Output = _temp["twice"],
            Weights = WeightFormat.Q8,
        }));
        Assert.Contains("quantize the original", error.Message, StringComparison.Ordinal);
        var loading = await Assert.ThrowsAsync<RequestException>(() => Describe(_temp["packed"], WeightFormat.F16));
        Assert.Contains("sam model quantize", loading.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("q5")]
    [InlineData("vision=q8,vision=q4")]
    [InlineData("vision")]
    [InlineData("head=q8")]
    [InlineData("")]
    public void Other_texts_for_weights_are_refused(string text) =>
        Assert.Throws<RequestException>(() => WeightFormats.Parse(text));

    [Fact]
    public void Texts_for_weights_are_read()
    {
        Assert.Equal(WeightFormats.All(WeightFormat.Q8), WeightFormats.Parse("q8"));
        Assert.Equal(new WeightFormats { Vision = WeightFormat.Q8, Llm = WeightFormat.Q4 }, WeightFormats.Parse("llm=q4,vision=Q8"));
    }

    [Fact]
    public void A_group_of_another_size_is_refused()
    {
        var error = Assert.Throws<RequestException>(() => Quantize(_temp["out"], Mixed with { GroupSize = 48 }));
        Assert.Contains("32, 64 or 128", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_weight_that_is_no_number_is_named()
    {
        _model.Change(n => n == "llm_model.model.layers.1.mlp.down_proj.weight", v => v[77] = float.NaN);
        var error = Assert.Throws<CheckpointException>(() => Quantize(_temp["out"], Mixed));
        Assert.Contains("mlp.down_proj.weight", error.Message, StringComparison.Ordinal);
        Assert.Contains("NaN", error.Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _model.Dispose();
        _temp.Dispose();
    }

    private static async Task<string> Describe(string folder, WeightFormats? weights)
    {
        using var model = await SamModel.LoadAsync(folder, new SamModelOptions { Weights = weights, Threads = 2 },
            cancellationToken: TestContext.Current.CancellationToken);
        var result = await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = [TinyModel.Picture(1), TinyModel.Picture(2)],
            Prompt = "What do they share?",
            Options = new GenerationOptions { NumBeams = 2, MaxLength = 12 },
        }, TestContext.Current.CancellationToken);
        return result.Text;
    }

    private IReadOnlyList<string> Quantize(string output, WeightFormats weights, IProgress<ConvertProgress>? progress = null,
        CancellationToken cancellation = default) => ModelQuantizer.Quantize(new QuantizeOptions
        {
            Source = _model.Folder,
            Output = output,
            Weights = weights,
        }, progress, cancellation);

    private sealed class Told(Action<ConvertProgress> tell) : IProgress<ConvertProgress>
    {
        public void Report(ConvertProgress value) => tell(value);
    }
}
