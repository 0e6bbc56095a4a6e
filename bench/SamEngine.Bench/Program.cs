using System.CommandLine;
using SamEngine;
using SamEngine.Bench;
using SamEngine.Bench.Compare;
using SamEngine.Bench.MakeModel;

Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var root = new RootCommand("Measures the engine beside what the machine can do in the same run, and beside its peers. Prints times, asserts none.")
{
    StagesCommand.Create(),
    KernelsCommand.Create(),
    GrowthCommand.Create(),
    CompareCommand.Create(),
    MeasureCommand.Create(),
    MakeModelCommand.Create(),
    FullShapeCommand.Create(),
};
try
{
    return await root.Parse(args).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is SamException or ContenderException or IOException)
{
    await Console.Error.WriteLineAsync("error: " + e.Message);
    return 1;
}
