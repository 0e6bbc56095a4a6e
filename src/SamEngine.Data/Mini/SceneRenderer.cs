using System.Runtime.InteropServices;
using SkiaSharp;

namespace SamEngine.Data.Mini;

/// <summary>Draws scenes with the emoji of Noto Color Emoji (SIL Open Font License 1.1), package fonts-noto-color-emoji of
/// Debian 12. Thread-safe.</summary>
internal sealed class SceneRenderer : IDisposable
{
    /// <summary>Version of the font whose glyphs the shipped model and samples were made from.</summary>
    public const string FontVersion = "2.042";

    /// <summary>Where Debian puts the font.</summary>
    public const string DebianFontPath = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
    private const string FontFamily = "Noto Color Emoji";
    private readonly SKTypeface _typeface;

    /// <param name="fontPath">The font file; null takes Debian's.</param>
    /// <exception cref="DatasetException">No such font, or another one.</exception>
    public SceneRenderer(string? fontPath = null)
    {
        string path = fontPath ?? DebianFontPath;
        if (!File.Exists(path))
        {
            throw new DatasetException(path, "is missing; the pictures are drawn with Noto Color Emoji " +
                $"{FontVersion}: apt install fonts-noto-color-emoji");
        }
        _typeface = SKTypeface.FromFile(path) is { FamilyName: FontFamily } face ? face
            : throw new DatasetException(path, $"is not the font '{FontFamily}'");
        CheckVersion(path);
    }

    /// <summary>Draws a scene.</summary>
    /// <param name="scene">What to draw.</param>
    /// <param name="side">Pixels.</param>
    /// <returns>RGBA bytes, [side, side, 4], opaque.</returns>
    public byte[] Render(Scene scene, int side)
    {
        var info = new SKImageInfo(side, side, SKColorType.Rgba8888, SKAlphaType.Premul);
        using var bitmap = new SKBitmap(info);
        using (var canvas = new SKCanvas(bitmap))
        {
            canvas.Scale(side);
            var random = new Random(scene.BackgroundSeed);
            Settings.All[scene.Setting].Draw(canvas, new Brush(random), random);
            foreach (var item in scene.Items)
            {
                canvas.Save();
                canvas.Translate(item.X, item.Y);
                canvas.RotateDegrees(item.Angle);
                canvas.Scale(item.Size);
                if (item.Type == ItemType.Toy)
                {
                    Toys.Draw(canvas, item.Variant, new SKColor(Things.Paints[item.Index].Argb));
                }
                else
                {
                    Glyph(canvas, item.Type == ItemType.Object ? Things.Objects[item.Index].Glyph
                        : Things.Activities[item.Index].Glyph);
                }
                canvas.Restore();
            }
        }
        return bitmap.GetPixelSpan().ToArray();
    }

    /// <summary>Draws a scene as a PNG file.</summary>
    public void WritePng(Scene scene, int side, string path)
    {
        byte[] rgba = Render(scene, side);
        var handle = GCHandle.Alloc(rgba, GCHandleType.Pinned);
        try
        {
            using var pixmap = new SKPixmap(new SKImageInfo(side, side, SKColorType.Rgba8888, SKAlphaType.Opaque),
                handle.AddrOfPinnedObject());
            using var data = pixmap.Encode(SKEncodedImageFormat.Png, 100)
                ?? throw new DatasetException(path, "could not be encoded as PNG");
            File.WriteAllBytes(path, data.ToArray());
        }
        finally
        {
            handle.Free();
        }
    }

    public void Dispose() => _typeface.Dispose();

    private void Glyph(SKCanvas canvas, string text)
    {
        // The bitmaps of the font are 136 pixels wide at size 109.
        using var font = new SKFont(_typeface, 0.8f) { Subpixel = true };
        using var paint = new SKPaint { IsAntialias = true };
        canvas.DrawText(text, -0.5f, 0.37f, font, paint);
    }

    /// <summary>The 'head' table's revision is the version; other glyphs would make other pictures.</summary>
    private void CheckVersion(string path)
    {
        byte[] head = _typeface.GetTableData(0x68656164) ?? [];
        double version = head.Length >= 8
            ? (head[4] << 8 | head[5]) + (head[6] << 8 | head[7]) / 65536.0 : 0;
        if (version.ToString("F3", System.Globalization.CultureInfo.InvariantCulture) != FontVersion)
        {
            throw new DatasetException(path, $"is version {version:F3} of {FontFamily}, expected {FontVersion} " +
                "(Debian 12, fonts-noto-color-emoji); other glyphs make other pictures");
        }
    }
}
