using System.Runtime.InteropServices;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Imaging;

/// <summary>Every vector of <c>golden/preprocess</c>.</summary>
public sealed class GoldenImageTests
{
    public static TheoryData<string> Sets => ["", "official"];

    [Theory]
    [MemberData(nameof(Sets))]
    public void Pictures_decode_to_the_pixels_of_Pillow(string set)
    {
        foreach (var vector in Vectors(set))
        {
            byte[] rgb = Pictures.Preprocessor().Decode(SamImage.FromFile(vector.Path), 0, out int width, out int height);
            Assert.Equal((vector.Width, vector.Height), (width, height));
            Assert.True(vector.DecodedSha256 == Pictures.Sha256(rgb), $"{vector.File} decodes differently");
        }
    }

    [Theory]
    [MemberData(nameof(Sets))]
    public void Resize_is_bit_exact_from_the_decoded_pixels(string set)
    {
        int compared = 0;
        foreach (var vector in Vectors(set))
        {
            if (vector.DecodedPng is null)
            {
                continue;
            }
            byte[] rgb = Pictures.Preprocessor().Decode(
                Path.Combine(vector.Folder, vector.DecodedPng), 0, out int width, out int height);
            Assert.Equal(vector.DecodedSha256, Pictures.Sha256(rgb));
            foreach (bool vectorised in new[] { true, false })
            {
                byte[] resized = Pictures.Resize(rgb, width, height, 224, 224, vectorised);
                Assert.True(vector.ResizedSha256 == Pictures.Sha256(resized), $"{vector.File}, vectorised {vectorised}");
            }
            compared++;
        }
        Assert.True(compared > 0);
    }

    [Theory]
    [MemberData(nameof(Sets))]
    public void Tensors_are_bit_exact_from_the_files(string set)
    {
        var vectors = Vectors(set);
        var preprocessor = Pictures.Preprocessor();
        float[] tensors = new float[vectors.Count * preprocessor.ImageLength];
        preprocessor.Load([.. vectors.Select(v => SamImage.FromFile(v.Path))], tensors);
        for (int i = 0; i < vectors.Count; i++)
        {
            var tensor = tensors.AsSpan(i * preprocessor.ImageLength, preprocessor.ImageLength);
            Assert.True(vectors[i].TensorSha256 == Pictures.Sha256(MemoryMarshal.AsBytes(tensor)), vectors[i].File);
        }
    }

    [Fact]
    public void Broken_files_get_the_outcome_that_Pillow_gives_them()
    {
        int accepted = 0, refused = 0;
        foreach (var vector in Vectors("broken"))
        {
            var image = SamImage.FromFile(vector.Path);
            if (vector.DecodedSha256 is null)
            {
                var thrown = Pictures.Refused(image);
                Assert.True(thrown.Message.Length > vector.Path.Length + 20, thrown.Message);
                refused++;
            }
            else
            {
                byte[] rgb = Pictures.Preprocessor().Decode(image, 0, out int width, out int height);
                Assert.True(vector.DecodedSha256 == Pictures.Sha256(rgb), vector.File);
                byte[] resized = Pictures.Resize(rgb, width, height, 224, 224);
                Assert.True(vector.ResizedSha256 == Pictures.Sha256(resized), vector.File);
                accepted++;
            }
        }
        Assert.True(accepted > 0 && refused > 0);
    }

    private static IReadOnlyList<ImageVector> Vectors(string set) =>
        ImageVector.Load(Path.Combine(Golden.Folder("preprocess"), set).TrimEnd('/'));
}
