using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Cuda;

// What kernels are given: mirrors kernels/arguments.h, where the fields are explained. Sizes are compared when a kernel is
// loaded, where the driver can say them.

[StructLayout(LayoutKind.Sequential)]
internal struct DeviceView
{
    public nint Data;
    public int Batch;
    public int Rows;
    public int Columns;
    public ElementType Type;
    public long BatchStride;
    public long RowStride;
}

[StructLayout(LayoutKind.Sequential)]
internal struct DeviceWeight
{
    public nint Data;
    public nint Scales;
    public int Rows;
    public int Columns;
    public int RowStride;
    public int GroupSize;
    public int Groups;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct DeviceKvCache
{
    public nint Keys;
    public nint Values;
    public int Layers;
    public int Heads;
    public int HeadDim;
    public int BlockSize;
    public int Blocks;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct DeviceLayout
{
    public nint Positions;
    public nint Slots;
    public nint RowStarts;
    public nint BlockTable;
    public long BlockTableStride;
    public int Rows;
    public int Sequences;
    public int MostBlocks;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct LinearArguments
{
    public DeviceView X;
    public DeviceView Y;
    public DeviceView Residual;
    public DeviceWeight Weight;
    public nint Bias;
    public nint Partials;
    public nint Tickets;
    public Activation Activation;
    public int Splits;
}

[InlineArray(16)]
internal struct TensorMap
{
    private ulong _opaque;
}

[StructLayout(LayoutKind.Sequential)]
internal struct WgmmaArguments
{
    public TensorMap XMap;
    public TensorMap WeightMap;
    public LinearArguments Linear;
}

[StructLayout(LayoutKind.Sequential)]
internal struct NormArguments
{
    public DeviceView X;
    public DeviceView Y;
    public nint Gain;
    public nint Bias;
    public float Eps;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct EmbeddingArguments
{
    public DeviceWeight Table;
    public DeviceView Y;
    public nint Ids;
}

[StructLayout(LayoutKind.Sequential)]
internal struct AddArguments
{
    public DeviceView X;
    public DeviceView Addend;
    public DeviceView Y;
}

[StructLayout(LayoutKind.Sequential)]
internal struct CopyArguments
{
    public DeviceView Source;
    public DeviceView Destination;
}

[StructLayout(LayoutKind.Sequential)]
internal struct GatherArguments
{
    public DeviceView X;
    public DeviceView Y;
    public nint Indices;
}

[StructLayout(LayoutKind.Sequential)]
internal struct PatchArguments
{
    public DeviceView Pixels;
    public DeviceView Y;
    public int Channels;
    public int Patch;
}

[StructLayout(LayoutKind.Sequential)]
internal struct AttentionArguments
{
    public DeviceView Q;
    public DeviceView K;
    public DeviceView V;
    public DeviceView Y;
    public DeviceView Probabilities;
    public int Heads;
    public float Scale;
}

[StructLayout(LayoutKind.Sequential)]
internal struct GroupPoolArguments
{
    public DeviceView Features;
    public DeviceView Context;
    public DeviceView Weights;
    public nint Weight;
    public nint Bias;
}

[StructLayout(LayoutKind.Sequential)]
internal struct RotaryStoreArguments
{
    public DeviceView Qkv;
    public DeviceView CosSin;
    public DeviceKvCache Cache;
    public DeviceLayout Layout;
    public int Layer;
    public int Heads;
}

[StructLayout(LayoutKind.Sequential)]
internal struct PagedAttentionArguments
{
    public DeviceView Q;
    public DeviceView Y;
    public DeviceKvCache Cache;
    public DeviceLayout Layout;
    public nint Partials;
    public nint Tickets;
    public int Layer;
    public int Heads;
    public float Scale;
    public int Splits;
}

[StructLayout(LayoutKind.Sequential)]
internal struct CopyBlocksArguments
{
    public DeviceKvCache Cache;
    public nint Pairs;
    public int Count;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct SwiGluArguments
{
    public DeviceView GateUp;
    public DeviceView Y;
}

[StructLayout(LayoutKind.Sequential)]
internal struct SelectionArguments
{
    public DeviceView Logits;
    public nint Groups;
    public nint LogitRows;
    public nint RowScores;
    public nint PenaltyIds;
    public nint BannedIds;
    public nint Scores;
    public nint Rows;
    public nint Tokens;
    public nint NonFinite;
    public nint RowValues;
    public nint BestKeys;
    public nint BestScores;
    public nint BestTokens;
    public nint BestCounts;
    public nint Finite;
    public long PenaltyStride;
    public long BannedStride;
    public int GroupCount;
    public int RowCount;
    public int PenaltyColumns;
    public int BannedColumns;
    public int Candidates;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct TokenLogProbsArguments
{
    public DeviceView Logits;
    public nint Targets;
    public nint Y;
}

[StructLayout(LayoutKind.Sequential)]
internal struct MatrixRateArguments
{
    public nint Result;
    public int Rounds;
    public int Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct RandomWeightArguments
{
    public DeviceWeight Weight;
    public WeightFormat Format;
    public int Padding;
    public ulong Seed;
}
