namespace SamEngine;

/// <summary>What a picture may at most demand. Checked from its header, before any pixel is decoded.</summary>
public sealed record ImageLimits
{
    /// <summary>Most pixels (width times height) of one picture: 64 megapixels.</summary>
    public long MaxPixels { get; init; } = 64_000_000;

    /// <summary>Most pixels along one side: 65535, what a JPEG can declare.</summary>
    public int MaxSide { get; init; } = 65535;

    /// <summary>Most bytes of one encoded picture: 256 MiB. A stream is read no further than this.</summary>
    public int MaxFileBytes { get; init; } = 256 << 20;

    /// <summary>Checks the limits themselves.</summary>
    /// <exception cref="RequestException">One is below 1, or above what one buffer can hold.</exception>
    internal void Validate()
    {
        // Four bytes a pixel in one buffer.
        Range(nameof(MaxPixels), MaxPixels, Array.MaxLength / 4);
        Range(nameof(MaxSide), MaxSide, 1 << 24);
        Range(nameof(MaxFileBytes), MaxFileBytes, Array.MaxLength / 2);

        static void Range(string name, long value, long most)
        {
            if (value < 1 || value > most)
            {
                throw new RequestException(
                    $"{nameof(ImageLimits)}.{name}", $"{value} is out of range, expected 1 to {most}");
            }
        }
    }
}
