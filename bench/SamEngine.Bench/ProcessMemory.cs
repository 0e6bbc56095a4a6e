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

    /// <summary>A field of <c>/proc/self/status</c> that is given in kB, in bytes.</summary>
    public static long Read(string field)
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(field + ":", StringComparison.Ordinal));
        return 1024 * long.Parse(line[(field.Length + 1)..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
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
