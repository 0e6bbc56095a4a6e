using System.CommandLine;
using SamEngine.Bench;
using SamEngine.Bench.Compare;
using SamEngine.Bench.MakeModel;

Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var root = new RootCommand("Measures the engine beside what the machine can do in the same run. Prints times, asserts none.")
{
    StagesCommand.Create(),
    CompareCommand.Create(),
    MeasureCommand.Create(),
    KernelsCommand.Create(),
    MakeModelCommand.Create(),
    FullShapeCommand.Create(),
};
return await root.Parse(args).InvokeAsync();
