using System.CommandLine;
using SamEngine.Bench;

Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var root = new RootCommand("Measures the engine beside what the machine can do in the same run. Prints times, asserts none.")
{
    StagesCommand.Create(),
    FullShapeCommand.Create(),
};
return await root.Parse(args).InvokeAsync();
