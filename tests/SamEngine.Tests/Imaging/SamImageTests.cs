using SamEngine.Imaging;
using SamEngine.Testing;
using SkiaSharp;
using Xunit;

namespace SamEngine.Tests.Imaging;

public sealed class SamImageTests
{
    [Fact]
    public async Task A_pipe_that_nobody_writes_to_can_be_cancelled_and_one_that_is_written_to_is_read()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "has no named pipes in folders");
        using var temp = new TempFolder();
        string pipe = temp["pipe"];
        using (var make = System.Diagnostics.Process.Start("mkfifo", [pipe]))
        {
            await make.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
        // A test that hangs would say less.
        var silent = Task.Run(() => ImageReader.ReadFile(pipe, 0, new ImageLimits(), stop.Token), TestContext.Current.CancellationToken);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => silent.WaitAsync(TimeSpan.FromSeconds(30)));

        var read = Task.Run(() => ImageReader.ReadFile(temp["other"], 0, new ImageLimits(), CancellationToken.None).ToArray(),
            TestContext.Current.CancellationToken);
        File.WriteAllBytes(temp["bytes"], [1, 2, 3]);
        File.CreateSymbolicLink(temp["link"], temp["bytes"]);
        Assert.Equal([1, 2, 3], ImageReader.ReadFile(temp["link"], 0, new ImageLimits(), CancellationToken.None).ToArray());
        Assert.Contains("no such file", (await Assert.ThrowsAsync<ImageException>(() => read)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Creating_a_picture_reads_nothing()
    {
        SamImage file = "/no/such/file.png";
        Assert.Equal("/no/such/file.png", file.Name);
        using var stream = new MemoryStream([1, 2, 3]);
        Assert.Equal("stream", SamImage.FromStream(stream).Name);
        Assert.Equal(0, stream.Position);
        Assert.Equal("3 bytes", SamImage.FromBytes(new byte[3]).Name);
        Assert.Equal("4x5 pixels", SamImage.FromPixels(new byte[60], 4, 5).Name);
        Assert.Equal("front door", SamImage.FromBytes(new byte[3], "front door").ToString());
    }

    [Theory]
    [InlineData(PixelFormat.Rgb, 3)]
    [InlineData(PixelFormat.Rgba, 4)]
    [InlineData(PixelFormat.Bgra, 4)]
    public void Pixels_are_taken_in_their_order_and_stride(PixelFormat format, int bytes)
    {
        const int width = 5, height = 3, stride = 29;
        // The last row has no padding.
        byte[] memory = new byte[(stride * (height - 1)) + (width * bytes)];
        Array.Fill(memory, (byte)77);
        byte[] expected = new byte[width * height * 3];
        new Random(1).NextBytes(expected);
        for (int i = 0; i < width * height; i++)
        {
            var pixel = memory.AsSpan((i / width * stride) + (i % width * bytes));
            expected.AsSpan(3 * i, 3).CopyTo(pixel);
            if (format == PixelFormat.Bgra)
            {
                pixel[..3].Reverse();
            }
        }
        var image = SamImage.FromPixels(memory, width, height, format, stride);
        Assert.Equal(expected, Pictures.Preprocessor().Decode(image, 0, out int w, out int h));
        Assert.Equal((width, height), (w, h));
    }

    [Theory]
    [InlineData(0, 1, 0, "width")]
    [InlineData(1, -1, 0, "width")]
    [InlineData(4, 4, 11, "stride")]
    [InlineData(4, 4, -12, "stride")]
    [InlineData(4, 5, 0, "pixels")]
    [InlineData(4, 4, 13, "pixels")]
    [InlineData(int.MaxValue, int.MaxValue, 0, "stride")]
    [InlineData(1, int.MaxValue, int.MaxValue, "pixels")]
    public void Pixels_that_do_not_fit_their_memory_are_refused(int width, int height, int stride, string option)
    {
        var thrown = Assert.Throws<RequestException>(
            () => SamImage.FromPixels(new byte[48], width, height, PixelFormat.Rgb, stride));
        Assert.Equal(option, thrown.Option);
    }

    [Fact]
    public void An_unknown_pixel_format_is_refused() =>
        Assert.Throws<RequestException>(() => SamImage.FromPixels(new byte[48], 4, 4, (PixelFormat)9));

    [Fact]
    public async Task One_stream_serves_requests_that_run_at_once()
    {
        byte[] png = Pictures.Encode(SKEncodedImageFormat.Png);
        using var stream = new MemoryStream(png);
        var image = SamImage.FromStream(stream);
        var preprocessor = Pictures.Preprocessor();
        float[] expected = new float[preprocessor.ImageLength];
        preprocessor.Load([SamImage.FromBytes(png)], expected);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            float[] tensors = new float[2 * preprocessor.ImageLength];
            preprocessor.Load([image, image], tensors);
            Assert.Equal(expected, tensors.AsSpan(0, expected.Length));
            Assert.Equal(expected, tensors.AsSpan(expected.Length));
        }, TestContext.Current.CancellationToken)));
    }

    [Fact]
    public void An_empty_group_and_a_wrong_destination()
    {
        var preprocessor = Pictures.Preprocessor(size: 8);
        preprocessor.Load([], Memory<float>.Empty);
        Assert.Throws<ArgumentOutOfRangeException>(() => preprocessor.Load([SamImage.FromBytes(new byte[3])], new float[5]));
    }
}
