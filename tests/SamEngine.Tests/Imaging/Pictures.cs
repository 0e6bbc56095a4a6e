using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using SamEngine.Imaging;
using SkiaSharp;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>An <c>expected.json</c> of pictures with what Pillow makes of them.</summary>
internal sealed record ImageVector
{
    public required string Folder { get; init; }

    public required string File { get; init; }

    public string Path => System.IO.Path.Combine(Folder, File);

    /// <summary>Null where Pillow refuses the file.</summary>
    public string? DecodedSha256 { get; init; }

    public string? ResizedSha256 { get; init; }

    public string? TensorSha256 { get; init; }

    public string? OrientedSha256 { get; init; }

    public string? DecodedPng { get; init; }

    public int Width { get; init; }

    public int Height { get; init; }

    public static IReadOnlyList<ImageVector> Load(string folder)
    {
        using var json = JsonDocument.Parse(System.IO.File.ReadAllBytes(System.IO.Path.Combine(folder, "expected.json")));
        var list = json.RootElement.TryGetProperty("images", out var images)
            ? images
            : json.RootElement.GetProperty("files");
        return list.EnumerateArray().Select(e =>
        {
            string? Text(string name) => e.TryGetProperty(name, out var value) ? value.GetString() : null;
            string file = Text("file")!;
            // A set may name its files from the folder above.
            string name = System.IO.Path.GetFileName(folder) + "/";
            return new ImageVector
            {
                Folder = folder,
                File = file.StartsWith(name, StringComparison.Ordinal) ? file[name.Length..] : file,
                DecodedSha256 = Text("decoded_rgb8_sha256"),
                ResizedSha256 = Text("resized_rgb8_sha256"),
                TensorSha256 = Text("tensor_sha256"),
                OrientedSha256 = Text("oriented_rgb8_sha256"),
                DecodedPng = Text("decoded_png"),
                Width = e.TryGetProperty("width", out var w) ? w.GetInt32() : 0,
                Height = e.TryGetProperty("height", out var h) ? h.GetInt32() : 0,
            };
        }).ToList();
    }
}

/// <summary>What the imaging tests share.</summary>
internal static class Pictures
{
    public static ImagePreprocessor Preprocessor(ImageLimits? limits = null, int size = 224, bool orient = false) =>
        new(size, ImagePreprocessor.ReferenceMean, ImagePreprocessor.ReferenceStd, limits ?? new ImageLimits())
        {
            ApplyOrientation = orient,
        };

    public static string Sha256(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    /// <summary>The resize of the preprocessor, from and to R, G, B.</summary>
    public static byte[] Resize(byte[] rgb, int width, int height, int outWidth, int outHeight, bool vectorised = true)
    {
        byte[] rgba = new byte[width * height * 4];
        for (int i = 0; i < width * height; i++)
        {
            (rgba[4 * i], rgba[(4 * i) + 1], rgba[(4 * i) + 2], rgba[(4 * i) + 3]) =
                (rgb[3 * i], rgb[(3 * i) + 1], rgb[(3 * i) + 2], (byte)(i * 31));
        }
        byte[] resized = new byte[outWidth * outHeight * 4];
        new PillowResize(width, height, outWidth, outHeight, vectorised).Resize(rgba, resized);
        byte[] result = new byte[outWidth * outHeight * 3];
        for (int i = 0; i < outWidth * outHeight; i++)
        {
            resized.AsSpan(4 * i, 3).CopyTo(result.AsSpan(3 * i));
        }
        return result;
    }

    /// <summary>A picture encoded by Skia: a gradient with a few edges.</summary>
    public static byte[] Encode(SKEncodedImageFormat format, int width = 40, int height = 30, int quality = 90)
    {
        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        for (int y = 0; y < height; y++)
        {
            for (int x = 0; x < width; x++)
            {
                bitmap.SetPixel(x, y, new SKColor((byte)(x * 6), (byte)(y * 8), (byte)((x ^ y) & 16)));
            }
        }
        using var data = bitmap.Encode(format, quality);
        return data.ToArray();
    }

    /// <summary>Decodes the file and compares size and pixels.</summary>
    public static byte[] AssertDecodes(ImageVector vector, out int width, out int height)
    {
        byte[] rgb = Preprocessor().Decode(vector.Path, 0, out width, out height);
        if (vector.Width != 0)
        {
            Assert.Equal((vector.Width, vector.Height), (width, height));
        }
        Assert.True(vector.DecodedSha256 == Sha256(rgb), $"{vector.File} decodes differently");
        return rgb;
    }

    /// <summary>Resizes decoded pixels and compares, with and without vector instructions.</summary>
    public static void AssertResizes(ImageVector vector, byte[] rgb, int width, int height)
    {
        foreach (bool vectorised in new[] { true, false })
        {
            Assert.True(vector.ResizedSha256 == Sha256(Resize(rgb, width, height, 224, 224, vectorised)),
                $"{vector.File} resizes differently, vectorised {vectorised}");
        }
    }

    /// <summary>Preprocesses all files as one group and compares every bit.</summary>
    public static void AssertTensors(IReadOnlyList<ImageVector> vectors)
    {
        var preprocessor = Preprocessor();
        float[] tensors = new float[vectors.Count * preprocessor.ImageLength];
        preprocessor.Load([.. vectors.Select(v => SamImage.FromFile(v.Path))], tensors);
        for (int i = 0; i < vectors.Count; i++)
        {
            var tensor = tensors.AsSpan(i * preprocessor.ImageLength, preprocessor.ImageLength);
            Assert.True(vectors[i].TensorSha256 == Sha256(MemoryMarshal.AsBytes(tensor)), vectors[i].File);
        }
    }

    public static ImageException Refused(SamImage image, ImageLimits? limits = null)
    {
        var preprocessor = Preprocessor(limits);
        var thrown = Assert.Throws<ImageException>(() => preprocessor.Load([image], new float[preprocessor.ImageLength]));
        Assert.Equal(0, thrown.ImageIndex);
        Assert.Equal(image.Name, thrown.ImageName);
        return thrown;
    }
}
