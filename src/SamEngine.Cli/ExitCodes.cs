using SamEngine.Data;

namespace SamEngine.Cli;

/// <summary>What the command's exit codes mean; listed in the README.</summary>
internal static class ExitCodes
{
    public const int Success = 0;
    public const int Internal = 1;
    public const int Usage = 2;
    public const int Checkpoint = 3;
    public const int Image = 4;
    public const int Backend = 5;
    public const int Dataset = 6;
    public const int Output = 7;
    public const int Cancelled = 130;

    public const string Help = "Exit codes: 0 done, 1 internal error, 2 wrong use, 3 model or checkpoint, 4 picture, 5 backend, " +
        "6 data set, 7 output that can't be written, 130 cancelled.";

    public static int For(Exception error) => error switch
    {
        RequestException => Usage,
        CheckpointException => Checkpoint,
        DatasetException => Dataset,
        ImageException => Image,
        BackendException => Backend,
        NumericException => Checkpoint,
        // What is read has errors of its own: these come of writing.
        OutputException or IOException or UnauthorizedAccessException => Output,
        OperationCanceledException => Cancelled,
        _ => Internal,
    };
}
