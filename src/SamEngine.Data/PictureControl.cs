using SamEngine.Imaging;

namespace SamEngine.Data;

/// <summary>What a model is shown of a sample's pictures. The controls tell what its scores owe to the pictures, and to there
/// being several.</summary>
public enum PictureControl
{
    /// <summary>Every picture, as the data set has it.</summary>
    All,

    /// <summary>For every picture a plain mid-grey one of the same size.</summary>
    Blank,

    /// <summary>The first picture alone.</summary>
    First,
}

/// <summary>Pictures of samples.</summary>
public static class PictureControls
{
    private const byte MidGrey = 128;

    /// <summary>The pictures that a model is shown of a sample, in order.</summary>
    /// <param name="dataset">The data set.</param>
    /// <param name="sample">One of its samples.</param>
    /// <param name="control">What of them is shown. <see cref="PictureControl.Blank"/> reads the pictures here and now, for their
    /// sizes.</param>
    /// <param name="cancellation">Ends the reading.</param>
    /// <exception cref="ImageException">A picture whose size is needed can't be read.</exception>
    public static IReadOnlyList<SamImage> ImagesOf(this MmLinkDataset dataset, MmLinkSample sample,
        PictureControl control = PictureControl.All, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(dataset);
        ArgumentNullException.ThrowIfNull(sample);
        var images = dataset.PathsOf(sample).Select(SamImage.FromFile);
        return control switch
        {
            PictureControl.First => [images.First()],
            PictureControl.Blank => [.. images.Select((image, i) => Blank(image, i, cancellation))],
            _ => [.. images],
        };
    }

    private static SamImage Blank(SamImage image, int index, CancellationToken cancellation)
    {
        var decoder = new ImagePreprocessor(1, ImagePreprocessor.ReferenceMean, ImagePreprocessor.ReferenceStd, new ImageLimits());
        byte[] pixels = decoder.Decode(image, index, out int width, out int height, cancellation);
        Array.Fill(pixels, MidGrey);
        return SamImage.FromPixels(pixels, width, height, name: "blank for " + image.Name);
    }
}
