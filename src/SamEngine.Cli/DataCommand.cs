using System.CommandLine;
using SamEngine.Data.Mini;

namespace SamEngine.Cli;

/// <summary><c>sam data make</c>: writes MmLINK-mini.</summary>
internal static class DataCommand
{
    public static Command Create() => new("data", "Make data sets") { Make() };

    private static Command Make()
    {
        var output = CommandOptions.Path("--out", "Folder to write, with 'train' and 'test' in it", "-o");
        output.Required = true;
        var seed = CommandOptions.Whole<int>("--seed", "Everything follows from it (1)");
        var train = CommandOptions.Whole<int>("--train", "Samples to train on (1000)", least: 0);
        var test = CommandOptions.Whole<int>("--test", "Samples to test on, with pairs of object and setting of their own (300)",
            least: 0);
        var placement = CommandOptions.Choice<Placement>("--placement", "Where the link lies in the pictures (all kinds in turn)");
        var side = CommandOptions.Whole<int>("--side", "Pixels of a picture's side (224)");
        var font = CommandOptions.Path("--font", "NotoColorEmoji.ttf (Debian's place for it)");
        var command = new Command("make", "Write MmLINK-mini: groups, stories and changes in the MmLINK form")
        {
            output, seed, train, test, placement, side, font,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            var defaults = new MmLinkMiniOptions();
            var options = new MmLinkMiniOptions
            {
                Seed = parsed.GetValue(seed) ?? defaults.Seed,
                Train = parsed.GetValue(train) ?? defaults.Train,
                Test = parsed.GetValue(test) ?? defaults.Test,
                Placement = parsed.GetValue(placement),
                Side = parsed.GetValue(side) ?? defaults.Side,
                FontPath = parsed.GetValue(font),
            };
            string folder = parsed.GetRequiredValue(output)!;
            await ProgressBar.RunAsync("drawing", report =>
            {
                MmLinkMini.Write(folder, options, new Reports<(int Done, int Total)>(p => report(p.Done, p.Total)), cancellation);
                return 0;
            });
            await Console.Error.WriteLineAsync("wrote " + folder);
            return ExitCodes.Success;
        });
        return command;
    }
}
