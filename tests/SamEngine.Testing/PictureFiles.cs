using SkiaSharp;

namespace SamEngine.Testing;

/// <summary>Pictures drawn for tests: landscapes with a ball, each of another size, colour and file format.</summary>
public static class PictureFiles
{
    /// <summary>Writes <paramref name="count"/> pictures into a folder and returns their paths.</summary>
    public static string[] Write(string folder, int count)
    {
        SKEncodedImageFormat[] formats = [SKEncodedImageFormat.Png, SKEncodedImageFormat.Jpeg, SKEncodedImageFormat.Webp];
        return [.. Enumerable.Range(0, count).Select(i =>
        {
            using var bitmap = new SKBitmap(120 + 40 * i, 90 + 10 * i, SKColorType.Rgba8888, SKAlphaType.Opaque);
            using var canvas = new SKCanvas(bitmap);
            canvas.Clear(SKColor.FromHsv(200 + 10 * i, 50, 95));
            using var grass = new SKPaint { Color = SKColor.FromHsv(90 + 20 * i, 70, 60) };
            using var ball = new SKPaint { Color = SKColor.FromHsv(70 * i, 90, 90), IsAntialias = true };
            canvas.DrawRect(0, bitmap.Height * 0.6f, bitmap.Width, bitmap.Height, grass);
            canvas.DrawCircle(bitmap.Width * (0.2f + 0.15f * i), bitmap.Height * 0.55f, bitmap.Height * 0.2f, ball);
            canvas.Flush();
            var format = formats[i % formats.Length];
            string path = Path.Combine(folder, $"picture {i}.{format}".ToLowerInvariant());
            using var stream = File.Create(path);
            bitmap.Encode(stream, format, 90);
            return path;
        })];
    }
}
