using System.Runtime.Intrinsics.X86;
using SamEngine.Imaging;
using SamEngine.Testing;
using SkiaSharp;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>The decoder of the most frequent JPEGs beside SkiaSharp's. That both give Pillow's pixels, the golden and the committed
/// pictures say.</summary>
public sealed class BaselineJpegTests
{
    public static TheoryData<SKJpegEncoderDownsample, int, int, int> Shapes
    {
        get
        {
            var shapes = new TheoryData<SKJpegEncoderDownsample, int, int, int>();
            foreach (var downsample in Enum.GetValues<SKJpegEncoderDownsample>())
            {
                // One unit and less, a pixel more than some, rows and columns of one, more than one vector.
                foreach (var (width, height) in new[] { (16, 16), (5, 5), (7, 33), (6, 1), (33, 17), (17, 18), (64, 64), (201, 75) })
                {
                    foreach (int quality in new[] { 100, 85, 5 })
                    {
                        shapes.Add(downsample, width, height, quality);
                    }
                }
            }
            return shapes;
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Pixels_are_those_of_SkiaSharp(SKJpegEncoderDownsample downsample, int width, int height, int quality)
    {
        byte[] jpeg = Encode(width, height, downsample, quality);
        Assert.NotNull(BaselineJpeg.Parse(jpeg));
        Assert.Equal(Skia(jpeg), Ours(jpeg));
    }

    /// <summary>SkiaSharp takes over at the row where the data breaks off, and has the last word.</summary>
    [Fact]
    public void Data_that_breaks_off_gives_the_pixels_and_errors_of_SkiaSharp()
    {
        byte[] whole = Encode(131, 70, SKJpegEncoderDownsample.Downsample420, 85);
        int start = BaselineJpeg.Parse(whole)!.DataStart;
        var random = new Random(1);
        for (int i = 0; i < 200; i++)
        {
            int at = random.Next(start, whole.Length - 2);
            // Cut, or a restart marker where none is due.
            byte[] jpeg = i % 2 == 0 ? whole[..at] : [.. whole[..at], 0xff, 0xd0, .. whole[(at + 2)..]];
            Assert.Equal(Outcome(Skia, jpeg), Outcome(Ours, jpeg));
        }
    }

    /// <summary>Not its pixels: coefficients of any size wrap and saturate in Pillow's vector code and here, but not in
    /// SkiaSharp.</summary>
    [Fact]
    public void Damaged_data_is_read_where_SkiaSharp_reads_it()
    {
        byte[] whole = Encode(131, 70, SKJpegEncoderDownsample.Downsample420, 85);
        int start = BaselineJpeg.Parse(whole)!.DataStart;
        var random = new Random(1);
        for (int i = 0; i < 300; i++)
        {
            byte[] jpeg = [.. whole];
            int at = random.Next(start, jpeg.Length);
            if (i % 3 == 0)
            {
                jpeg = [.. jpeg[..at], .. jpeg[random.Next(start, jpeg.Length)..]];
            }
            else
            {
                jpeg[at] = i % 3 == 1 ? (byte)(jpeg[at] ^ (1 << random.Next(8))) : (byte)0xff;
            }
            Assert.Equal(Error(Skia, jpeg), Error(Ours, jpeg));
        }
    }

    [Theory]
    [InlineData("rgb444_progressive.jpg")]
    [InlineData("cmyk.jpg")]
    [InlineData("ycck.jpg")]
    public void Other_kinds_are_left_to_SkiaSharp(string file) =>
        Assert.Null(BaselineJpeg.Parse(File.ReadAllBytes(Golden.Fixture("imaging", file))));

    /// <summary>Each a change of one byte behind a marker: two for the length, then the segment.</summary>
    [Theory]
    [InlineData(0xc0, 2, 12, "12 bits a sample")]
    [InlineData(0xc0, 4, 0, "rows counted only behind the data")]
    [InlineData(0xc0, 9, 0x41, "a quarter of the colour")]
    [InlineData(0xc0, 12, 0x21, "two samples of colour")]
    [InlineData(0xc0, 11, 1, "a component twice")]
    [InlineData(0xdb, 2, 0x10, "16 bits a step")]
    [InlineData(0xdb, 2, 4, "a fifth table of steps")]
    [InlineData(0xdb, 1, 66, "a table that is cut")]
    [InlineData(0xc4, 2, 0x20, "a third kind of table")]
    [InlineData(0xda, 3, 2, "components in another order")]
    [InlineData(0xda, 4, 0x33, "tables that are not there")]
    [InlineData(0xda, 10, 5, "a scan of some coefficients")]
    public void A_header_that_is_not_in_order_is_left_to_SkiaSharp(int marker, int offset, int value, string what)
    {
        byte[] jpeg = Encode(40, 30, SKJpegEncoderDownsample.Downsample420, 85);
        Assert.NotNull(BaselineJpeg.Parse(jpeg));
        jpeg[jpeg.AsSpan().IndexOf((ReadOnlySpan<byte>)[0xff, (byte)marker]) + 2 + offset] = (byte)value;
        Assert.True(BaselineJpeg.Parse(jpeg) is null, what);
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void Colours_that_Adobe_calls_otherwise_are_left_to_SkiaSharp(int transform, bool left)
    {
        byte[] jpeg = Encode(40, 30, SKJpegEncoderDownsample.Downsample444, 85);
        byte[] segment = [0xff, 0xee, 0, 14, .. "Adobe"u8, 0, 100, 0, 0, 0, 0, (byte)transform];
        Assert.Equal(left, BaselineJpeg.Parse([.. jpeg[..2], .. segment, .. jpeg[2..]]) is null);
    }

    [Fact]
    public void Huffman_tables_are_complete_or_refused()
    {
        byte[] counts = new byte[16];
        (counts[0], counts[1], counts[11], counts[15]) = (1, 1, 1, 1);
        var table = HuffmanTable.Create(counts, [0x02, 0x00, 0x10, 0x39])!;
        int entry = table.Lookup[0b0_01 << (HuffmanTable.LookupBits - 3)];
        Assert.Equal((-2, 3), (HuffmanTable.Value(entry), HuffmanTable.Drop(entry)));
        entry = table.Lookup[0b0_11 << (HuffmanTable.LookupBits - 3)];
        Assert.Equal((3, 3), (HuffmanTable.Value(entry), HuffmanTable.Drop(entry)));
        entry = table.Lookup[0b10 << (HuffmanTable.LookupBits - 2)];
        Assert.Equal((0, 0, 2), (HuffmanTable.Value(entry), HuffmanTable.Symbol(entry), HuffmanTable.Drop(entry)));
        Assert.Equal(0, table.Lookup[0b11 << (HuffmanTable.LookupBits - 2)]);
        entry = table.LongCode(0b1100_0000_0000UL << 52);
        Assert.Equal((0x10, 12), (HuffmanTable.Symbol(entry), HuffmanTable.Drop(entry)));
        entry = table.LongCode(0b1100_0000_0001_0000UL << 48);
        Assert.Equal((0x39, 16), (HuffmanTable.Symbol(entry), HuffmanTable.Drop(entry)));
        Assert.Equal(0, table.LongCode(ulong.MaxValue));
        // All ones, and more than there are.
        Assert.Null(HuffmanTable.Create([2, .. new byte[15]], [1, 2]));
        Assert.Null(HuffmanTable.Create([1, 3, .. new byte[14]], [1, 2, 3, 4]));
    }

    /// <summary>Beside the flow graph written out, lane by lane; also where sums wrap and what is handed on saturates.</summary>
    [Theory]
    [InlineData(20, 30)]
    [InlineData(500, 40)]
    [InlineData(32767, 255)]
    public void Inverse_transform_is_the_one_of_the_vector_code(int coefficients, int steps)
    {
        Assert.SkipUnless(Avx2.IsSupported, "no AVX2");
        var random = new Random(coefficients);
        for (int run = 0; run < 200; run++)
        {
            short[] blocks = new short[128], first = new short[64], second = new short[64];
            for (int i = random.Next(1, 128); i > 0; i--)
            {
                blocks[random.Next(128)] = (short)random.Next(-coefficients, coefficients + 1);
            }
            for (int i = 0; i < 64; i++)
            {
                (first[i], second[i]) = ((short)random.Next(1, steps + 1), (short)random.Next(1, steps + 1));
            }
            byte[] expectedFirst = Transform(blocks.AsSpan(0, 64), first), expectedSecond = Transform(blocks.AsSpan(64), second);
            byte[] plane = new byte[200];
            InverseDct.TransformTwo(blocks, first, second, plane, 1, 9, 100, 12);
            Assert.All(blocks, c => Assert.Equal(0, c));
            for (int i = 0; i < 64; i++)
            {
                Assert.Equal(expectedFirst[i], plane[1 + (i / 8 * 9) + (i % 8)]);
                Assert.Equal(expectedSecond[i], plane[100 + (i / 8 * 12) + (i % 8)]);
            }
        }
    }

    private static byte[] Transform(ReadOnlySpan<short> block, ReadOnlySpan<short> steps)
    {
        short[] values = new short[64];
        for (int i = 0; i < 64; i++)
        {
            values[i] = (short)(block[i] * steps[i]);
        }
        for (int i = 0; i < 8; i++)
        {
            Column(values, i, 8, 11);
        }
        for (int i = 0; i < 8; i++)
        {
            Column(values, 8 * i, 1, 18);
        }
        return [.. values.Select(v => (byte)(Math.Clamp(v, (short)-128, (short)127) + 128))];

        static void Column(short[] values, int at, int stride, int shift)
        {
            int V(int i) => values[at + (i * stride)];
            short z3 = (short)(V(7) + V(3)), z4 = (short)(V(5) + V(1));
            int sum = (short)(V(0) + V(4)) << 13, difference = (short)(V(0) - V(4)) << 13;
            int c3 = (V(2) * (4433 + 6270)) + (V(6) * 4433), c2 = (V(2) * 4433) + (V(6) * (4433 - 15137));
            int left = (z3 * (9633 - 16069)) + (z4 * 9633), right = (z3 * 9633) + (z4 * (9633 - 3196));
            int o0 = (V(7) * (2446 - 7373)) + (V(1) * -7373) + left, o1 = (V(5) * (16819 - 20995)) + (V(3) * -20995) + right;
            int o2 = (V(5) * -20995) + (V(3) * (25172 - 20995)) + left, o3 = (V(7) * -7373) + (V(1) * (12299 - 7373)) + right;
            int[] even = [sum + c3, difference + c2, difference - c2, sum - c3], odd = [o3, o2, o1, o0];
            for (int i = 0; i < 4; i++)
            {
                int half = 1 << (shift - 1);
                values[at + (i * stride)] = (short)Math.Clamp((even[i] + odd[i] + half) >> shift, short.MinValue, short.MaxValue);
                values[at + ((7 - i) * stride)] = (short)Math.Clamp((even[i] - odd[i] + half) >> shift, short.MinValue, short.MaxValue);
            }
        }
    }

    /// <summary>A JPEG of a gradient, edges and some grain.</summary>
    private static byte[] Encode(int width, int height, SKJpegEncoderDownsample downsample, int quality)
    {
        var random = new Random((width * 1000) + height);
        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        for (int y = 0; y < height; y++)
        {
            for (int x = 0; x < width; x++)
            {
                bitmap.SetPixel(x, y, new SKColor((byte)(x * 6), (byte)(y * 8), (byte)((((x ^ y) & 16) * 9) + random.Next(60))));
            }
        }
        using var pixels = bitmap.PeekPixels()!;
        using var data = pixels.Encode(new SKJpegEncoderOptions(quality, downsample, SKJpegEncoderAlphaOption.Ignore))!;
        return data.ToArray();
    }

    private static byte[] Ours(byte[] jpeg) =>
        Bytes(BaselineJpegRows.Open(jpeg, SkiaDecoder.Open(jpeg, SKEncodedImageFormat.Jpeg)));

    private static byte[] Skia(byte[] jpeg) => Bytes(SkiaDecoder.Open(jpeg, SKEncodedImageFormat.Jpeg).ReadRows());

    private static byte[] Bytes(PixelSource source)
    {
        using (source)
        {
            using var pixels = source.ReadAll();
            return pixels.Bytes.ToArray();
        }
    }

    private static string Outcome(Func<byte[], byte[]> decode, byte[] jpeg) =>
        Error(decode, jpeg) ?? Pictures.Sha256(decode(jpeg));

    private static string? Error(Func<byte[], byte[]> decode, byte[] jpeg)
    {
        try
        {
            decode(jpeg);
            return null;
        }
        catch (ImageFormatException e)
        {
            return e.Message;
        }
    }
}
