using Xunit;

namespace SamEngine.Tests.Decoding;

public sealed class GenerationOptionsTests
{
    /// <summary>Values that some model folder's defaults may allow are left to the request.</summary>
    [Fact]
    public void What_depends_on_defaults_is_not_judged()
    {
        new GenerationOptions().Validate();
        new GenerationOptions { NumReturnSequences = 64 }.Validate();
        new GenerationOptions { MinLength = 5000 }.Validate();
        new GenerationOptions { MaxLength = 2 }.Validate();
        new GenerationOptions { SuppressTokens = [31999] }.Validate();
    }

    public static TheoryData<GenerationOptions, string> OutOfRange => new()
    {
        { new() { NumBeams = 65 }, nameof(GenerationOptions.NumBeams) },
        { new() { MaxLength = 1 }, nameof(GenerationOptions.MaxLength) },
        { new() { MaxLength = 5, MinLength = 6 }, nameof(GenerationOptions.MinLength) },
        { new() { NumBeams = 2, NumReturnSequences = 3 }, nameof(GenerationOptions.NumReturnSequences) },
        { new() { TopP = 0 }, nameof(GenerationOptions.TopP) },
        { new() { StopStrings = [""] }, nameof(GenerationOptions.StopStrings) },
        { new() { SuppressTokens = [-1] }, nameof(GenerationOptions.SuppressTokens) },
    };

    [Theory]
    [MemberData(nameof(OutOfRange))]
    public void Values_out_of_range_are_named(GenerationOptions options, string option) =>
        Assert.Equal(option, Assert.Throws<RequestException>(options.Validate).Option);
}
