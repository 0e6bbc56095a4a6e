using SamEngine.Testing;
using Xunit;

namespace SamEngine.Packaging.Tests;

/// <summary>What the README tells people to type.</summary>
public sealed class ReadmeTests(PackageFeed feed)
{
    private const string NuGetOrg = "https://api.nuget.org/v3/index.json";

    /// <summary>The lines of "Packages", by a user whose NuGet has nothing yet, and the first snippet with what they install. Left out is what takes long: packing, which the
    /// feed has done, and downloading; this machine's packages stand in for nuget.org.</summary>
    [Fact]
    public async Task The_lines_about_packages_install_the_tool_and_a_library_that_runs_the_first_snippet()
    {
        using var user = new TempFolder();
        string application = Directory.CreateDirectory(user["application"]).FullName;
        await File.WriteAllTextAsync(user["nuget.config"], $"""
            <configuration><packageSources><clear /><add key="nuget.org" value="{PackageFeed.Cache}" /></packageSources></configuration>
            """);
        await File.WriteAllTextAsync(Path.Combine(application, "Application.csproj"), """
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
              </PropertyGroup>
            </Project>
            """);
        await File.WriteAllTextAsync(Path.Combine(application, "Program.cs"), string.Join('\n', Block("# SamEngine", "```csharp")));
        string[] lines = Block("## Packages", "```");
        string[] packed = [.. lines.Where(l => l.StartsWith("dotnet pack ", StringComparison.Ordinal))];
        Assert.Equal(["dotnet pack src/SamEngine -o \"$feed\"", "dotnet pack src/SamEngine.Cli -o \"$feed\""], packed);
        string script = string.Join('\n', ["set -e", .. lines.Except(packed)]);
        script = Replace(script, "$PWD/feed", feed.Folder);
        script = Replace(script, "YOUR_APPLICATION", application);
        const string NewConfig = "dotnet new nugetconfig";
        script = Replace(script, NewConfig, $"{NewConfig}; grep -q {NuGetOrg} nuget.config; " +
            $"sed -i 's,{NuGetOrg},{PackageFeed.Cache},' nuget.config;");

        var typed = await PackageFeed.RunAsync("bash", user.Path, ["-c", script], ("NUGET_PACKAGES", user["packages"]));
        Assert.True(typed.ExitCode == 0, typed.ToString());

        Assert.True(Directory.Exists(user[Path.Combine("bin", ".store", "samengine.cli", feed.Version)]));
        var sam = await ProcessRun.RunAsync(user["bin/sam"], ["--version"], "/");
        Assert.True(sam.ExitCode == 0, sam.ToString());
        // The first snippet names its files from here.
        var run = await PackageFeed.RunAsync("dotnet", Golden.RepositoryRoot, ["run", "-c", "Release", "--project", application],
            ("NUGET_PACKAGES", user["packages"]));
        Assert.True(run.ExitCode == 0, run.ToString());
        Assert.Equal("There is a cat in every picture.", run.Output);
        Assert.True(Directory.Exists(user[Path.Combine("packages", "samengine", feed.Version)]));
    }

    /// <summary>The lines of the first block behind a heading that starts so.</summary>
    private static string[] Block(string heading, string fence)
    {
        var lines = File.ReadLines(Path.Combine(Golden.RepositoryRoot, "README.md"))
            .SkipWhile(l => l != heading).SkipWhile(l => l != fence).Skip(1).TakeWhile(l => l != "```").ToArray();
        Assert.NotEmpty(lines);
        return lines;
    }

    private static string Replace(string text, string old, string value)
    {
        Assert.Contains(old, text, StringComparison.Ordinal);
        return text.Replace(old, value, StringComparison.Ordinal);
    }
}
