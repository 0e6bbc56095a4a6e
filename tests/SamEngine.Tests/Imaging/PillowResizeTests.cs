using FsCheck;
using FsCheck.Xunit;
using SamEngine.Imaging;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>The resize against a plain statement of Pillow's formula.</summary>
public sealed class PillowResizeTests
{
    public static TheoryData<int, int, int, int> Sizes => new()
    {
        // Up, down, one axis only, identity, and sizes around the four pixels and 32 bytes of the vector path.
        { 1, 1, 224, 224 }, { 1, 1, 1, 1 }, { 2, 3, 5, 4 }, { 3, 500, 224, 224 }, { 700, 1, 224, 224 },
        { 224, 224, 224, 224 }, { 224, 300, 224, 224 }, { 300, 224, 224, 224 }, { 7, 9, 8, 8 }, { 8, 8, 7, 7 },
        { 9, 9, 9, 8 }, { 5, 5, 31, 33 }, { 64, 64, 3, 2 }, { 65, 63, 1, 1 }, { 4000, 3, 1, 1 }, { 3, 5000, 7, 1 },
        { 40, 30, 224, 224 }, { 15, 15, 14, 14 }, { 33, 34, 16, 17 },
    };

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Both_paths_equal_the_formula(int width, int height, int outWidth, int outHeight)
    {
        // Noise, and black and white alone, where the filter overshoots most.
        foreach (bool extreme in new[] { false, true })
        {
            byte[] rgb = Noise((width * 31) + height, width, height, extreme);
            byte[] expected = Formula(rgb, width, height, outWidth, outHeight);
            Assert.Equal(expected, Pictures.Resize(rgb, width, height, outWidth, outHeight));
            Assert.Equal(expected, Pictures.Resize(rgb, width, height, outWidth, outHeight, vectorised: false));
        }
    }

    [Property(MaxTest = 150)]
    public void Any_size_equals_the_formula(PositiveInt w, PositiveInt h, PositiveInt ow, PositiveInt oh, int seed)
    {
        int width = 1 + (w.Get * 37 % 301), height = 1 + (h.Get * 41 % 97);
        int outWidth = 1 + (ow.Get * 13 % 67), outHeight = 1 + (oh.Get * 17 % 67);
        byte[] rgb = Noise(seed, width, height, extreme: (seed & 1) == 0);
        byte[] expected = Formula(rgb, width, height, outWidth, outHeight);
        Assert.Equal(expected, Pictures.Resize(rgb, width, height, outWidth, outHeight));
        Assert.Equal(expected, Pictures.Resize(rgb, width, height, outWidth, outHeight, vectorised: false));
    }

    /// <summary>The convolution itself, in doubles and both axes at once. Apart are the rounding between the passes (a half,
    /// times the absolute weights of the second) and at the end (a half); colours are such that nothing is clipped.</summary>
    [Property(MaxTest = 60)]
    public void Any_size_is_the_convolution_within_a_level_and_a_half(
        PositiveInt w, PositiveInt h, PositiveInt ow, PositiveInt oh, int seed)
    {
        int width = 1 + (w.Get * 37 % 97), height = 1 + (h.Get * 41 % 67);
        int outWidth = 1 + (ow.Get * 13 % 37), outHeight = 1 + (oh.Get * 17 % 37);
        byte[] rgb = Noise(seed, width, height, extreme: false);
        for (int i = 0; i < rgb.Length; i++)
        {
            rgb[i] = (byte)(64 + (rgb[i] / 2));
        }
        byte[] actual = Pictures.Resize(rgb, width, height, outWidth, outHeight);
        for (int y = 0; y < outHeight; y++)
        {
            var rows = Weights(height, outHeight, y);
            for (int x = 0; x < outWidth; x++)
            {
                var columns = Weights(width, outWidth, x);
                for (int c = 0; c < 3; c++)
                {
                    double sum = 0;
                    foreach (var (row, a) in rows)
                    {
                        foreach (var (column, b) in columns)
                        {
                            sum += a * b * rgb[(((row * width) + column) * 3) + c];
                        }
                    }
                    Assert.InRange(actual[(((y * outWidth) + x) * 3) + c] - sum, -1.5, 1.5);
                }
            }
        }

        static (int Index, double Weight)[] Weights(int inSize, int outSize, int i)
        {
            double scale = Math.Max((double)inSize / outSize, 1), center = (i + 0.5) * inSize / outSize;
            var all = Enumerable.Range(0, inSize).Select(j => (j, Bicubic((j + 0.5 - center) / scale))).ToArray();
            double sum = all.Sum(p => p.Item2);
            return [.. all.Select(p => (p.j, p.Item2 / sum))];
        }
    }

