using System.Buffers.Binary;
using System.IO.Compression;
using FsCheck;
using FsCheck.Xunit;
using SamEngine.Testing;
using SkiaSharp;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>Files and streams that mean harm or are simply wrong: each gives its error, nothing else happens.</summary>
public sealed class HostileImageTests
{
    private static readonly ImageLimits SmallFiles = new() { MaxFileBytes = 100_000 };

    [Theory]
    [InlineData("", "is empty (0 bytes); expected a picture")]
    [InlineData("hello, this is no picture", "is text; expected a picture")]
    [InlineData("<html><body>404 Not Found</body></html>", "is text; expected a picture")]
    [InlineData("caf\xc3\xa9", "is text; expected a picture")]
    [InlineData("caf\xe9\xff\xfe", "unknown format (starts with 636166e9fffe)")]
    [InlineData("%PDF-1.7", "is a PDF document")]
    [InlineData("\0\0\0\x1c" + "ftypavif\0\0\0\0", "AVIF")]
    [InlineData("\0\0\0\x1c" + "ftypheic\0\0\0\0", "HEIF")]
    [InlineData("\x01\x02\x03\x04", "unknown format (starts with 01020304)")]
    public void What_is_no_picture_is_named(string content, string expected)
    {
        byte[] bytes = [.. content.Select(c => (byte)c)];
        Assert.Contains(expected, Pictures.Refused(SamImage.FromBytes(bytes, "a.jpg")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("jpg")]
    [InlineData("png")]
    [InlineData("gif")]
    [InlineData("webp")]
    [InlineData("bmp")]
    [InlineData("tif")]
    public void Declared_sizes_are_refused_before_decoding(string format)
    {
        // 17 GB decoded.
        byte[] bytes = Patched(format, 65535, 65535);
        long before = GC.GetAllocatedBytesForCurrentThread();
        var thrown = Pictures.Refused(SamImage.FromBytes(bytes));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2_000_000);
        Assert.Contains("over the limit of", thrown.Message, StringComparison.Ordinal);
        Assert.Contains("raise ImageLimits.Max", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Limits_are_inclusive_and_configurable()
    {
        var image = SamImage.FromBytes(Pictures.Encode(SKEncodedImageFormat.Png, 40, 30));
        float[] tensor = new float[3 * 8 * 8];
        Pictures.Preprocessor(new ImageLimits { MaxPixels = 1200, MaxSide = 40 }, size: 8).Load([image], tensor);
        Pictures.Refused(image, new ImageLimits { MaxPixels = 1199 });
        Pictures.Refused(image, new ImageLimits { MaxSide = 39 });
        Pictures.Refused(image, new ImageLimits { MaxFileBytes = 20 });
        Pictures.Refused(SamImage.FromPixels(new byte[4 * 5 * 3], 4, 5), new ImageLimits { MaxPixels = 19 });
        Assert.Throws<RequestException>(() => Pictures.Preprocessor(new ImageLimits { MaxPixels = 0 }));
        Assert.Throws<RequestException>(() => Pictures.Preprocessor(new ImageLimits { MaxPixels = long.MaxValue }));
        Assert.Throws<RequestException>(() => Pictures.Preprocessor(new ImageLimits { MaxFileBytes = -1 }));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 65535)]
    [InlineData(65535, 1)]
    public void Extreme_shapes_are_read(int width, int height)
    {
        byte[] rgb = Enumerable.Range(0, width * height * 3).Select(i => (byte)(i / 3)).ToArray();
        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        for (int i = 0; i < width * height; i++)
        {
            bitmap.SetPixel(i % width, i / width, new SKColor(rgb[3 * i], rgb[(3 * i) + 1], rgb[(3 * i) + 2]));
        }
        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        var preprocessor = Pictures.Preprocessor();
        float[] fromFile = new float[preprocessor.ImageLength], fromPixels = new float[preprocessor.ImageLength];
        preprocessor.Load([SamImage.FromBytes(png.ToArray())], fromFile);
        preprocessor.Load([SamImage.FromPixels(rgb, width, height)], fromPixels);
        Assert.Equal(fromPixels, fromFile);
    }

    [Fact]
    public void Only_the_first_of_thirty_thousand_frames_of_a_gif_is_decoded()
    {
        byte[] gif = File.ReadAllBytes(Golden.Fixture("imaging", "no_palette.gif"));
        var frame = gif.AsSpan(13, gif.Length - 14);
        using var many = new MemoryStream();
        many.Write(gif.AsSpan(0, 13));
        for (int i = 0; i < 30_000; i++)
        {
            many.Write(frame);
        }
        byte[] expected = Pictures.Preprocessor().Decode(SamImage.FromBytes(gif), 0, out _, out _);
        long before = GC.GetAllocatedBytesForCurrentThread();
        // The end of the file is missing too, far behind what is read.
        Assert.Equal(expected, Pictures.Preprocessor().Decode(SamImage.FromBytes(many.ToArray()), 0, out _, out _));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2 * many.Length);
    }

    [Fact]
    public void Only_the_default_image_of_thirty_thousand_png_frames_is_decoded()
    {
        byte[] png = Pictures.Encode(SKEncodedImageFormat.Png);
        byte[] control = new byte[26];
        BinaryPrimitives.WriteInt32BigEndian(control.AsSpan(4), 40);
        BinaryPrimitives.WriteInt32BigEndian(control.AsSpan(8), 30);
        byte[] frame = [.. Chunk("fcTL", control), .. Chunk("fdAT", new byte[100])];
        byte[] header = [.. png[..AfterHeader], .. Chunk("acTL", [0, 0, 0x75, 0x30, 0, 0, 0, 0]), .. Chunk("fcTL", control)];
        AssertSamePicture(png, [
            .. header, .. png[AfterHeader..^PngEnd], .. Enumerable.Repeat(frame, 30_000).SelectMany(f => f), .. png[^PngEnd..]]);
    }

    [Fact]
    public void Only_the_first_of_thirty_thousand_frames_of_a_webp_is_decoded()
    {
        byte[] webp = File.ReadAllBytes(Golden.Fixture("imaging", "animated_part.webp"));
        int start = webp.AsSpan().IndexOf("ANMF"u8);
        int length = 8 + BinaryPrimitives.ReadInt32LittleEndian(webp.AsSpan(start + 4));
        byte[] frame = webp[start..(start + length)];
        byte[] many = [.. webp[..start], .. Enumerable.Repeat(frame, 30_000).SelectMany(f => f)];
        BinaryPrimitives.WriteInt32LittleEndian(many.AsSpan(4), many.Length - 8);
        AssertSamePicture(webp, many);
    }

    [Theory]
    [InlineData("iCCP", "icc\0\0")]
    [InlineData("zTXt", "Comment\0\0")]
    [InlineData("iTXt", "Comment\0\x01\0\0\0")]
    public void Png_chunks_that_unpack_without_end_are_left_packed(string type, string start)
    {
        byte[] png = Pictures.Encode(SKEncodedImageFormat.Png);
        byte[] bomb = Chunk(type, [.. start.Select(c => (byte)c), .. Zeros(megabytes: 200)]);
        // Before and behind the pixels, more than once.
        AssertSamePicture(png, [.. png[..AfterHeader], .. bomb, .. bomb, .. png[AfterHeader..^PngEnd], .. bomb, .. png[^PngEnd..]]);
    }

    [Fact]
    public void Png_pixels_that_unpack_without_end_are_taken_as_far_as_the_rows_go()
    {
        byte[] header = [0, 0, 0, 40, 0, 0, 0, 30, 8, 2, 0, 0, 0];
        byte[] bomb = [.. PngSignature, .. Chunk("IHDR", header), .. Chunk("IDAT", Zeros(megabytes: 400)), .. Chunk("IEND", [])];
        byte[] rgb = Pictures.Preprocessor().Decode(SamImage.FromBytes(bomb), 0, out int width, out int height);
        Assert.Equal((40, 30), (width, height));
        Assert.All(rgb, v => Assert.Equal(0, v));
    }

    /// <summary>255 segments of a colour profile, each of the greatest length, and EXIF data whose directories point to
    /// themselves and announce four billion values.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Profiles_and_exif_data_without_end_do_not_matter(bool orient)
    {
        byte[] exif = LoopingDirectory(little: false, (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0x014a, 4, uint.MaxValue, 8),
            (0x927c, 7, uint.MaxValue, 8), (0x0112, 3, uint.MaxValue, 0x00010000));
        byte[] jpeg = Pictures.Encode(SKEncodedImageFormat.Jpeg);
        byte[] exifSegment = JpegSegment(0xe1, [.. "Exif\0\0"u8, .. exif]);
        var profile = Enumerable.Range(1, 255).SelectMany(i =>
            JpegSegment(0xe2, [.. "ICC_PROFILE\0"u8, (byte)i, 255, .. new byte[65_000]]));
        AssertSamePicture(jpeg, [.. jpeg[..2], .. exifSegment, .. exifSegment, .. profile, .. jpeg[2..]], orient);

        byte[] png = Pictures.Encode(SKEncodedImageFormat.Png);
        AssertSamePicture(png, [.. png[..AfterHeader], .. Chunk("eXIf", exif), .. png[AfterHeader..]], orient);

        byte[] webp = File.ReadAllBytes(Golden.Fixture("imaging", "orientation8.webp"));
        int at = webp.AsSpan().IndexOf("EXIF"u8);
        byte[] length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, exif.Length);
        byte[] looping = [.. webp[..at], .. "EXIF"u8, .. length, .. exif];
        BinaryPrimitives.WriteInt32LittleEndian(looping.AsSpan(4), looping.Length - 8);
        byte[] upright = Pictures.Preprocessor().Decode(SamImage.FromBytes(webp), 0, out _, out _);
        Assert.Equal(upright, Pictures.Preprocessor(orient: orient).Decode(SamImage.FromBytes(looping), 0, out _, out _));
    }

