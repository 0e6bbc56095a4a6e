using System.Diagnostics;

namespace SamEngine.Bench.Compare;

/// <summary>What a child process printed and needed.</summary>
internal sealed record ChildResult(string Output, string Errors, double Seconds, long PeakResidentBytes, long PeakAnonymousBytes);

/// <summary>Runs one contender to its end, alone.</summary>
internal static class ChildProcess
{
    /// <exception cref="ContenderException">It can't be started, fails, or takes too long; its own words are in the message.</exception>
    public static async Task<ChildResult> RunAsync(string contender, string program, IEnumerable<string> arguments,
        TimeSpan limit, CancellationToken cancellation)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timeout.CancelAfter(limit);
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        long began = Stopwatch.GetTimestamp();
        using var process = Start(contender, start);
        var output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        var errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        long resident = 0;
        long anonymous = 0;
        try
        {
            var exit = process.WaitForExitAsync(timeout.Token);
            do
            {
                // At the start too: whoever waits for the interval may be called late.
                resident = Math.Max(resident, ProcessMemory.Read("VmHWM", process.Id));
                anonymous = Math.Max(anonymous, ProcessMemory.Read("RssAnon", process.Id));
            }
            while (await Task.WhenAny(exit, Task.Delay(ProcessMemory.Interval, CancellationToken.None)) != exit);
            await exit;
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
            cancellation.ThrowIfCancellationRequested();
            throw new ContenderException(contender, FormattableString.Invariant(
                $"did not end within {limit.TotalMinutes:0} minutes; raise --limit-minutes or ask for less"));
        }
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        string said = await errors;
        return process.ExitCode == 0 ? new ChildResult(await output, said, seconds, resident, anonymous)
            : throw new ContenderException(contender, $"ended with exit code {process.ExitCode}: {Tail(said)}");
    }

    /// <summary>The last words of a log, which say why.</summary>
    public static string Tail(string text)
    {
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return lines.Length == 0 ? "it said nothing" : string.Join(" | ", lines.TakeLast(4));
    }

    private static Process Start(string contender, ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new ContenderException(contender, $"'{start.FileName}' can't be started: {e.Message}", e);
        }
    }
}
