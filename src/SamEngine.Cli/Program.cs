using System.CommandLine;
using SamEngine.Cli;

// The text goes to standard output, everything else to standard error.
StandardStreams.Install();
var verbose = new Option<bool>("--verbose") { Description = "Print where an error came from", Recursive = true };
var root = new RootCommand("Looks at several pictures at once and says what links them (the SAM multimodal model). " + ExitCodes.Help)
{
    verbose,
    DescribeCommand.Create(),
    RankCommand.Create(),
    ExplainCommand.Create(),
    EvalCommand.Create(),
    ModelCommand.Create(),
    DataCommand.Create(),
    BenchCommand.Create(),
    DoctorCommand.Create(),
};
// A prompt may begin with '@'; it does not name a file of arguments.
var parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
try
{
    if (parsed.Errors.Count > 0)
    {
        return await ErrorReport.WrongUseAsync(parsed);
    }
    return await parsed.InvokeAsync(new InvocationConfiguration
    {
        EnableDefaultExceptionHandler = false,
        ProcessTerminationTimeout = TimeSpan.FromSeconds(10),
    });
}
catch (Exception e)
{
    return await ErrorReport.FailureAsync(parsed, e, parsed.GetValue(verbose));
}
