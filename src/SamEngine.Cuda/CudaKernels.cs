using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>A kernel of the loaded image.</summary>
internal sealed class CudaKernel(string name, nint function)
{
    /// <summary>Its name in the image.</summary>
    public string Name { get; } = name;

    /// <summary>The driver's handle.</summary>
    public nint Function { get; } = function;

    /// <summary>Whether it has been launched; for tests that each shape gets the kernel that is meant for it.</summary>
    public bool WasLaunched { get; set; }
}

/// <summary>
/// The kernels for one type of activations, looked up once. A name is the operation, then the activation type, then, where
/// it matters, the weight format: <c>linear_f16_q4</c>.
/// </summary>
internal sealed unsafe class CudaKernels : IDisposable
{
    private static readonly string[] FloatTypes = ["f32", "f16", "bf16"];

    /// <summary>Rows up to which the kernels of linear_few.cu, and of linear_few64.cu, go.</summary>
    private static readonly int[] FewRows = [8, 16, 32, 64];

    /// <summary>Head widths that the kernels of flash_attention.cu, and of paged_decode.cu, fill up to.</summary>
    private static readonly int[] FlashWidths = [64, 96, 128];
    private static readonly int[] DecodeWidths = [64, 128];

    /// <summary>Dynamic shared memory that every GPU of compute capability 8.0 or later gives a block that asks for it; no kernel
    /// needs more.</summary>
    private const int MostSharedBytes = 99 * 1024;

    private static readonly string[] Formats = ["f32", "f16", "bf16", "q8", "q4"];

    private readonly CudaModule _module;
    private readonly CudaKernel[] _linear;
    private readonly CudaKernel?[][] _linearFew;
    private readonly CudaKernel?[] _linearMma64;
    private readonly CudaKernel?[] _linearMma128;
    private readonly CudaKernel[] _flashAttention = [];
    private readonly CudaKernel[] _flashPaged = [];
    private readonly CudaKernel[] _pagedDecode = [];
    private readonly CudaKernel[] _embedding;
    private readonly CudaKernel[] _copies;

    public CudaKernels(CudaContext context, ReadOnlySpan<byte> image, ElementType activation)
    {
        _module = new CudaModule(context, image);
        try
        {
            string a = Suffix(activation);
            _linear = [.. Formats.Select(f => Find<LinearArguments>($"linear_{a}_{f}"))];
            _linearFew = [.. FewRows.Select(r => Halves<LinearArguments>(activation, $"linear_few{r}_{a}"))];
            _linearMma64 = Halves<LinearArguments>(activation, $"linear_mma64_{a}");
            _linearMma128 = Halves<LinearArguments>(activation, $"linear_mma128_{a}");
            _embedding = [.. Formats.Select(f => Find<EmbeddingArguments>($"embedding_{a}_{f}"))];
            _copies = [.. FloatTypes.SelectMany(s => FloatTypes.Select(d => Find<CopyArguments>($"copy_{s}_{d}")))];
            if (activation != ElementType.F32)
            {
                _flashAttention = [.. FlashWidths.Select(w => FindLarge<AttentionArguments>($"flash_attention{w}_{a}"))];
                _flashPaged = [.. FlashWidths.Select(w => FindLarge<PagedAttentionArguments>($"flash_paged{w}_{a}"))];
                _pagedDecode = [.. DecodeWidths.Select(w => FindLarge<PagedAttentionArguments>($"paged_decode{w}_{a}"))];
            }
            CopyInts = Find<CopyArguments>("copy_i32_i32");
            RmsNorm = Find<NormArguments>($"rms_norm_{a}");
            LayerNorm = Find<NormArguments>($"layer_norm_{a}");
            Add = Find<AddArguments>($"add_{a}");
            GatherRows = Find<GatherArguments>($"gather_rows_{a}");
            ExtractPatches = Find<PatchArguments>($"extract_patches_{a}");
            Attention = Find<AttentionArguments>($"attention_{a}");
            GroupPool = Find<GroupPoolArguments>($"group_pool_{a}");
            RotaryStoreKv = Find<RotaryStoreArguments>($"rotary_store_kv_{a}");
            PagedAttention = Find<PagedAttentionArguments>($"paged_attention_{a}");
            CopyKvBlocks = Find<CopyBlocksArguments>($"copy_kv_blocks_{a}");
            SwiGlu = Find<SwiGluArguments>($"swiglu_{a}");
            SelectRows = Find<SelectionArguments>("select_rows");
            SelectGroups = Find<SelectionArguments>("select_groups");
            TokenLogProbs = Find<TokenLogProbsArguments>("token_log_probs");
            MatrixRate = Find<MatrixRateArguments>("matrix_rate");
            RandomWeight = Find<RandomWeightArguments>("random_weight");
            LinearWgmma = activation == ElementType.F32 ? null : FindVariant<WgmmaArguments>($"linear_wgmma_{a}");
        }
        catch
        {
            _module.Dispose();
            throw;
        }
    }

    public CudaKernel CopyInts { get; }

    public CudaKernel RmsNorm { get; }

    public CudaKernel LayerNorm { get; }

    public CudaKernel Add { get; }

    public CudaKernel GatherRows { get; }

    public CudaKernel ExtractPatches { get; }

    public CudaKernel Attention { get; }

    public CudaKernel GroupPool { get; }

    public CudaKernel RotaryStoreKv { get; }

    public CudaKernel PagedAttention { get; }