    [Theory]
    [InlineData(65535, 1)]
    [InlineData(1, 65535)]
    public void The_longest_side_there_is(int width, int height)
    {
        // Hundreds of taps: partial sums of the vector path wrap and come out whole.
        byte[] rgb = Noise(5, width, height, extreme: true);
        byte[] expected = Formula(rgb, width, height, 16, 16);
        Assert.Equal(expected, Pictures.Resize(rgb, width, height, 16, 16));
    }

    [Fact]
    public void Sizes_that_do_not_fit_are_refused_before_anything_is_read()
    {
        var resize = new PillowResize(4, 4, 2, 2);
        Assert.Throws<ArgumentException>(() => resize.Resize(new byte[63], new byte[16]));
        Assert.Throws<ArgumentException>(() => resize.Resize(new byte[64], new byte[15]));
        Assert.Throws<ArgumentOutOfRangeException>(() => new PillowResize(0, 4, 2, 2));
    }

    private static byte[] Noise(int seed, int width, int height, bool extreme)
    {
        byte[] rgb = new byte[width * height * 3];
        new Random(seed).NextBytes(rgb);
        if (extreme)
        {
            for (int i = 0; i < rgb.Length; i++)
            {
                rgb[i] = (byte)(rgb[i] < 128 ? 0 : 255);
            }
        }
        return rgb;
    }

    /// <summary>golden/preprocess/README.md, "The resize, exactly", one number at a time.</summary>
    private static byte[] Formula(byte[] rgb, int width, int height, int outWidth, int outHeight)
    {
        byte[] narrow = Axis(rgb, width, outWidth, height, step: 3, line: width * 3, outLine: outWidth * 3);
        return Axis(narrow, height, outHeight, outWidth, step: outWidth * 3, line: 3, outLine: 3);
    }

    /// <summary>Resizes one axis: samples are <paramref name="step"/> apart, parallel lines <paramref name="line"/>.</summary>
    private static byte[] Axis(byte[] from, int inSize, int outSize, int lines, int step, int line, int outLine)
    {
        if (inSize == outSize)
        {
            return from;
        }
        byte[] to = new byte[lines * outSize * 3];
        double scale = (double)inSize / outSize, filterScale = Math.Max(scale, 1), support = 2 * filterScale;
        for (int i = 0; i < outSize; i++)
        {
            double center = (i + 0.5) * scale;
            int low = Math.Max(0, (int)(center - support + 0.5)), high = Math.Min(inSize, (int)(center + support + 0.5));
            double[] weights = [.. Enumerable.Range(low, high - low).Select(j => Bicubic((j - center + 0.5) * (1 / filterScale)))];
            double sum = 0;
            foreach (double w in weights)
            {
                sum += w;
            }
            long[] integers = [.. weights.Select(w => w / sum)
                .Select(w => (long)((w * (1 << 22)) + (w < 0 ? -0.5 : 0.5)))];
            for (int l = 0; l < lines; l++)
            {
                for (int c = 0; c < 3; c++)
                {
                    long total = 1 << 21;
                    for (int j = low; j < high; j++)
                    {
                        total += integers[j - low] * from[(l * line) + (j * step) + c];
                    }
                    to[(l * outLine) + (i * step) + c] = (byte)Math.Clamp(total >> 22, 0, 255);
                }
            }
        }
        return to;
    }

    private static double Bicubic(double x)
    {
        const double a = -0.5;
        x = Math.Abs(x);
        return x < 1 ? (((a + 2) * x) - (a + 3)) * x * x + 1
            : x < 2 ? (((x - 5) * x + 8) * x - 4) * a
            : 0;
    }
}
