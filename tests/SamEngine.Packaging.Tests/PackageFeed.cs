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

    /// <summary>Version of all packages in the feed; a stable one, which is what users get without asking for it.</summary>
    public string Version { get; } = $"0.0.{Random.Shared.Next(1, int.MaxValue)}";

    /// <summary>The feed; <c>nuget.config</c> beside it names it.</summary>
    public string Folder => _folder["feed"];

    /// <summary>A model folder.</summary>
    public string Model => _model.Folder;

    /// <summary>The model folder that the tool is packed with.</summary>
    public static string BundledModel => Path.Combine(Golden.RepositoryRoot, "models", "sam-mini");

    /// <summary>Picture files.</summary>
    public IReadOnlyList<string> Pictures { get; private set; } = [];

    /// <summary>Where NuGet keeps the packages that builds on this machine have used; as a source it has everything that the
    /// engine depends on.</summary>
    public static string Cache { get; } = Environment.GetEnvironmentVariable("NUGET_PACKAGES") is { Length: > 0 } set ? set
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");

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
        foreach (string package in (string[])["samengine", "samengine.cuda"])
        {
            string mine = Path.Combine(Cache, package, Version);
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
    public static Task<ProcessResult> TryDotnetAsync(string folder, params string[] arguments) => RunAsync("dotnet", folder, arguments);

    /// <summary>Runs a program that runs dotnet; <paramref name="environment"/> comes on top.</summary>
    public static Task<ProcessResult> RunAsync(string program, string folder, IEnumerable<string> arguments,
        params (string Name, string Value)[] environment) => ProcessRun.RunAsync(program, arguments, folder,
        new Dictionary<string, string>(environment.Select(e => KeyValuePair.Create(e.Name, e.Value)))
        {
            ["MSBUILDDISABLENODEREUSE"] = "1",
            ["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1",
            ["DOTNET_NOLOGO"] = "1",
        }, timeoutSeconds: 600);
}
