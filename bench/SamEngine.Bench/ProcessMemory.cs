using System.Globalization;

namespace SamEngine.Bench;

/// <summary>Watches the memory of this process that no file backs (Linux).</summary>
internal sealed class ProcessMemory : IDisposable
{
    private readonly Timer _timer;
    private long _peak;

    public ProcessMemory()
    {
        _timer = new Timer(_ => Look(), null, TimeSpan.Zero, Interval);
    }

    public static TimeSpan Interval { get; } = TimeSpan.FromMilliseconds(20);

    /// <summary>The most <c>RssAnon</c> seen so far.</summary>
    public long PeakAnonymousBytes()
    {
        Look();
        return Volatile.Read(ref _peak);
    }

    /// <summary>A field of <c>/proc/PID/status</c> that is given in kB, in bytes; 0 when the process has gone.</summary>
    /// <param name="field">"RssAnon", "VmHWM", ...</param>
    /// <param name="process">Its number; null: this process.</param>
    public static long Read(string field, int? process = null)
    {
        string path = process is { } id ? string.Create(CultureInfo.InvariantCulture, $"/proc/{id}/status") : "/proc/self/status";
        try
        {
            // A process that is ending has no memory fields any more.
            string? line = File.ReadLines(path).FirstOrDefault(l => l.StartsWith(field + ":", StringComparison.Ordinal));
            return line is null ? 0
                : 1024 * long.Parse(line[(field.Length + 1)..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
        }
        catch (IOException) when (process is not null)
        {
            return 0;
        }
    }

    public void Dispose() => _timer.Dispose();

    private void Look()
    {
        long now = Read("RssAnon");
        long seen;
        while (now > (seen = Volatile.Read(ref _peak)) && Interlocked.CompareExchange(ref _peak, now, seen) != seen)
        {
        }
    }
}
