using System.IO.Compression;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Packaging.Tests;

/// <summary>What users install: packages from a feed, in applications outside this repository.</summary>
public sealed partial class PackageTests(PackageFeed feed)
{
    private const string NativeLibrary = "libsamengine_cpu.so";

    [Fact]
    public void The_package_holds_library_documentation_native_code_and_nothing_else()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.{feed.Version}.nupkg"));
        string[] files = [.. package.Entries.Select(e => e.FullName).Where(n => n[0] != '_' && n[0] != '[' &&
            !n.StartsWith("package/", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Assert.Equal(["README.md", "SamEngine.nuspec", "lib/net10.0/SamEngine.dll", "lib/net10.0/SamEngine.xml",
            "runtimes/linux-x64/native/" + NativeLibrary], files);
        using var stream = package.GetEntry("SamEngine.nuspec")!.Open();
        var metadata = XDocument.Load(stream).Root!.Elements().First();
        string Text(string name) => metadata.Elements().Single(e => e.Name.LocalName == name).Value;
        Assert.Equal("MIT", Text("license"));
        Assert.Equal("README.md", Text("readme"));
        Assert.NotEmpty(Text("description"));
        Assert.Contains("vision-language", Text("tags").Split(' '));
    }

    [Theory]
    [InlineData("SamEngine")]
    [InlineData("SamEngine.Cuda")]
    [InlineData("SamEngine.Ilgpu")]
    public void The_page_of_a_package_needs_no_file_of_the_repository(string id)
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"{id}.{feed.Version}.nupkg"));
        using var page = new StreamReader(package.GetEntry("README.md")!.Open());
        string text = page.ReadToEnd();
        Assert.StartsWith("# SamEngine", text, StringComparison.Ordinal);
        Assert.All(LinkTarget().Matches(text), link => Assert.StartsWith("https://", link.Groups[1].Value, StringComparison.Ordinal));
    }

    [Fact]
    public void ILGPU_comes_in_a_package_of_its_own()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.Ilgpu.{feed.Version}.nupkg"));
        Assert.Equal(["SamEngine.Ilgpu.dll", "SamEngine.Ilgpu.xml"], package.Entries.Where(e =>
            e.FullName.StartsWith("lib/net10.0/", StringComparison.Ordinal)).Select(e => e.Name).Order(StringComparer.Ordinal));
        Assert.Superset(new HashSet<string> { "ILGPU", "ILGPU.Algorithms", "SamEngine" }, Dependencies("SamEngine.Ilgpu").ToHashSet());
        Assert.DoesNotContain("ILGPU", Dependencies("SamEngine"));
    }

    [Fact]
    public void Symbols_are_packed_beside_it()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.{feed.Version}.snupkg"));
        Assert.Contains(package.Entries, e => e.FullName == "lib/net10.0/SamEngine.pdb");
    }

    [Fact]
    public async Task An_application_describes_pictures_compiled_just_in_time_and_ahead_of_time()
    {
        string folder = NewConsumer("consumer");
        string expected = await ExpectedAsync(feed.Model);
        string[] cats = [.. Directory.EnumerateFiles(Path.Combine(Golden.RepositoryRoot, "samples", "cats")).Order(StringComparer.Ordinal)];
        const string Cats = "There is a cat in every picture.";
        string version = $"-p:SamEngineVersion={feed.Version}";

        await PackageFeed.DotnetAsync(folder, "build", "-c", "Release", "-o", "jit", version);
        var jit = await ProcessRun.RunAsync("dotnet", ["jit/Consumer.dll", feed.Model, .. feed.Pictures], folder);
        Assert.True(jit.ExitCode == 0, jit.ToString());
        Assert.Equal("JIT", jit.Error.Trim());
        Assert.Equal(expected, jit.Output);
        var jitCats = await ProcessRun.RunAsync("dotnet", ["jit/Consumer.dll", PackageFeed.BundledModel, .. cats], folder);
        Assert.True(jitCats.ExitCode == 0, jitCats.ToString());
        Assert.Equal(Cats, jitCats.Output);

        await PackageFeed.DotnetAsync(folder, "publish", "-c", "Release", "-r", "linux-x64", "-o", "aot", version,
            "-p:PublishAot=true");
        Assert.False(File.Exists(Path.Combine(folder, "aot", "SamEngine.dll")));
        Assert.True(File.Exists(Path.Combine(folder, "aot", NativeLibrary)));
        // Away from the build folder nothing of it can be found by accident.
        string away = Path.Combine(feed.NewFolder("installed"), "app");
        Directory.Move(Path.Combine(folder, "aot"), away);
        var aot = await ProcessRun.RunAsync(Path.Combine(away, "Consumer"), [feed.Model, .. feed.Pictures], "/");
        Assert.True(aot.ExitCode == 0, aot.ToString());
        Assert.Equal("AOT", aot.Error.Trim());
        Assert.Equal(expected, aot.Output);
        var aotCats = await ProcessRun.RunAsync(Path.Combine(away, "Consumer"), [PackageFeed.BundledModel, .. cats], "/");
        Assert.True(aotCats.ExitCode == 0, aotCats.ToString());
        Assert.Equal("AOT", aotCats.Error.Trim());
        Assert.Equal(Cats, aotCats.Output);
    }

    [Fact]
    public async Task An_application_with_the_CUDA_package_is_compiled_ahead_of_time_too()
    {
        string folder = NewConsumer("cuda-consumer");
        await PackageFeed.DotnetAsync(folder, "publish", "-c", "Release", "-r", "linux-x64", "-o", "aot",
            $"-p:SamEngineVersion={feed.Version}", "-p:PublishAot=true", "-p:WithCuda=true");
        var cuda = await ProcessRun.RunAsync(Path.Combine(folder, "aot", "Consumer"), [feed.Model, .. feed.Pictures], "/",
            new Dictionary<string, string> { [CudaEmulator.Variable] = CudaEmulator.Path });
        Assert.True(cuda.ExitCode == 0, cuda.ToString());
        Assert.Equal("AOT", cuda.Error.Trim());
        Assert.Equal(await ExpectedAsync(feed.Model), cuda.Output);
    }

    [Fact]
    public void The_CUDA_package_needs_nothing_beside_its_assembly()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.Cuda.{feed.Version}.nupkg"));
        string[] files = [.. package.Entries.Select(e => e.FullName).Where(n => n[0] != '_' && n[0] != '[' &&
            !n.StartsWith("package/", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Assert.Equal(["README.md", "SamEngine.Cuda.nuspec", "lib/net10.0/SamEngine.Cuda.dll", "lib/net10.0/SamEngine.Cuda.xml"], files);
    }

    [Fact]
    public async Task The_tool_installs_and_runs()
    {
        string folder = feed.NewFolder("tool");
        await PackageFeed.DotnetAsync(folder, "tool", "install", "SamEngine.Cli", "--tool-path", "bin", "--version", feed.Version);
        string sam = Path.Combine(folder, "bin", "sam");

        var doctor = await ProcessRun.RunAsync(sam, ["doctor"], "/");
        Assert.True(doctor.ExitCode == 0, doctor.ToString());
        Assert.Contains(NativeLibrary + ": loaded", doctor.Output, StringComparison.Ordinal);

        string[] describe = ["describe", .. feed.Pictures, "--prompt", Prompt, "--max-length", "24"];
        var described = await ProcessRun.RunAsync(sam, [.. describe, "--model", feed.Model], "/");
        Assert.True(described.ExitCode == 0, described.ToString());
        Assert.Equal(await ExpectedAsync(feed.Model) + "\n", described.Output);
        var bundled = await ProcessRun.RunAsync(sam, describe, "/");
        Assert.True(bundled.ExitCode == 0, bundled.ToString());
        Assert.StartsWith("model: SAM-mini (bundled), ", bundled.Error, StringComparison.Ordinal);
        Assert.Equal(await ExpectedAsync(PackageFeed.BundledModel) + "\n", bundled.Output);
    }

    [Fact]
    public void The_tool_carries_the_native_code_of_its_platform_only()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.Cli.linux-x64.{feed.Version}.nupkg"));
        string[] native = [.. package.Entries.Select(e => e.Name).Where(n => Path.GetExtension(n) is ".so" or ".dylib"
            || n is "libSkiaSharp.dll").Order(StringComparer.Ordinal)];
        Assert.Equal(["libSkiaSharp.so", NativeLibrary], native);
    }

    [Fact]
    public void The_tool_carries_the_bundled_model()
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"SamEngine.Cli.linux-x64.{feed.Version}.nupkg"));
        string program = package.Entries.Single(e => e.Name == "sam.dll").FullName;
        string folder = program[..^"sam.dll".Length] + "models/sam-mini/";
        var packed = package.Entries.Where(e => e.FullName.Contains("sam-mini", StringComparison.Ordinal)).ToList();
        string[] expected = [.. Directory.EnumerateFiles(PackageFeed.BundledModel, "*", SearchOption.AllDirectories)];
        Assert.Equal(expected.Select(f => folder + Path.GetRelativePath(PackageFeed.BundledModel, f)).Order(StringComparer.Ordinal),
            packed.Select(e => e.FullName).Order(StringComparer.Ordinal));
        foreach (string file in expected)
        {
            using var stream = package.GetEntry(folder + Path.GetRelativePath(PackageFeed.BundledModel, file))!.Open();
            using var bytes = new MemoryStream();
            stream.CopyTo(bytes);
            Assert.Equal(File.ReadAllBytes(file), bytes.ToArray());
        }
    }

    [Theory]
    [InlineData("pack")]
    [InlineData("publish")]
    public async Task Without_a_model_the_tool_is_not_made(string command)
    {
        string output = feed.NewFolder("without-" + command);
        // Not built again: what other tests run must keep its model.
        var result = await PackageFeed.TryDotnetAsync(Golden.RepositoryRoot, command, Path.Combine("src", "SamEngine.Cli"), "-c",
            Built.Configuration, "--no-build", "-o", output, $"-p:PackageVersion={feed.Version}", "-p:BundledModel=/none");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("There is no model in '/none'", result.Output, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFiles(output, "*.nupkg"));
        Assert.False(File.Exists(Path.Combine(output, "sam.dll")));
    }

    [GeneratedRegex(@"\]\(([^)]*)\)")]
    private static partial Regex LinkTarget();

    private const string Prompt = "Sum up the common factor in these pictures.";

    private string[] Dependencies(string id)
    {
        using var package = ZipFile.OpenRead(Path.Combine(feed.Folder, $"{id}.{feed.Version}.nupkg"));
        using var stream = package.GetEntry(id + ".nuspec")!.Open();
        return [.. XDocument.Load(stream).Descendants().Where(e => e.Name.LocalName == "dependency")
            .Select(e => e.Attribute("id")!.Value).Order(StringComparer.Ordinal)];
    }

    /// <summary>A folder with the user's application.</summary>
    private string NewConsumer(string name)
    {
        string folder = feed.NewFolder(name);
        foreach (string file in Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "Consumer")))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }
        return folder;
    }

    /// <summary>What the engine itself says, here in this process.</summary>
    private async Task<string> ExpectedAsync(string folder)
    {
        using var model = await SamModel.LoadAsync(folder);
        var result = await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = [.. feed.Pictures.Select(SamImage.FromFile)],
            Prompt = Prompt,
            Options = new GenerationOptions { MaxLength = 24 },
        });
        Assert.NotEmpty(result.Text);
        return result.Text;
    }
}
