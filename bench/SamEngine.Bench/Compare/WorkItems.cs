using SamEngine.Model;

namespace SamEngine.Bench.Compare;

/// <summary>A part of a request that contenders do alike.</summary>
/// <param name="Name">As in options and reports.</param>
/// <param name="Title">For people.</param>
/// <param name="CountsSteps">A time is also shown as steps per second.</param>
internal sealed record WorkItem(string Name, string Title, bool CountsSteps = false);

/// <summary>The request that everything is measured on, and its parts.</summary>
internal static class WorkItems
{
    public const int Images = 5;
    public const int Beams = 5;

    /// <summary>Words of the instruction that the Q-Former reads.</summary>
    public const int Words = 16;

    /// <summary>Rows of the language model's input that are no visual tokens.</summary>
    public const int PromptIds = 64;

    public const int NewTokens = 60;

    public const string Picture = "picture";
    public const string Vision1 = "vision-1";
    public const string Vision5 = "vision-5";
    public const string QFormer5 = "qformer-5";
    public const string Prefill = "prefill";
    public const string Decode = "decode";
    public const string Beam5 = "beam-5";
    public const string Request1 = "request-1";
    public const string Request5 = "request-5";
    public const string Load = "load";

    public static IReadOnlyList<WorkItem> All { get; } =
    [
        new(Picture, "a 1920x1080 JPEG: decode, resize, normalise"),
        new(Vision1, "vision encoder, 1 image"),
        new(Vision5, $"vision encoder, {Images} images"),
        new(QFormer5, $"Q-Former, {Images} images, with guidance"),
        new(Prefill, "prefill"),
        new(Decode, "decode step, 1 sequence after the prompt", CountsSteps: true),
        new(Beam5, $"decode step, {Beams} beams after the prompt", CountsSteps: true),
        new(Request1, $"whole request: {Images} JPEGs, {NewTokens} tokens, greedy"),
        new(Request5, $"whole request: {Images} JPEGs, {NewTokens} tokens, {Beams} beams"),
        new(Load, "load and prefill in a new process, warm file cache"),
    ];

    public static IReadOnlyList<string> Names { get; } = [.. All.Select(i => i.Name)];

    public static WorkItem Of(string name) => All.First(i => i.Name == name);

    /// <summary>Rows of the language model's input: visual tokens of all images and the prompt.</summary>
    public static int Rows(SamConfig config) => Images * config.QFormer.QueryTokens + PromptIds;

    /// <summary>The parts of a whole request and how often each is done, for the sum of other engines' parts. The prefill
    /// gives the first token.</summary>
    public static IReadOnlyList<(string Item, int Times)> PartsOf(string request) =>
        [(Picture, Images), (Vision5, 1), (QFormer5, 1), (Prefill, 1), (request == Request5 ? Beam5 : Decode, NewTokens - 1)];
}
