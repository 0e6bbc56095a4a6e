namespace SamEngine.Testing;

/// <summary>What this build made that tests run as a program or pack.</summary>
public static class Built
{
    /// <summary>The configuration these tests were built in.</summary>
#if DEBUG
    public const string Configuration = "Debug";
#else
    public const string Configuration = "Release";
#endif

    /// <summary>The <c>sam</c> command.</summary>
    public static string Sam =>
        Path.Combine(Golden.RepositoryRoot, "src", "SamEngine.Cli", "bin", Configuration, "net10.0", "sam");
}
