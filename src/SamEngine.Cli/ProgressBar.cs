using Spectre.Console;

namespace SamEngine.Cli;

/// <summary>A progress bar on standard error; plain lines at every tenth where that is not a terminal.</summary>
internal static class ProgressBar
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan Refresh = TimeSpan.FromSeconds(0.1);

    public static async Task<T> RunAsync<T>(string what, Func<Action<long, long>, T> work)
    {
        if (Console.IsErrorRedirected)
        {
            int last = -1;
            return await Task.Run(() => work((done, total) =>
            {
                int tenth = total > 0 ? (int)(done * 10 / total) : 0;
                if (tenth != last)
                {
                    last = tenth;
                    Console.Error.WriteLine($"{what}: {tenth * 10} %");
                }
            }));
        }
        return await Terminal(clear: false).StartAsync(async context =>
        {
            var task = context.AddTask(what);
            return await Task.Run(() => work((done, total) => (task.MaxValue, task.Value) = (total, done)));
        });
    }

    /// <summary>Waits for work that is usually short: a bar on a terminal once it takes long, and gone after it; nothing elsewhere, or
    /// when quiet.</summary>
    public static async Task<T> WaitAsync<T>(string what, Func<Action<long, long>, Task<T>> start, bool quiet)
    {
        (long Done, long Total) reached = (0, 1);
        var gate = new Lock();
        var work = start((done, total) =>
        {
            lock (gate)
            {
                reached = (done, total);
            }
        });
        if (quiet || Console.IsErrorRedirected || await Task.WhenAny(work, Task.Delay(Patience)) == work)
        {
            return await work;
        }
        return await Terminal(clear: true).StartAsync(async context =>
        {
            var task = context.AddTask(what);
            while (await Task.WhenAny(work, Task.Delay(Refresh)) != work)
            {
                lock (gate)
                {
                    (task.MaxValue, task.Value) = (reached.Total, reached.Done);
                }
            }
            return await work;
        });
    }

    private static Progress Terminal(bool clear) =>
        AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) }).Progress().AutoClear(clear);
}

/// <summary>Progress reported at once, on the thread that makes it.</summary>
internal sealed class Reports<T>(Action<T> report) : IProgress<T>
{
    void IProgress<T>.Report(T value) => report(value);
}
