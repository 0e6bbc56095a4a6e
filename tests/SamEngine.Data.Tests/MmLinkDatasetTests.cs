using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

/// <summary>Lists that are not what they should be.</summary>
public sealed class MmLinkDatasetTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public MmLinkDatasetTests() => File.WriteAllBytes(_folder["a.png"], [1]);

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("""[]""", "no samples")]
    [InlineData("""{}""", "expected a list")]
    [InlineData("""[{"id": 1""", "can't be read")]
    [InlineData("""[{"id": 1, "img_list": ["a.png"], "instruction": "q"}]""", "'output'")]
    [InlineData("""[{"id": null, "img_list": ["a.png"], "instruction": "q", "output": "a"}]""", "'id'")]
    [InlineData("""[{"id": 1, "img_list": [], "instruction": "q", "output": "a"}]""", "'img_list' is empty")]
    [InlineData("""[{"id": 1, "img_list": [5], "instruction": "q", "output": "a"}]""", "img_list")]
    [InlineData("""[{"id": 1, "img_list": ["b.png"], "instruction": "q", "output": "a"}]""", "'b.png' is missing")]
    [InlineData("""[{"id": 1, "img_list": ["../a.png"], "instruction": "q", "output": "a"}]""", "outside")]
    [InlineData("""[{"id": 1, "img_list": ["/etc/passwd"], "instruction": "q", "output": "a"}]""", "outside")]
    [InlineData("""[{"id": 1, "img_list": ["a.png"], "instruction": "q", "output": "a"}, {"id": 1, "img_list": ["a.png"], "instruction": "q", "output": "a"}]""", "id 1 appears twice")]
    public void Are_refused_with_what_is_wrong(string annotations, string expected)
    {
        File.WriteAllText(_folder[MmLinkDataset.AnnotationsName], annotations);
        var error = Assert.Throws<DatasetException>(() => MmLinkDataset.Open(_folder.Path));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains(MmLinkDataset.AnnotationsName, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_original_form_without_extras_is_read()
    {
        File.WriteAllText(_folder[MmLinkDataset.AnnotationsName],
            """[{"id": "x7", "img_list": ["a.png", "a.png"], "instruction": "q", "output": "a", "more": {}}]""");
        var dataset = MmLinkDataset.Open(_folder.Path);
        Assert.Equal("x7", dataset.Samples[0].Id);
        Assert.Equal(2, dataset.PathsOf(dataset.Samples[0]).Count);
        Assert.Empty(dataset.Vocabulary);
    }
}
