using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests;

public sealed class GoldenFoldersTests
{
    [Fact]
    public void Golden_sets_are_found_where_required()
    {
        Assert.NotEmpty(Golden.Folders("tiny-"));
        Assert.NotEmpty(Golden.Folders("tokenizer-"));
    }
}
