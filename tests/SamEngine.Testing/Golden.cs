using Xunit;

namespace SamEngine.Testing;

/// <summary>
/// Finds the golden fixtures: <c>../shared/golden</c> beside the checkout, and every folder listed in the environment
/// variable <c>SAM_GOLDEN</c> (<c>:</c>-separated, same layout).
/// </summary>
public static class Golden
{
    private static readonly Lazy<IReadOnlyList<string>> LazyRoots = new(FindRoots);

    /// <summary>The folder that holds SamEngine.sln.</summary>
    public static string RepositoryRoot { get; } = FindRepositoryRoot();

    /// <summary>All golden roots, empty where there are none.</summary>
    public static IReadOnlyList<string> Roots => LazyRoots.Value;

    /// <summary>
    /// The folders whose name starts with <paramref name="prefix"/> in every root. Without any the calling test is
    /// skipped, or fails when <c>SAM_GOLDEN_REQUIRED=1</c> says that they must be there.
    /// </summary>
    public static IReadOnlyList<string> Folders(string prefix)
    {
        var found = Roots
            .SelectMany(root => Directory.EnumerateDirectories(root, prefix + "*"))
            .Order(StringComparer.Ordinal)
            .ToList();
        if (found.Count == 0)
        {
            string message = $"no golden folder '{prefix}*' (looked for ../shared/golden and in SAM_GOLDEN)";
            if (Environment.GetEnvironmentVariable("SAM_GOLDEN_REQUIRED") == "1")
            {
                Assert.Fail(message + ", and SAM_GOLDEN_REQUIRED=1");
            }
            Assert.Skip(message);
        }
        return found;
    }

    /// <summary>The one folder of this exact name in the first root that has it; skipped or failed as above.</summary>
    public static string Folder(string name) => Folders(name).First(f => Path.GetFileName(f) == name);

    /// <summary>A path inside a committed fixture folder, <c>tests/fixtures</c>.</summary>
    public static string Fixture(params string[] parts) =>
        Path.Combine([FixtureRoot, .. parts]);

    private static string FixtureRoot => Environment.GetEnvironmentVariable("SAM_FIXTURES") is { Length: > 0 } set
        ? set
        : Path.Combine(RepositoryRoot, "tests", "fixtures");

    private static List<string> FindRoots()
    {
        var roots = new List<string>();
        string beside = Path.Combine(RepositoryRoot, "..", "shared", "golden");
        if (Directory.Exists(beside))
        {
            roots.Add(Path.GetFullPath(beside));
        }
        if (Environment.GetEnvironmentVariable("SAM_GOLDEN") is { } set)
        {
            string[] listed = set.Split(':', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            if (listed.Length == 0)
            {
                throw new InvalidOperationException("SAM_GOLDEN is set but empty: list folders, or unset it");
            }
            foreach (string folder in listed)
            {
                if (!Directory.Exists(folder) || !Directory.EnumerateDirectories(folder).Any())
                {
                    throw new InvalidOperationException(
                        $"SAM_GOLDEN names '{folder}', which is not a readable folder with golden sets in it");
                }
                roots.Add(Path.GetFullPath(folder));
            }
        }
        return roots.Distinct(StringComparer.Ordinal).ToList();
    }

    private static string FindRepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "SamEngine.sln")))
            {
                return folder.FullName;
            }
        }
        // A published test folder on another machine: fixtures come from SAM_GOLDEN and SAM_FIXTURES.
        return AppContext.BaseDirectory;
    }
}
