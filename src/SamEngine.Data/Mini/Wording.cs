namespace SamEngine.Data.Mini;

/// <summary>Several hundred ways to ask. A pattern like "What do {these|the} pictures share?" stands for all its
/// combinations; {n} is the number of pictures in words.</summary>
internal static class Wording
{
    private static readonly string[] Numbers = ["no", "one", "two", "three", "four", "five"];

    /// <summary>What links the pictures, answered by a sentence.</summary>
    public static IReadOnlyList<string> Link { get; } = Expand(
        "What do these {n} {pictures|images|photos|scenes} {have in common|share}?",
        "{Tell me|Say} what these {n} {pictures|images|photos|scenes} {have in common|share}.",
        "{Sum up|Describe|State|Name} the {common factor|common element|link|connection} {in|of|between} these {n} {pictures|images|photos|scenes}.",
        "{Sum up|Describe|State|Name} the {common factor|common element|link|connection} {in|of|between} these {pictures|images|photos|scenes}.",
        "What do these {pictures|images|photos|scenes} {have in common|share}?",
        "{Tell me|Say} what these {pictures|images|photos|scenes} {have in common|share}.",
        "{Which|What} {element|thing|detail} {links|connects|unites} {these|the} {n} {pictures|images|photos|scenes}?",
        "{Find|Point out} what {all|all of} the {n} {pictures|images|photos} {have in common|share}.");

    /// <summary>The object that all pictures show, answered by its name.</summary>
    public static IReadOnlyList<string> LinkObject { get; } = Expand(
        "{Which|What} {object|thing} {is in|appears in|can be seen in} {all|each of the|every one of the} {n} {pictures|images|photos|scenes}? {Answer in a word.|Name it.}",
        "{Name|Give} the {object|thing} {common to|shared by} {these|the} {n} {pictures|images|photos}. {Only its name.|In a word.}");

    /// <summary>The colour that all pictures share, answered by its name.</summary>
    public static IReadOnlyList<string> LinkColour { get; } = Expand(
        "{Which|What} colour {of toy is in|do the toys share in|is painted in} {all|each of the|every one of the} {n} {pictures|images|photos|scenes}? {Answer in a word.|Name it.}",
        "{Name|Give} the {toy colour|colour of paint} {common to|shared by} {these|the} {n} {pictures|images|photos}. {Only its name.|In a word.}");

    /// <summary>The last caption of a story.</summary>
    public static IReadOnlyList<string> Story { get; } = Expand(
        "{With|Given} the {captions|narratives} {so far|paired with the first images}, how would you {end|conclude} the story using the last {picture|image|photo}?",
        "{Continue|Complete|Finish} the {story|tale} with {a caption|one sentence} for the last {picture|image|photo}.",
        "{Write|Give|Add} the {last|final|missing} caption of this {story|tale|series}.");

    /// <summary>What differs between two pictures.</summary>
    public static IReadOnlyList<string> Change { get; } = Expand(
        "What has changed {between these two pictures|from the first picture to the second|between these two images|from the first image to the second}?",
        "{Tell me|Say} what has changed {between these two pictures|between these two images}.",
        "{Describe|Name|Report|State} the {change|difference} {between|in} {these|the} two {pictures|images|photos|scenes}.",
        "{Spot|Find} the {change|difference}: {what is new or gone|what is not as before} in the second {picture|image|photo}?");

    /// <summary>Everything in one picture.</summary>
    public static IReadOnlyList<string> List { get; } = Expand(
        "What is in {this|the} {picture|image|photo}?",
        "{Tell me|Say} what is in {this|the} {picture|image|photo}.",
        "{List|Name} {everything|all things} in {this|the} {picture|image|photo|scene}.");

    /// <summary>Whether a picture shows something; {x} is the thing.</summary>
    public static IReadOnlyList<string> IsThere { get; } = Expand(
        "{Is there|Do you see|Can you find} {x} in {this|the} {picture|image|photo|scene}?");

    /// <summary>Where a picture was taken.</summary>
    public static IReadOnlyList<string> Where { get; } = Expand(
        "{Where|In which place} {is this|was this taken|does this happen}?",
        "{What|Which} {place|setting} does {this|the} {picture|image|photo} show?");

    /// <summary>A wording with its number of pictures.</summary>
    public static string Pick(IReadOnlyList<string> patterns, Random random, int pictures) =>
        patterns[random.Next(patterns.Count)].Replace("{n}", Numbers[pictures], StringComparison.Ordinal);

    private static List<string> Expand(params string[] patterns) => [.. patterns.SelectMany(Combinations)];

    private static IEnumerable<string> Combinations(string pattern)
    {
        int bar = pattern.IndexOf('|', StringComparison.Ordinal);
        if (bar < 0)
        {
            yield return pattern;
            yield break;
        }
        int open = pattern.LastIndexOf('{', bar);
        int close = pattern.IndexOf('}', bar);
        foreach (string choice in pattern[(open + 1)..close].Split('|'))
        {
            foreach (string rest in Combinations(pattern[..open] + choice + pattern[(close + 1)..]))
            {
                yield return rest;
            }
        }
    }
}
