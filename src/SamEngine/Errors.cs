namespace SamEngine;

/// <summary>The base of every error that SamEngine raises knowingly. The engine goes on serving after any of them,
/// except after a <see cref="BackendException"/> whose <see cref="BackendException.IsFatal"/> is set.</summary>
public abstract class SamException : Exception
{
    private protected SamException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

/// <summary>A checkpoint, configuration or tokenizer file is missing, damaged, hostile or not what was expected.
/// The message names the file and, where there is one, the tensor, what was found, what was expected, what to do.</summary>
public sealed class CheckpointException : SamException
{
    /// <summary>Creates the error for <paramref name="path"/>.</summary>
    /// <param name="path">The file or folder at fault.</param>
    /// <param name="message">What was found, what was expected, what to do.</param>
    /// <param name="inner">The cause, where there is one.</param>
    public CheckpointException(string path, string message, Exception? inner = null)
        : base($"{path}: {message}", inner)
    {
        Path = path;
    }

    /// <summary>The file or folder at fault.</summary>
    public string Path { get; }
}

/// <summary>One picture of a request can't be read or is over a limit. The other pictures of the group and other
/// requests are not affected.</summary>
public sealed class ImageException : SamException
{
    /// <summary>Creates the error for the picture at <paramref name="imageIndex"/>.</summary>
    /// <param name="imageIndex">Its zero-based position in the request.</param>
    /// <param name="source">Its file name, or what stands for it.</param>
    /// <param name="message">What was found, what was expected, what to do.</param>
    /// <param name="inner">The cause, where there is one.</param>
    public ImageException(int imageIndex, string source, string message, Exception? inner = null)
        : base($"image {imageIndex} ({source}): {message}", inner)
    {
        ImageIndex = imageIndex;
        ImageName = source;
    }

    /// <summary>The zero-based position of the picture in the request.</summary>
    public int ImageIndex { get; }

    /// <summary>The picture's file name, or what stands for it ("stream", "12345 bytes").</summary>
    public string ImageName { get; }
}

/// <summary>A request asks for something that can't be done: an option out of range, an empty group, a prompt longer
/// than the context. The message names the option, the value, the range.</summary>
public sealed class RequestException : SamException
{
    /// <summary>Creates the error for <paramref name="option"/>.</summary>
    /// <param name="option">The option or argument at fault.</param>
    /// <param name="message">Its value and the range, or what to do.</param>
    public RequestException(string option, string message)
        : base($"{option}: {message}")
    {
        Option = option;
    }

    /// <summary>The option or argument at fault.</summary>
    public string Option { get; }
}

/// <summary>A compute backend can't be used, ran out of memory, or failed.</summary>
public sealed class BackendException : SamException
{
    /// <summary>Creates the error for the backend called <paramref name="backend"/>.</summary>
    /// <param name="backend">The backend's name.</param>
    /// <param name="message">What failed, and what to do.</param>
    /// <param name="isFatal">Whether the backend can't serve any further request.</param>
    /// <param name="inner">The cause, where there is one.</param>
    public BackendException(string backend, string message, bool isFatal = false, Exception? inner = null)
        : base($"backend '{backend}': {message}", inner)
    {
        Backend = backend;
        IsFatal = isFatal;
    }

    /// <summary>The backend's name.</summary>
    public string Backend { get; }

    /// <summary>True when the backend can't serve any further request.</summary>
    public bool IsFatal { get; }
}

/// <summary>The model computed NaN or infinity: damaged weights or an overflow in a half-precision format.</summary>
public sealed class NumericException : SamException
{
    /// <summary>Creates the error.</summary>
    /// <param name="where">The stage.</param>
    /// <param name="message">What was computed there, and why that may be.</param>
    public NumericException(string where, string message)
        : base($"{where}: {message}")
    {
    }
}

/// <summary>Results can't be written: the file or folder can't be made, holds something already, or the disk is full. The message
/// names it and says what to do.</summary>
public sealed class OutputException : SamException
{
    /// <summary>Creates the error for <paramref name="path"/>.</summary>
    /// <param name="path">The file or folder that was to be written.</param>
    /// <param name="message">What is in the way and what to do.</param>
    /// <param name="inner">The cause, where there is one.</param>
    public OutputException(string path, string message, Exception? inner = null)
        : base($"{path}: {message}", inner)
    {
        Path = path;
    }

    /// <summary>The file or folder that was to be written.</summary>
    public string Path { get; }
}
