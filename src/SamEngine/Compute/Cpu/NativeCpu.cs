using System.Runtime.InteropServices;

namespace SamEngine.Compute.Cpu;

/// <summary>The native library's C ABI (native/include/samengine_cpu.h). Callers pass validated pointers and lengths.</summary>
internal static unsafe partial class NativeCpu
{
    public const string Library = "samengine_cpu";
    public const int AbiVersion = 3;

    public enum Status
    {
        Ok,
        Invalid,
        OutOfMemory,
        Unsupported,
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct View
    {
        public float* Data;
        public int Batch;
        public int Rows;
        public int Columns;
        public int Padding;
        public long BatchStride;
        public long RowStride;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Part
    {
        public void* Data;
        public int Rows;
        public int Padding;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct WeightMatrix
    {
        public Part* Parts;
        public int PartCount;
        public int Rows;
        public int Columns;
        public int Format;
        public int GroupSize;
        public int Padding;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Cache
    {
        public float* Keys;
        public float* Values;
        public int Layers;
        public int Heads;
        public int HeadDim;
        public int BlockSize;
        public int Blocks;
        public int Padding;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Layout
    {
        public int* Positions;
        public int* Slots;
        public int* RowStarts;
        public int* BlockTable;
        public int Rows;
        public int Sequences;
        public long BlockTableStride;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Selection
    {
        public void* Groups;
        public int* LogitRows;
        public float* RowScores;
        public int* PenaltyIds;
        public int* BannedIds;
        public float* Scores;
        public int* Rows;
        public int* Tokens;
        public int* NonFinite;
        public long PenaltyStride;
        public long BannedStride;
        public int GroupCount;
        public int PenaltyColumns;
        public int BannedColumns;
        public int Candidates;
    }

    [LibraryImport(Library)]
    public static partial int sam_abi_version();

    [LibraryImport(Library)]
    public static partial int sam_cpu_best_isa();

    [LibraryImport(Library)]
    public static partial Status sam_cpu_create(int isa, int threads, nint* context);

    [LibraryImport(Library)]
    public static partial void sam_cpu_destroy(nint context);

    [LibraryImport(Library)]
    public static partial void sam_cpu_guard(void* memory, long bytes);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_linear(nint context, View* x, WeightMatrix* w, View* y, float* bias,
        int activation, View* residual);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_rms_norm(nint context, View* x, float* gain, float eps, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_layer_norm(nint context, View* x, float* gain, float* bias, float eps, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_embedding(nint context, WeightMatrix* table, int* ids, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_add(nint context, View* x, View* addend, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_copy(nint context, View* source, View* destination);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_gather_rows(nint context, View* x, int* indices, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_extract_patches(nint context, View* pixels, int channels, int patch, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_attention(nint context, View* q, View* k, View* v, int heads, float scale,
        View* y, View* probabilities);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_group_pool(nint context, View* features, float* weight, float* bias,
        View* contextOut, View* weights);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_rotary_store_kv(nint context, View* qkv, Cache* cache, int layer, int heads,
        View* cosSin, Layout* layout);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_paged_attention(nint context, View* q, Cache* cache, int layer, int heads,
        float scale, Layout* layout, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_copy_kv_blocks(nint context, Cache* cache, int* pairs, int count);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_swiglu(nint context, View* gateUp, View* y);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_select_tokens(nint context, View* logits, Selection* selection);

    [LibraryImport(Library)]
    public static partial Status sam_cpu_token_log_probs(nint context, View* logits, int* targets, float* y);
}
