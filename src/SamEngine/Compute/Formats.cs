namespace SamEngine.Compute;

/// <summary>Type of one element of a device buffer.</summary>
internal enum ElementType
{
    F32,
    F16,
    BF16,
    I32,
}

/// <summary>How a weight matrix is stored. Q8 and Q4 have one fp16 scale per group of consecutive columns
/// (docs/quantisation.md).</summary>
public enum WeightFormat
{
    /// <summary>32-bit floating point.</summary>
    F32,

    /// <summary>IEEE half precision.</summary>
    F16,

    /// <summary>bfloat16.</summary>
    BF16,

    /// <summary>8-bit codes, evenly spaced.</summary>
    Q8,

    /// <summary>4-bit codes for sixteen unevenly spaced levels.</summary>
    Q4,
}

/// <summary>What a linear layer applies to its output before the residual is added.</summary>
internal enum Activation
{
    None,

    /// <summary>Exact GELU, x/2 (1 + erf(x/sqrt 2)).</summary>
    Gelu,
}

internal static class ElementTypes
{
    public static bool IsQuantized(this WeightFormat format) => format is WeightFormat.Q8 or WeightFormat.Q4;

    public static int ByteSize(this ElementType type) => type is ElementType.F32 or ElementType.I32 ? 4 : 2;
}
