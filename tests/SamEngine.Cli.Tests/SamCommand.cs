using SamEngine.Testing;
using Xunit;

[assembly: AssemblyFixture(typeof(SamEngine.Cli.Tests.SamCommand))]

namespace SamEngine.Cli.Tests;

/// <summary>The built <c>sam</c> as a child process, with a tiny model and pictures to give it.</summary>
public sealed class SamCommand : IDisposable
{
    /// <summary>Text on standard error of a healthy run: nothing of a crash.</summary>
    private static readonly string[] Noise = ["   at ", "Unhandled", "Exception"];

    private readonly TempFolder _folder = new();
    private readonly TinyModel _model = new();
    private readonly TinyModel _long = new(c => c with { Llm = c.Llm with { MaxPositions = 30_000 } });

    public SamCommand() => Pictures = PictureFiles.Write(_folder.Path, 3);

    /// <summary>A model folder.</summary>
    public string Model => _model.Folder;

    /// <summary>A model with room for a text that takes seconds.</summary>
    public string LongModel => _long.Folder;

    /// <summary>A png, a jpeg and a webp.</summary>
    public string[] Pictures { get; }

    /// <summary>Arguments that describe the pictures briefly.</summary>
    public string[] Describe => ["describe", .. Pictures, "--model", Model, "--max-length", "20"];

    /// <summary>Arguments of a generation of <paramref name="tokens"/> tokens.</summary>
    public string[] LongDescribe(int tokens) => ["describe", .. Pictures, "--model", LongModel, "--beams", "1",
        "--max-length", $"{tokens}", "--min-length", $"{tokens}"];

    public Task<ProcessResult> RunAsync(params string[] arguments) => RunAsync(new Dictionary<string, string>(), arguments);

    public async Task<ProcessResult> RunAsync(Dictionary<string, string> environment, params string[] arguments)
    {
        var result = await ProcessRun.RunAsync(Built.Sam, arguments, _folder.Path, environment);
        Assert.All(Noise, n => Assert.DoesNotContain(n, result.Error, StringComparison.Ordinal));
        return result;
    }

    /// <summary>Runs it inside a shell: <paramref name="script"/> says <c>"$@"</c> where the command belongs.</summary>
    public async Task<ProcessResult> ShellAsync(string script, params string[] arguments)
    {
        var result = await ProcessRun.RunAsync("bash", ["-c", script, "bash", Built.Sam, .. arguments], _folder.Path);
        Assert.All(Noise, n => Assert.DoesNotContain(n, result.Error, StringComparison.Ordinal));
        return result;
    }

    public async Task<string> OutputAsync(params string[] arguments)
    {
        var result = await RunAsync(arguments);
        Assert.True(result.ExitCode == 0, result.ToString());
        return result.Output;
    }

    public void Dispose()
    {
        _long.Dispose();
        _model.Dispose();
        _folder.Dispose();
    }
}
