using SamEngine.Testing;
using Xunit;

[assembly: AssemblyFixture(typeof(SamEngine.Packaging.Tests.PackageFeed))]

namespace SamEngine.Packaging.Tests;

/// <summary>The packages of this build in a feed of their own, a model to load and pictures. The packages have a version that
/// no cache can have seen.</summary>
public sealed class PackageFeed : IAsyncLifetime
{
    private readonly TempFolder _folder = new();
    private TinyModel _model = null!;

    /// <summary>Version of all packages in the feed.</summary>
    public string Version { get; } = $"0.0.1-test-{Guid.NewGuid():N}";

    /// <summary>The feed; <c>nuget.config</c> beside it names it.</summary>
    public string Folder => _folder["feed"];

    /// <summary>A model folder.</summary>
    public string Model => _model.Folder;

    /// <summary>The model folder that the tool is packed with.</summary>
    public static string BundledModel => Path.Combine(Golden.RepositoryRoot, "models", "sam-mini");

    /// <summary>Picture files.</summary>
    public IReadOnlyList<string> Pictures { get; private set; } = [];

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        _model = new TinyModel();
        Pictures = PictureFiles.Write(Directory.CreateDirectory(_folder["pictures"]).FullName, 3);
        foreach (string project in (string[])["SamEngine", "SamEngine.Cuda", "SamEngine.Ilgpu", "SamEngine.Cli"])
        {
            await DotnetAsync(Golden.RepositoryRoot, "pack", Path.Combine("src", project), "-c", Built.Configuration, "-o", Folder,
                $"-p:PackageVersion={Version}");
        }
        await File.WriteAllTextAsync(_folder["nuget.config"],
            $"""<configuration><packageSources><add key="built" value="{Folder}" /></packageSources></configuration>""");
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        string cache = Environment.GetEnvironmentVariable("NUGET_PACKAGES") is { Length: > 0 } set ? set
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        foreach (string package in (string[])["samengine", "samengine.cuda"])
        {
            string mine = Path.Combine(cache, package, Version);
            if (Directory.Exists(mine))
            {
                Directory.Delete(mine, recursive: true);
            }
        }
        _model.Dispose();
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>A new folder under the feed's <c>nuget.config</c>.</summary>
    public string NewFolder(string name) => Directory.CreateDirectory(_folder[name]).FullName;

    /// <summary>Runs a dotnet command that must succeed.</summary>
    public static async Task<ProcessResult> DotnetAsync(string folder, params string[] arguments)
    {
        var result = await TryDotnetAsync(folder, arguments);
        Assert.True(result.ExitCode == 0, $"dotnet {string.Join(' ', arguments)}: {result}");
        return result;
    }

    /// <summary>Runs a dotnet command.</summary>
    public static Task<ProcessResult> TryDotnetAsync(string folder, params string[] arguments) => ProcessRun.RunAsync("dotnet", arguments, folder,
        new Dictionary<string, string>
        {
            ["MSBUILDDISABLENODEREUSE"] = "1",
            ["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1",
            ["DOTNET_NOLOGO"] = "1",
        }, timeoutSeconds: 600);
}