    [Theory]
    [InlineData("lzw_predictor.tif")]
    [InlineData("rgba_packbits.tif")]
    public void A_tiff_whose_directories_go_in_circles_gives_its_first_page(string file)
    {
        byte[] tiff = File.ReadAllBytes(Golden.Fixture("imaging", file));
        int directory = BinaryPrimitives.ReadInt32LittleEndian(tiff.AsSpan(4));
        byte[] looping = [.. tiff];
        BinaryPrimitives.WriteInt32LittleEndian(looping.AsSpan(DirectoryEnd(tiff)), directory);
        AssertSamePicture(tiff, looping);
        // The subdirectories of the page are the page.
        AssertSamePicture(tiff, WithEntry(tiff, 330, 4, 1, directory));
    }

    /// <summary>Counts and offsets far outside the file, in every tag that there is.</summary>
    [Theory]
    [InlineData("lzw_predictor.tif")]
    [InlineData("palette_deflate.tif")]
    [InlineData("gray16.tif")]
    [InlineData("cmyk.tif")]
    public void Tiff_tags_of_any_size_allocate_nothing(string file)
    {
        byte[] tiff = File.ReadAllBytes(Golden.Fixture("imaging", file));
        int directory = BinaryPrimitives.ReadInt32LittleEndian(tiff.AsSpan(4));
        // So that another width or height is no reason to allocate either.
        var preprocessor = Pictures.Preprocessor(new ImageLimits { MaxPixels = 5000 });
        for (int entry = directory + 2; entry < DirectoryEnd(tiff); entry += 12)
        {
            foreach (uint count in new uint[] { 0, 2, 0xffff, 0x10000000, 0x7fffffff, uint.MaxValue })
            {
                foreach (int offset in new[] { 0, directory, tiff.Length - 1, int.MaxValue, -1 })
                {
                    byte[] changed = [.. tiff];
                    BinaryPrimitives.WriteUInt32LittleEndian(changed.AsSpan(entry + 4), count);
                    BinaryPrimitives.WriteInt32LittleEndian(changed.AsSpan(entry + 8), offset);
                    long before = GC.GetAllocatedBytesForCurrentThread();
                    try
                    {
                        preprocessor.Decode(SamImage.FromBytes(changed), 0, out _, out _);
                    }
                    catch (ImageException e)
                    {
                        Assert.Matches("; (expected|convert|scale)", e.Message);
                    }
                    long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
                    Assert.True(allocated < 1_000_000,
                        $"tag {BinaryPrimitives.ReadUInt16LittleEndian(tiff.AsSpan(entry))}, {count} values at {offset}: {allocated}");
                }
            }
        }
    }

