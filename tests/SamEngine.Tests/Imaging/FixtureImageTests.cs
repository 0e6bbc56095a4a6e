using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>The committed pictures (tests/fixtures/imaging/README.md) against what Pillow makes of them.</summary>
public sealed class FixtureImageTests
{
    public static TheoryData<string> Files => [.. Vectors.Select(v => v.File)];

    private static IReadOnlyList<ImageVector> Vectors { get; } = ImageVector.Load(Golden.Fixture("imaging"));

    [Theory]
    [MemberData(nameof(Files))]
    public void A_picture_is_read_as_by_Pillow(string file)
    {
        var vector = Vectors.Single(v => v.File == file);
        if (vector.DecodedSha256 is null)
        {
            var thrown = Pictures.Refused(vector.Path);
            Assert.Contains(" (truncated file?); expected a whole file", thrown.Message, StringComparison.Ordinal);
            return;
        }
        byte[] rgb = Pictures.AssertDecodes(vector, out int width, out int height);
        Pictures.AssertResizes(vector, rgb, width, height);
        if (vector.OrientedSha256 is not null)
        {
            byte[] seen = Pictures.Preprocessor(orient: true).Decode(vector.Path, 0, out _, out _);
            Assert.Equal(vector.OrientedSha256, Pictures.Sha256(seen));
        }
    }

    [Fact]
    public void Tensors_of_a_large_group_are_bit_exact() =>
        Pictures.AssertTensors([.. Vectors.Where(v => v.TensorSha256 is not null)]);

    [Fact]
    public void The_same_bytes_give_the_same_pixels_from_file_stream_and_memory()
    {
        string path = Golden.Fixture("imaging", "rgb420.jpg");
        byte[] bytes = File.ReadAllBytes(path);
        byte[] embedded = [1, 2, 3, .. bytes];
        using var seekable = new MemoryStream(embedded) { Position = 3 };
        using var trickle = new OddStream(bytes);
        var preprocessor = Pictures.Preprocessor();
        byte[] expected = preprocessor.Decode(path, 0, out _, out _);
        foreach (var image in new[]
        {
            SamImage.FromBytes(bytes), SamImage.FromBytes(embedded.AsMemory(3)),
            SamImage.FromStream(seekable), SamImage.FromStream(trickle),
        })
        {
            // Twice: a stream's bytes are kept.
            Assert.Equal(expected, preprocessor.Decode(image, 0, out _, out _));
            Assert.Equal(expected, preprocessor.Decode(image, 1, out _, out _));
        }
    }

    /// <summary>Can't seek, and gives a few bytes at a time.</summary>
    private sealed class OddStream(byte[] bytes) : MemoryStream(bytes)
    {
        public override bool CanSeek => false;

        public override int Read(byte[] buffer, int offset, int count) => base.Read(buffer, offset, Math.Min(count, 7));
    }
}
