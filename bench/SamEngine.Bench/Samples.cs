using SamEngine.Model;
using SkiaSharp;

namespace SamEngine.Bench;

/// <summary>Made-up requests: the same for the same arguments.</summary>
internal static class Samples
{
    public const int PictureWidth = 1920;
    public const int PictureHeight = 1080;

    /// <summary>Pixels and ids of a request whose language-model input has <paramref name="rows"/> rows.</summary>
    public static EngineInput Request(SamConfig config, int images, int words, int rows)
    {
        var random = new Random(1);
        int side = config.Vision.ImageSize;
        float[] pixels = new float[images * 3 * side * side];
        for (int i = 0; i < pixels.Length; i++)
        {
            pixels[i] = (float)(4 * random.NextDouble() - 2);
        }
        return new EngineInput(images, pixels, Ids(random, words, config.QFormer.VocabularySize),
            Ids(random, rows - images * config.QFormer.QueryTokens, config.Llm.VocabularySize), Guided: true);
    }

    /// <summary>A 1920 x 1080 JPEG of smooth shapes with some grain, about as many bytes as a photograph.</summary>
    public static byte[] Jpeg(int seed)
    {
        var random = new Random(seed);
        using var bitmap = new SKBitmap(new SKImageInfo(PictureWidth, PictureHeight, SKColorType.Rgba8888, SKAlphaType.Opaque));
        double fx = 0.002 + 0.01 * random.NextDouble();
        double fy = 0.002 + 0.01 * random.NextDouble();
        var pixels = bitmap.GetPixelSpan();
        for (int y = 0; y < PictureHeight; y++)
        {
            for (int x = 0; x < PictureWidth; x++)
            {
                int at = 4 * (y * PictureWidth + x);
                int grain = random.Next(-9, 10);
                for (int channel = 0; channel < 3; channel++)
                {
                    double shade = Math.Sin(fx * x + channel) + Math.Cos(fy * y * (1 + channel));
                    pixels[at + channel] = (byte)Math.Clamp(128 + 55 * shade + grain, 0, 255);
                }
                pixels[at + 3] = 255;
            }
        }
        using var encoded = bitmap.Encode(SKEncodedImageFormat.Jpeg, 90);
        return encoded.ToArray();
    }

    private static int[] Ids(Random random, int count, int vocabulary)
    {
        // The first ids are special.
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(3, vocabulary - 1))];
    }
}
