namespace SamEngine.Data.Mini;

/// <summary>A kind of task of MmLINK-mini.</summary>
public enum MiniFamily
{
    /// <summary>What do these pictures have in common.</summary>
    Group,

    /// <summary>Captions so far and pictures; tell the last one.</summary>
    Story,

    /// <summary>Two nearly equal pictures; what has changed.</summary>
    Change,

    /// <summary>Questions on one picture, for training only.</summary>
    Picture,
}

/// <summary>A sample before its pictures are drawn.</summary>
/// <param name="Family">Kind of task.</param>
/// <param name="Placement">Where the link lies.</param>
/// <param name="Scenes">The pictures.</param>
/// <param name="Instruction">What is asked.</param>
/// <param name="Output">The answer.</param>
/// <param name="Required">What a right answer names: all of it, and nothing else of the generator's names.</param>
internal sealed record MiniSample(MiniFamily Family, Placement Placement, IReadOnlyList<Scene> Scenes, string Instruction,
    string Output, IReadOnlyList<string> Required);

/// <summary>A scene and what it can change to.</summary>
/// <param name="Scene">As it is.</param>
/// <param name="Without">Without the object <paramref name="Old"/>.</param>
/// <param name="Replaced">With the object <paramref name="Fresh"/> in its place.</param>
/// <param name="Elsewhere">In another setting.</param>
/// <param name="Old">The object.</param>
/// <param name="Fresh">The other object.</param>
internal sealed record ScenePair(Scene Scene, Scene Without, Scene Replaced, Scene Elsewhere, int Old, int Fresh)
{
    /// <summary>Number of changes that a pair can tell of.</summary>
    public const int Tellings = 8;
}