    [Fact]
    public void Scan_markers_behind_the_end_or_inside_other_segments_are_not_scans()
    {
        byte[] jpeg = Pictures.Encode(SKEncodedImageFormat.Jpeg);
        byte[] markers = [.. Enumerable.Repeat((byte[])[0xff, 0xda], 2000).SelectMany(m => m)];
        AssertSamePicture(jpeg, [.. jpeg[..2], .. JpegSegment(0xe1, markers), .. jpeg[2..], .. markers]);
    }

    [Fact]
    public void A_jpeg_of_endless_scans_is_refused()
    {
        byte[] jpeg = File.ReadAllBytes(Golden.Fixture("imaging", "rgb444_progressive.jpg"));
        int scan = jpeg.AsSpan().LastIndexOf((ReadOnlySpan<byte>)[0xff, 0xda]);
        byte[] last = jpeg[scan..^2];
        byte[] file = [.. jpeg[..^2], .. Enumerable.Repeat(last, 1000).SelectMany(s => s), 0xff, 0xd9];
        Assert.Contains("scans", Pictures.Refused(SamImage.FromBytes(file)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tiff_kinds_that_are_not_read_are_named()
    {
        byte[] tiff = File.ReadAllBytes(Golden.Fixture("imaging", "rgba_packbits.tif"));
        Assert.Contains("compression JPEG",
            Pictures.Refused(SamImage.FromBytes(WithTag(tiff, 259, 7))).Message, StringComparison.Ordinal);
        Assert.Contains("photometric YCBCR",
            Pictures.Refused(SamImage.FromBytes(WithTag(tiff, 262, 6))).Message, StringComparison.Ordinal);
        Assert.Contains("premultiplied alpha",
            Pictures.Refused(SamImage.FromBytes(WithTag(tiff, 338, 1))).Message, StringComparison.Ordinal);
        Assert.Contains("separate colour planes",
            Pictures.Refused(SamImage.FromBytes(WithTag(tiff, 284, 2))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_broken_picture_of_a_group_is_named_by_its_position()
    {
        byte[] good = Pictures.Encode(SKEncodedImageFormat.Jpeg);
        var images = Enumerable.Range(0, 12).Select(_ => SamImage.FromBytes(good)).ToArray();
        images[7] = SamImage.FromBytes(good.AsMemory(0, good.Length / 2), "seventh.jpg");
        images[9] = "/no/such/file.png";
        var preprocessor = Pictures.Preprocessor();
        float[] tensors = new float[images.Length * preprocessor.ImageLength];
        for (int i = 0; i < 20; i++)
        {
            var thrown = Assert.Throws<ImageException>(() => preprocessor.Load(images, tensors));
            Assert.Equal((7, "seventh.jpg"), (thrown.ImageIndex, thrown.ImageName));
            Assert.StartsWith("image 7 (seventh.jpg): ", thrown.Message, StringComparison.Ordinal);
        }
        images[7] = null!;
        Assert.Equal(7, Assert.Throws<ImageException>(() => preprocessor.Load(images, tensors)).ImageIndex);
        images[7] = images[0];
        Assert.Equal(9, Assert.Throws<ImageException>(() => preprocessor.Load(images, tensors)).ImageIndex);
    }

    [Fact]
    public void Files_that_can_not_be_read()
    {
        string folder = Directory.CreateTempSubdirectory("sam-images").FullName;
        try
        {
            Assert.Contains("no such file", Pictures.Refused(Path.Combine(folder, "missing.png")).Message, StringComparison.Ordinal);
            Assert.Contains("no such file",
                Pictures.Refused(Path.Combine(folder, "none", "missing.png")).Message, StringComparison.Ordinal);
            Assert.Contains("is a folder", Pictures.Refused(folder).Message, StringComparison.Ordinal);
            Pictures.Refused("bad\0name.png");
            Pictures.Refused(new string('a', 5000));
            string big = Path.Combine(folder, "big.png");
            File.WriteAllBytes(big, new byte[SmallFiles.MaxFileBytes + 1]);
            Assert.Contains("MaxFileBytes", Pictures.Refused(big, SmallFiles).Message, StringComparison.Ordinal);
            if (!OperatingSystem.IsWindows())
            {
                string locked = Path.Combine(folder, "locked.png");
                File.WriteAllBytes(locked, Pictures.Encode(SKEncodedImageFormat.Png));
                File.SetUnixFileMode(locked, UnixFileMode.None);
                // Root reads it all the same.
                if (Environment.UserName != "root")
                {
                    Assert.Contains("can't be read", Pictures.Refused(locked).Message, StringComparison.Ordinal);
                }
                // Has no length, and no end.
                Assert.Contains("MaxFileBytes", Pictures.Refused("/dev/zero", SmallFiles).Message, StringComparison.Ordinal);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Streams_that_fail_never_end_or_lie()
    {
        var failing = SamImage.FromStream(new ScriptedStream(_ => throw new InvalidOperationException("the line went dead")));
        Assert.Contains("the line went dead", Pictures.Refused(failing).Message, StringComparison.Ordinal);
        Assert.Contains("earlier", Pictures.Refused(failing).Message, StringComparison.Ordinal);

        long read = 0;
        var endless = SamImage.FromStream(new ScriptedStream(count =>
        {
            read += count;
            return count;
        }));
        Assert.Contains("MaxFileBytes", Pictures.Refused(endless, SmallFiles).Message, StringComparison.Ordinal);
        Assert.InRange(read, SmallFiles.MaxFileBytes, 2 * SmallFiles.MaxFileBytes);

        Pictures.Refused(SamImage.FromStream(new ScriptedStream(count => count + 1)));
        Pictures.Refused(SamImage.FromStream(new ScriptedStream(_ => -1)));
        var closed = new MemoryStream([1, 2, 3]);
        closed.Dispose();
        Pictures.Refused(SamImage.FromStream(closed));
        using var ended = new MemoryStream([1, 2, 3]) { Position = 3 };
        Assert.Contains("is empty", Pictures.Refused(SamImage.FromStream(ended)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Cancellation_stops_a_slow_stream_and_a_group()
    {
        using var source = new CancellationTokenSource();
        var slow = SamImage.FromStream(new ScriptedStream(_ =>
        {
            source.Cancel();
            return 1;
        }));
        var preprocessor = Pictures.Preprocessor();
        Assert.ThrowsAny<OperationCanceledException>(() =>
            preprocessor.Load([slow], new float[preprocessor.ImageLength], source.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => preprocessor.Load(
            [Golden.Fixture("imaging", "gray.jpg"), Golden.Fixture("imaging", "gray.jpg")],
            new float[2 * preprocessor.ImageLength], source.Token));
    }

    /// <summary>Whatever is done to a file, it gives a picture or an <see cref="ImageException"/>.</summary>
    [Property(MaxTest = 400)]
    public void Damaged_files_never_do_anything_else(PositiveInt pick, PositiveInt seed)
    {
        string[] files = Seeds.Value;
        byte[] bytes = File.ReadAllBytes(files[pick.Get % files.Length]);
        var random = new Random(seed.Get);
        for (int i = random.Next(1, 6); i > 0; i--)
        {
            // Headers are at the start.
            int at = random.Next(random.Next(2) == 0 ? Math.Min(bytes.Length, 64) : bytes.Length);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)(random.Next(2) * 255);
                    break;
                case 2:
                    bytes = bytes[..Math.Max(at, 1)];
                    break;
                default:
                    bytes = [.. bytes[..at], .. bytes[random.Next(bytes.Length)..], .. bytes[at..]];
                    break;
            }
        }
        var preprocessor = Pictures.Preprocessor(new ImageLimits { MaxPixels = 1_000_000 }, size: 16);
        float[] tensor = new float[preprocessor.ImageLength];
        try
        {
            preprocessor.Load([SamImage.FromBytes(bytes)], tensor);
            Assert.All(tensor, v => Assert.InRange(v, -3f, 3f));
        }
        catch (ImageException e)
        {
            Assert.Equal(0, e.ImageIndex);
        }
    }

    /// <summary>Bytes of a PNG before the chunks that follow its header.</summary>
    private const int AfterHeader = 8 + 12 + 13;

    /// <summary>Bytes of the last chunk of a PNG.</summary>
    private const int PngEnd = 12;

    private static ReadOnlySpan<byte> PngSignature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0d, 0x0a, 0x1a, 0x0a];

    private static void AssertSamePicture(byte[] expected, byte[] actual, bool orient = false) => Assert.Equal(
        Pictures.Preprocessor().Decode(SamImage.FromBytes(expected), 0, out _, out _),
        Pictures.Preprocessor(orient: orient).Decode(SamImage.FromBytes(actual), 0, out _, out _));

    private static byte[] Chunk(string type, byte[] data)
    {
        byte[] chunk = new byte[12 + data.Length];
        BinaryPrimitives.WriteInt32BigEndian(chunk, data.Length);
        System.Text.Encoding.ASCII.GetBytes(type, chunk.AsSpan(4));
        data.CopyTo(chunk, 8);
        BinaryPrimitives.WriteUInt32BigEndian(chunk.AsSpan(8 + data.Length), Crc32(chunk.AsSpan(4, 4 + data.Length)));
        return chunk;
    }

    /// <summary>So many zeros, packed a thousandfold.</summary>
    private static byte[] Zeros(int megabytes)
    {
        using var packed = new MemoryStream();
        using (var deflate = new ZLibStream(packed, CompressionLevel.Fastest))
        {
            byte[] zeros = new byte[1 << 20];
            for (int i = 0; i < megabytes; i++)
            {
                deflate.Write(zeros);
            }
        }
        return packed.ToArray();
    }

    private static byte[] JpegSegment(byte marker, byte[] data) =>
        [0xff, marker, (byte)((data.Length + 2) >> 8), (byte)(data.Length + 2), .. data];

    /// <summary>EXIF data: one directory at 8, followed by itself.</summary>
    private static byte[] LoopingDirectory(bool little, params (ushort Tag, ushort Type, uint Count, uint Value)[] entries)
    {
        byte[] exif = new byte[8 + 2 + (12 * entries.Length) + 4];
        (little ? "II*\0\x08\0\0\0"u8 : "MM\0*\0\0\0\x08"u8).CopyTo(exif);
        void Word(int at, ushort value) => BitConverter.TryWriteBytes(exif.AsSpan(at),
            little == BitConverter.IsLittleEndian ? value : BinaryPrimitives.ReverseEndianness(value));
        void Long(int at, uint value) => BitConverter.TryWriteBytes(exif.AsSpan(at),
            little == BitConverter.IsLittleEndian ? value : BinaryPrimitives.ReverseEndianness(value));

        Word(8, (ushort)entries.Length);
        for (int i = 0; i < entries.Length; i++)
        {
            int at = 10 + (12 * i);
            Word(at, entries[i].Tag);
            Word(at + 2, entries[i].Type);
            Long(at + 4, entries[i].Count);
            Long(at + 8, entries[i].Value);
        }
        Long(exif.Length - 4, 8);
        return exif;
    }

    private static Lazy<string[]> Seeds { get; } = new(() =>
        [.. Directory.EnumerateFiles(Golden.Fixture("imaging"))
            .Where(f => Path.GetExtension(f) is not (".json" or ".md" or ".py"))
            .Order(StringComparer.Ordinal)]);

    /// <summary>A real file whose header declares another size.</summary>
    private static byte[] Patched(string format, ushort width, ushort height)
    {
        switch (format)
        {
            case "png":
                byte[] png = Pictures.Encode(SKEncodedImageFormat.Png);
                BinaryPrimitives.WriteInt32BigEndian(png.AsSpan(16), width);
                BinaryPrimitives.WriteInt32BigEndian(png.AsSpan(20), height);
                BinaryPrimitives.WriteUInt32BigEndian(png.AsSpan(29), Crc32(png.AsSpan(12, 17)));
                return png;
            case "jpg":
                byte[] jpeg = Pictures.Encode(SKEncodedImageFormat.Jpeg);
                int frame = jpeg.AsSpan().IndexOf((ReadOnlySpan<byte>)[0xff, 0xc0]);
                BinaryPrimitives.WriteUInt16BigEndian(jpeg.AsSpan(frame + 5), height);
                BinaryPrimitives.WriteUInt16BigEndian(jpeg.AsSpan(frame + 7), width);
                return jpeg;
            case "gif":
                byte[] gif = File.ReadAllBytes(Golden.Fixture("imaging", "no_palette.gif"));
                BinaryPrimitives.WriteUInt16LittleEndian(gif.AsSpan(6), width);
                BinaryPrimitives.WriteUInt16LittleEndian(gif.AsSpan(8), height);
                return gif;
            case "webp":
                // Lossless: 14 bits each at most, 16384 x 16384 pixels.
                byte[] webp = File.ReadAllBytes(Golden.Fixture("imaging", "lossless_alpha.webp"));
                int data = webp.AsSpan().IndexOf("VP8L"u8) + 9;
                BinaryPrimitives.WriteUInt32LittleEndian(
                    webp.AsSpan(data), BinaryPrimitives.ReadUInt32LittleEndian(webp.AsSpan(data)) | 0x0fffffff);
                return webp;
            case "bmp":
                byte[] bmp = File.ReadAllBytes(Golden.Fixture("imaging", "rgb.bmp"));
                BinaryPrimitives.WriteInt32LittleEndian(bmp.AsSpan(18), 60000);
                BinaryPrimitives.WriteInt32LittleEndian(bmp.AsSpan(22), 60000);
                return bmp;
            default:
                byte[] tiff = File.ReadAllBytes(Golden.Fixture("imaging", "cmyk.tif"));
                return WithTag(WithTag(tiff, 256, width), 257, height);
        }
    }

    /// <summary>Sets a single-valued tag of a little-endian TIFF.</summary>
    private static byte[] WithTag(byte[] tiff, ushort tag, ushort value)
    {
        byte[] changed = [.. tiff];
        int directory = BinaryPrimitives.ReadInt32LittleEndian(tiff.AsSpan(4));
        int entries = BinaryPrimitives.ReadUInt16LittleEndian(tiff.AsSpan(directory));
        for (int at = directory + 2; entries > 0; at += 12, entries--)
        {
            if (BinaryPrimitives.ReadUInt16LittleEndian(tiff.AsSpan(at)) == tag)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(changed.AsSpan(at + 8), value);
                return changed;
            }
        }
        throw new ArgumentException($"the file has no tag {tag}", nameof(tag));
    }

    /// <summary>Where the offset of the next directory of a little-endian TIFF is.</summary>
    private static int DirectoryEnd(byte[] tiff)
    {
        int directory = BinaryPrimitives.ReadInt32LittleEndian(tiff.AsSpan(4));
        return directory + 2 + (12 * BinaryPrimitives.ReadUInt16LittleEndian(tiff.AsSpan(directory)));
    }

    /// <summary>Adds a tag: the directory moves to the end of the file.</summary>
    private static byte[] WithEntry(byte[] tiff, ushort tag, ushort type, int count, int value)
    {
        int directory = BinaryPrimitives.ReadInt32LittleEndian(tiff.AsSpan(4));
        int entries = BinaryPrimitives.ReadUInt16LittleEndian(tiff.AsSpan(directory));
        byte[] entry = new byte[12];
        BinaryPrimitives.WriteUInt16LittleEndian(entry, tag);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(2), type);
        BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(4), count);
        BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(8), value);
        byte[] changed = [
            .. tiff, (byte)(entries + 1), 0, .. tiff[(directory + 2)..DirectoryEnd(tiff)], .. entry, 0, 0, 0, 0];
        BinaryPrimitives.WriteInt32LittleEndian(changed.AsSpan(4), tiff.Length);
        return changed;
    }

    private static uint Crc32(ReadOnlySpan<byte> bytes)
    {
        uint crc = ~0u;
        foreach (byte value in bytes)
        {
            crc ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0xedb88320);
            }
        }
        return ~crc;
    }

    private sealed class ScriptedStream(Func<int, int> read) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => read(count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
