namespace SamEngine.Cli;

/// <summary>The model that comes with the command and answers where no other is named.</summary>
internal static class BundledModel
{
    public const string Name = "SAM-mini";

    /// <summary>Its folder beside the program, where the project file copies it.</summary>
    public static string Folder { get; } = Path.Combine(AppContext.BaseDirectory, "models", "sam-mini");

    public static bool IsThere => Directory.Exists(Folder);

    /// <summary>The folder.</summary>
    /// <exception cref="CheckpointException">It is not there.</exception>
    public static string Require() => IsThere ? Folder : throw new CheckpointException(Folder,
        $"{Name}, the model that comes with the command, is not there; name another model folder (--model DIR), or install " +
        "the command again");
}
