using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>Every vector of every golden folder <c>preprocess*</c>. No file is exempt from any of these.</summary>
public sealed class GoldenImageTests
{
    [Theory]
    [InlineData("")]
    [InlineData("official")]
    public void Pictures_decode_to_the_pixels_of_Pillow_and_resize_to_its_bits(string set)
    {
        foreach (var vector in Vectors(set))
        {
            byte[] rgb = Pictures.AssertDecodes(vector, out int width, out int height);
            Pictures.AssertResizes(vector, rgb, width, height);
        }
    }

    /// <summary>Independent of the decoders: from the PNG that holds the decoded pixels.</summary>
    [Theory]
    [InlineData("")]
    [InlineData("official")]
    public void Resize_is_bit_exact_from_the_decoded_pixels(string set)
    {
        int compared = 0;
        foreach (var vector in Vectors(set).Where(v => v.DecodedPng is not null))
        {
            byte[] rgb = Pictures.AssertDecodes(
                vector with { File = vector.DecodedPng! }, out int width, out int height);
            Pictures.AssertResizes(vector, rgb, width, height);
            compared++;
        }
        Assert.True(compared > 0);
    }

    [Theory]
    [InlineData("")]
    [InlineData("official")]
    public void Tensors_are_bit_exact_from_the_files(string set) => Pictures.AssertTensors(Vectors(set));

    [Fact]
    public void Broken_files_get_the_outcome_that_Pillow_gives_them()
    {
        int accepted = 0, refused = 0;
        foreach (var vector in Vectors("broken"))
        {
            if (vector.DecodedSha256 is null)
            {
                var thrown = Pictures.Refused(vector.Path);
                Assert.Matches("expected a (picture|whole file): |or raise ImageLimits", thrown.Message);
                refused++;
            }
            else
            {
                byte[] rgb = Pictures.AssertDecodes(vector, out int width, out int height);
                Pictures.AssertResizes(vector, rgb, width, height);
                accepted++;
            }
        }
        Assert.True(accepted > 0 && refused > 0);
    }

    [Theory]
    [InlineData("bomb_20000x20000_gray.png", "20000 x 20000")]
    [InlineData("bomb_60000x60000.png", "60000 x 60000")]
    [InlineData("warn_10000x10000.png", "10000 x 10000")]
    public void Pixel_bombs_are_refused_from_the_header(string file, string size)
    {
        var bombs = Vectors("broken").Where(v => v.File == file).ToList();
        Assert.NotEmpty(bombs);
        foreach (var bomb in bombs)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            var thrown = Pictures.Refused(bomb.Path);
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2_000_000);
            Assert.Contains(size, thrown.Message, StringComparison.Ordinal);
            Assert.Contains("over the limit of 64000000", thrown.Message, StringComparison.Ordinal);
        }
    }

    private static List<ImageVector> Vectors(string set)
    {
        var vectors = Golden.Folders("preprocess")
            .Select(folder => Path.Combine(folder, set).TrimEnd('/'))
            .Where(folder => File.Exists(Path.Combine(folder, "expected.json")))
            .SelectMany(ImageVector.Load)
            .ToList();
        Assert.NotEmpty(vectors);
        return vectors;
    }
}
