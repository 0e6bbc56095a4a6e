namespace SamEngine.Data.Mini;

/// <summary>A kind of object that a picture can show.</summary>
/// <param name="Name">Singular, as answers use it.</param>
/// <param name="Glyph">The emoji that draws it.</param>
internal sealed record ObjectKind(string Name, string Glyph)
{
    /// <summary>The name with its article.</summary>
    public string WithArticle => Things.WithArticle(Name);
}

/// <summary>Something a person does.</summary>
/// <param name="Name">As in "somebody is surfing".</param>
/// <param name="Glyph">The emoji that draws it.</param>
internal sealed record Activity(string Name, string Glyph);

/// <summary>A colour that toys are painted in.</summary>
internal sealed record Paint(string Name, uint Argb);

/// <summary>What the pictures are made of. Names never contain one another as words, so that an answer names exactly what it
/// means.</summary>
internal static class Things
{
    public static IReadOnlyList<ObjectKind> Objects { get; } =
    [
        new("dog", "🐶"), new("cat", "🐱"), new("horse", "🐴"), new("cow", "🐮"), new("pig", "🐷"), new("rabbit", "🐰"),
        new("bear", "🐻"), new("frog", "🐸"), new("lion", "🦁"), new("fox", "🦊"), new("elephant", "🐘"),
        new("turtle", "🐢"), new("snake", "🐍"), new("octopus", "🐙"), new("crab", "🦀"), new("fish", "🐠"),
        new("whale", "🐳"), new("penguin", "🐧"), new("owl", "🦉"), new("chicken", "🐔"), new("butterfly", "🦋"),
        new("bee", "🐝"), new("snail", "🐌"), new("ladybug", "🐞"),
        new("apple", "🍎"), new("banana", "🍌"), new("bunch of grapes", "🍇"), new("lemon", "🍋"), new("watermelon", "🍉"),
        new("strawberry", "🍓"), new("pineapple", "🍍"), new("carrot", "🥕"), new("pizza", "🍕"), new("hamburger", "🍔"),
        new("cake", "🎂"), new("donut", "🍩"), new("loaf of bread", "🍞"), new("cheese", "🧀"), new("mushroom", "🍄"),
        new("car", "🚗"), new("bus", "🚌"), new("bicycle", "🚲"), new("train", "🚂"), new("helicopter", "🚁"),
        new("rocket", "🚀"), new("sailing boat", "⛵"), new("tractor", "🚜"), new("ambulance", "🚑"),
        new("guitar", "🎸"), new("trumpet", "🎺"), new("drum", "🥁"), new("basketball", "🏀"), new("alarm clock", "⏰"),
        new("key", "🔑"), new("camera", "📷"), new("light bulb", "💡"), new("hammer", "🔨"), new("crown", "👑"),
        new("present", "🎁"), new("robot", "🤖"), new("ghost", "👻"), new("cactus", "🌵"), new("rose", "🌹"),
        new("sunflower", "🌻"), new("bell", "🔔"), new("trophy", "🏆"), new("backpack", "🎒"), new("anchor", "⚓"),
    ];

    public static IReadOnlyList<Activity> Activities { get; } =
    [
        new("running", "🏃"), new("dancing", "💃"), new("surfing", "🏄"), new("swimming", "🏊"), new("rowing", "🚣"),
        new("cycling", "🚴"), new("climbing", "🧗"), new("juggling", "🤹"), new("snowboarding", "🏂"),
        new("meditating", "🧘"), new("fencing", "🤺"), new("golfing", "🏌"),
    ];

    /// <summary>Colours far from each other, with an outline on the picture.</summary>
    public static IReadOnlyList<Paint> Paints { get; } =
    [
        new("red", 0xFFD81E1E), new("orange", 0xFFFF8C1A), new("yellow", 0xFFFFE11A), new("green", 0xFF1FA32B),
        new("blue", 0xFF1F4FE0), new("purple", 0xFF8A2BC2), new("black", 0xFF1A1A1A), new("white", 0xFFFAFAFA),
    ];

    /// <summary>A name with its article.</summary>
    public static string WithArticle(string name) => ("aeiou".Contains(name[0], StringComparison.Ordinal) ? "an " : "a ") + name;
}
