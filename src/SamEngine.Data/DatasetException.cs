namespace SamEngine.Data;

/// <summary>A data set or a list of predictions that can't be used; the message names the file or the sample.</summary>
public sealed class DatasetException : SamException
{
    /// <param name="subject">File, or sample.</param>
    /// <param name="problem">What is wrong with it and what to do.</param>
    /// <param name="inner">Cause.</param>
    public DatasetException(string subject, string problem, Exception? inner = null)
        : base($"{subject}: {problem}", inner)
    {
        Subject = subject;
    }

    /// <summary>File, or sample.</summary>
    public string Subject { get; }
}
