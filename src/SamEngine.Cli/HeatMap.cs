using System.Runtime.InteropServices;
using SamEngine.Imaging;
using SkiaSharp;

namespace SamEngine.Cli;

/// <summary>Pictures with maps over them, all squares of one size, as the model sees them.</summary>
internal sealed class HeatMap : IDisposable
{
    /// <summary>Pixels of a square's side.</summary>
    public const int Side = 224;

    private readonly SKBitmap _picture;

    /// <param name="image">A picture the engine has read already.</param>
    /// <param name="index">Its position, for errors.</param>
    public HeatMap(SamImage image, int index)
    {
        byte[] rgb = new ImagePreprocessor(Side, ImagePreprocessor.ReferenceMean, ImagePreprocessor.ReferenceStd, new ImageLimits())
            .Decode(image, index, out int width, out int height);
        byte[] rgba = new byte[width * height * 4];
        for (int i = 0; i < width * height; i++)
        {
            rgb.AsSpan(3 * i, 3).CopyTo(rgba.AsSpan(4 * i));
            rgba[4 * i + 3] = 255;
        }
        var pinned = GCHandle.Alloc(rgba, GCHandleType.Pinned);
        try
        {
            using var whole = new SKBitmap();
            whole.InstallPixels(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque), pinned.AddrOfPinnedObject());
            _picture = whole.Resize(new SKImageInfo(Side, Side, SKColorType.Rgba8888, SKAlphaType.Opaque),
                new SKSamplingOptions(SKFilterMode.Linear, SKMipmapMode.Linear));
        }
        finally
        {
            pinned.Free();
        }
    }

    /// <summary>The picture alone.</summary>
    public SKBitmap Picture => _picture;

    /// <summary>The picture in grey with a map over it: nothing at <paramref name="low"/>, over yellow to red at
    /// <paramref name="high"/>.</summary>
    /// <param name="patches">[rows * rows] values.</param>
    /// <param name="across">Patches in a row.</param>
    /// <param name="low">Value without colour.</param>
    /// <param name="high">Value of the strongest colour.</param>
    public SKBitmap Over(IReadOnlyList<float> patches, int across, float low, float high)
    {
        var result = new SKBitmap(new SKImageInfo(Side, Side, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using var canvas = new SKCanvas(result);
        using var grey = new SKPaint
        {
            ColorFilter = SKColorFilter.CreateColorMatrix(
            [
                0.25f, 0.45f, 0.1f, 0, 0, 0.25f, 0.45f, 0.1f, 0, 0, 0.25f, 0.45f, 0.1f, 0, 0, 0, 0, 0, 1, 0,
            ]),
        };
        canvas.DrawBitmap(_picture, 0, 0, grey);
        float step = (float)Side / across;
        using var paint = new SKPaint();
        for (int p = 0; p < patches.Count; p++)
        {
            float heat = high > low ? Math.Clamp((patches[p] - low) / (high - low), 0, 1) : 0;
            paint.Color = new SKColor(255, (byte)(255 * Math.Min(1, 2 - 2 * heat)), 0, (byte)(200 * heat));
            canvas.DrawRect(p % across * step, p / across * step, step, step, paint);
        }
        return result;
    }

    public void Dispose() => _picture.Dispose();
}
