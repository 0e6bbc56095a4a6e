using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;
using System.Text.Json;
using SamEngine.Decoding;
using SamEngine.Imaging;

namespace SamEngine.Cli;

/// <summary>Options and arguments whose errors say what was given and what is expected, the same under every locale.</summary>
internal static class CommandOptions
{
    /// <summary>An integer of at least <paramref name="least"/> and at most <paramref name="most"/>; where they are null, a value out
    /// of range is the engine's to refuse.</summary>
    public static Option<T?> Whole<T>(string name, string description, T? least = null, T? most = null)
        where T : struct, IBinaryInteger<T>, IMinMaxValue<T> => new(name)
        {
            Description = description,
            CustomParser = result => Parsed<T>(result, name, FormattableString.Invariant(
                least is null && T.IsNegative(T.MinValue) ? $"a whole number, at most {most ?? T.MaxValue}"
                    : (FormattableString)$"a whole number from {least ?? T.MinValue} to {most ?? T.MaxValue}"),
                text => T.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value)
                    && value >= (least ?? T.MinValue) && value <= (most ?? T.MaxValue) ? value : null),
        };

    /// <summary>Beams of a search.</summary>
    public static Option<int?> Beams() => Whole<int>("--beams", "Beams of the search (model's default, else 5); 1: greedy", 1,
        GenerationSettings.MostBeams);

    /// <summary>A number with a decimal point. A comma is refused: read as a thousands separator, 0,5 would be 5.</summary>
    public static Option<float?> Number(string name, string description) => new(name)
    {
        Description = description,
        CustomParser = result => Parsed<float>(result, name, "a number such as 0.9",
            text => float.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent,
                CultureInfo.InvariantCulture, out float value) ? value : null),
    };

    /// <summary>One of an enumeration's names, in lower case with dashes.</summary>
    public static Option<T?> Choice<T>(string name, string description)
        where T : struct, Enum
    {
        var values = Enum.GetValues<T>().ToDictionary(v => JsonNamingPolicy.KebabCaseLower.ConvertName(v.ToString()),
            StringComparer.OrdinalIgnoreCase);
        return new Option<T?>(name)
        {
            Description = description,
            HelpName = string.Join('|', values.Keys),
            CustomParser = result => Parsed<T>(result, name, string.Join(", ", values.Keys),
                text => values.TryGetValue(text, out var value) ? value : null),
        };
    }

    /// <summary>A file or folder, which need not exist.</summary>
    public static Option<string?> Path(string name, string description, params string[] aliases)
    {
        var option = new Option<string?>(name, aliases) { Description = description };
        option.Validators.Add(result => RefuseEmpty(result, name));
        return option;
    }

    /// <inheritdoc cref="Path"/>
    public static Argument<string> PathArgument(string name, string description)
    {
        var argument = new Argument<string>(name) { Description = description };
        argument.Validators.Add(result => RefuseEmpty(result, name));
        return argument;
    }

    /// <summary>The picture files of a command.</summary>
    public static Argument<string[]> Pictures()
    {
        var argument = new Argument<string[]>("pictures")
        {
            Description = "Picture files, in order",
            Arity = ArgumentArity.OneOrMore,
        };
        argument.Validators.Add(result => RefuseEmpty(result, "a picture"));
        return argument;
    }

    /// <summary>The pictures named, each of which is there. An unknown option is parsed as one more picture; it is told apart here.</summary>
    /// <exception cref="RequestException">An unknown option.</exception>
    /// <exception cref="ImageException">No such file.</exception>
    public static IReadOnlyList<SamImage> ReadPictures(ParseResult parsed, Argument<string[]> argument)
    {
        var afterDashes = parsed.Tokens.SkipWhile(t => t.Type != TokenType.DoubleDash).Select(t => t.Value).ToHashSet();
        string[] paths = parsed.GetRequiredValue(argument);
        foreach (string path in paths)
        {
            if (path.StartsWith('-') && !afterDashes.Contains(path))
            {
                throw new RequestException(path, "there is no such option; a picture of this name goes after --");
            }
        }
        foreach (var (index, path) in paths.Index())
        {
            ImageReader.RequireFile(path, index);
        }
        return [.. paths.Select(SamImage.FromFile)];
    }

    /// <summary>Checks that a file is there before work begins that it would end.</summary>
    /// <exception cref="CheckpointException">It is not.</exception>
    public static string? MustExist(string? file) => file is null || File.Exists(file) ? file
        : throw new CheckpointException(file, Directory.Exists(file) ? "is a folder, expected a file"
            : "does not exist; check the path");

    private static T? Parsed<T>(ArgumentResult result, string name, string expected, Func<string, T?> parse)
        where T : struct
    {
        // A missing value, or several, have been reported already.
        if (result.Tokens is not [var token])
        {
            return null;
        }
        var value = parse(token.Value);
        if (value is null)
        {
            result.AddError($"{name} is '{token.Value}', expected {expected}");
        }
        return value;
    }

    private static void RefuseEmpty(SymbolResult result, string name)
    {
        if (result.Tokens.Any(t => t.Value.Length == 0))
        {
            result.AddError($"{name} is empty, expected the path of a file or folder");
        }
    }
}
