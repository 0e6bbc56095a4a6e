using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace SamEngine.Testing;

/// <summary>A program run as a process, its output collected. Disposing ends it and its children.</summary>
public sealed partial class ProcessRun : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly Task _outputRead;
    private readonly Task<string> _errorRead;
    private readonly TaskCompletionSource _firstOutput = new();

    private ProcessRun(Process process)
    {
        _process = process;
        _outputRead = ReadOutputAsync();
        _errorRead = process.StandardError.ReadToEndAsync();
    }

    /// <summary>Its process id.</summary>
    public int Id => _process.Id;

    /// <summary>Whether it has ended.</summary>
    public bool HasExited => _process.HasExited;

    /// <summary>Starts a program; <paramref name="environment"/> goes over this process's own.</summary>
    public static ProcessRun Start(string program, IEnumerable<string> arguments, string? folder = null,
        IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
            WorkingDirectory = folder ?? "",
        };
        foreach (var (name, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }
        var process = Process.Start(start)!;
        process.StandardInput.Close();
        return new ProcessRun(process);
    }

    /// <summary>Runs a program to its end.</summary>
    public static async Task<ProcessResult> RunAsync(string program, IEnumerable<string> arguments, string? folder = null,
        IReadOnlyDictionary<string, string>? environment = null, int timeoutSeconds = 120)
    {
        using var run = Start(program, arguments, folder, environment);
        return await run.EndAsync(timeoutSeconds);
    }

    /// <summary>Sends SIGINT, as Ctrl-C does; false when it has ended.</summary>
    public bool Interrupt() => Kill(_process.Id, 2) == 0;

    /// <summary>Does something at the first character on standard output: at once, not when the test's turn comes, which others may
    /// keep waiting for longer than the program runs.</summary>
    public Task<T> AtFirstOutput<T>(Func<ProcessRun, T> action) => _firstOutput.Task.ContinueWith(_ => action(this),
        CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    /// <summary>Bytes of memory of its own it has now, files mapped into it not counted; null when it has ended.</summary>
    public long? AnonymousMemory()
    {
        const string Key = "RssAnon:";
        try
        {
            string? line = File.ReadLines($"/proc/{Id}/status").FirstOrDefault(l => l.StartsWith(Key, StringComparison.Ordinal));
            return line is null ? null : 1024 * long.Parse(line[Key.Length..].Replace("kB", "", StringComparison.Ordinal),
                System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Waits for the end.</summary>
    /// <exception cref="TimeoutException">It did not end in time; the message holds what it wrote.</exception>
    public async Task<ProcessResult> EndAsync(int timeoutSeconds = 120)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(timeoutSeconds));
        try
        {
            await _process.WaitForExitAsync(timeout.Token);
        }
        catch (OperationCanceledException)
        {
            _process.Kill(entireProcessTree: true);
            await _outputRead;
            throw new TimeoutException($"{_process.StartInfo.FileName} {string.Join(' ', _process.StartInfo.ArgumentList)} did " +
                $"not end in {timeoutSeconds} s\n{_output}\n{await _errorRead}");
        }
        await _outputRead;
        return new ProcessResult(_process.ExitCode, _output.ToString(), await _errorRead);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }
        _process.Dispose();
    }

    private async Task ReadOutputAsync()
    {
        char[] buffer = new char[4096];
        int read;
        while ((read = await _process.StandardOutput.ReadAsync(buffer).ConfigureAwait(false)) > 0)
        {
            _output.Append(buffer, 0, read);
            _firstOutput.TrySetResult();
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}

/// <summary>How a program ended and what it wrote.</summary>
/// <param name="ExitCode">Its exit code.</param>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error.</param>
public sealed record ProcessResult(int ExitCode, string Output, string Error)
{
    /// <summary>Both outputs, for the message of a failed assertion.</summary>
    public override string ToString() => $"exit code {ExitCode}\n{Output}\n{Error}";
}