    public CudaKernel CopyKvBlocks { get; }

    public CudaKernel SwiGlu { get; }

    public CudaKernel SelectRows { get; }

    public CudaKernel SelectGroups { get; }

    public CudaKernel TokenLogProbs { get; }

    /// <summary>For measuring; no operation uses it.</summary>
    public CudaKernel MatrixRate { get; }

    /// <summary>For measuring; no operation uses it.</summary>
    public CudaKernel RandomWeight { get; }

    /// <summary>Large tiles of many rows with weights of the activation type, as <see cref="CudaVariants.Wgmma"/>; null where the
    /// image lacks it.</summary>
    public CudaKernel? LinearWgmma { get; }

    /// <summary>All of them; for tests.</summary>
    public List<CudaKernel> All { get; } = [];

    /// <summary>The activation type in the kernels' names.</summary>
    public static string Suffix(ElementType activation) => FloatTypes[(int)activation];

    /// <summary>Any shape.</summary>
    public CudaKernel Linear(WeightFormat format) => _linear[(int)format];

    /// <summary>So few rows; null where they are more than 64, and for the formats and activations that no such kernel takes.</summary>
    public CudaKernel? LinearFew(WeightFormat format, int rows)
    {
        int width = Array.FindIndex(FewRows, r => r >= rows);
        return width < 0 ? null : _linearFew[width][(int)format];
    }

    /// <summary>Tiles of 64, or 128, rows and outputs; null for the formats and activations that it does not take.</summary>
    public CudaKernel? LinearMma(WeightFormat format, bool large) => (large ? _linearMma128 : _linearMma64)[(int)format];

    /// <summary>Dense attention of heads of this width, and the width that it works with; null for what it does not take.</summary>
    public (CudaKernel Kernel, int Width)? FlashAttention(int width) => Widest(_flashAttention, FlashWidths, width);

    /// <inheritdoc cref="FlashAttention"/>
    public (CudaKernel Kernel, int Width)? FlashPaged(int width) => Widest(_flashPaged, FlashWidths, width);

    /// <inheritdoc cref="FlashAttention"/>
    public (CudaKernel Kernel, int Width)? PagedDecode(int width) => Widest(_pagedDecode, DecodeWidths, width);

    public CudaKernel Embedding(WeightFormat format) => _embedding[(int)format];

    /// <summary>Between floating-point types.</summary>
    public CudaKernel Copy(ElementType source, ElementType destination) => _copies[(int)source * FloatTypes.Length + (int)destination];

    public void Dispose() => _module.Dispose();

    private static (CudaKernel Kernel, int Width)? Widest(CudaKernel[] kernels, int[] widths, int width)
    {
        for (int i = 0; i < kernels.Length; i++)
        {
            if (widths[i] >= width)
            {
                return (kernels[i], widths[i]);
            }
        }
        return null;
    }

    /// <summary>A kernel that takes one argument of this type.</summary>
    /// <exception cref="BackendException">The image lacks it, or has one of other arguments.</exception>
    private CudaKernel Find<TArguments>(string name)
        where TArguments : unmanaged
    {
        nint function = _module.Find(name);
        if (function == 0)
        {
            throw new BackendException(CudaErrors.Backend, $"the kernels of this build have no '{name}': they are older than the " +
                "rest; build again");
        }
        CheckArguments<TArguments>(name, function);
        var kernel = new CudaKernel(name, function);
        All.Add(kernel);
        return kernel;
    }

    /// <summary>A kernel that only some images have, and that is not used unless asked for.</summary>
    private CudaKernel? FindVariant<TArguments>(string name)
        where TArguments : unmanaged
    {
        nint function = _module.Find(name);
        if (function == 0)
        {
            return null;
        }
        CheckArguments<TArguments>(name, function);
        var kernel = new CudaKernel(name, function);
        AllowSharedMemory(kernel);
        return kernel;
    }

    private static void CheckArguments<TArguments>(string name, nint function)
        where TArguments : unmanaged
    {
        if (CudaLibrary.Has(nameof(CudaDriver.cuFuncGetParamInfo)))
        {
            nuint offset;
            nuint bytes;
            CudaErrors.Check(CudaDriver.cuFuncGetParamInfo(function, 0, &offset, &bytes));
            if (bytes != (nuint)sizeof(TArguments))
            {
                throw new BackendException(CudaErrors.Backend, $"the kernel '{name}' takes {bytes} bytes of arguments, this build " +
                    $"gives {sizeof(TArguments)}: they are of different versions; build again");
            }
        }
    }

    /// <summary>Kernels of the tensor cores: 16-bit activations, every weight format but F32.</summary>
    private CudaKernel?[] Halves<TArguments>(ElementType activation, string name)
        where TArguments : unmanaged => [.. Formats.Select((format, i) =>
            activation == ElementType.F32 || (WeightFormat)i == WeightFormat.F32 ? null : FindLarge<TArguments>($"{name}_{format}"))];

    /// <summary>A kernel that may take more shared memory than a launch gets unasked.</summary>
    private CudaKernel FindLarge<TArguments>(string name)
        where TArguments : unmanaged
    {
        var kernel = Find<TArguments>(name);
        AllowSharedMemory(kernel);
        return kernel;
    }

    private static void AllowSharedMemory(CudaKernel kernel) => CudaErrors.Check(
        CudaDriver.cuFuncSetAttribute(kernel.Function, CudaFunctionAttribute.MaxDynamicSharedBytes, MostSharedBytes));
}
