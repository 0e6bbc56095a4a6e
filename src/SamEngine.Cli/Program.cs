using System.CommandLine;
using SamEngine.Cli;

// The text goes to standard output, everything else to standard error.
Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var verbose = new Option<bool>("--verbose") { Description = "Print where an error came from", Recursive = true };
var root = new RootCommand("Looks at several pictures at once and says what links them (the SAM multimodal model).")
{
    verbose,
    DescribeCommand.Create(),
    RankCommand.Create(),
    ModelCommand.Create(),
    BenchCommand.Create(),
    DoctorCommand.Create(),
};
var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors)
    {
        await Console.Error.WriteLineAsync("sam: " + error.Message);
    }
    await Console.Error.WriteLineAsync("See 'sam --help'.");
    return ExitCodes.Usage;
}
try
{
    return await parsed.InvokeAsync(new InvocationConfiguration
    {
        EnableDefaultExceptionHandler = false,
        ProcessTerminationTimeout = TimeSpan.FromSeconds(10),
    });
}
catch (OperationCanceledException)
{
    await Console.Error.WriteLineAsync("sam: cancelled");
    return ExitCodes.Cancelled;
}
catch (Exception e)
{
    await Console.Error.WriteLineAsync("sam: " + (parsed.GetValue(verbose) ? e.ToString() : e.Message));
    return ExitCodes.For(e);
}
