using Spectre.Console;

namespace SamEngine.Cli;

/// <summary>A progress bar on standard error; plain lines at every tenth where that is not a terminal.</summary>
internal static class ProgressBar
{
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
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        return await console.Progress().StartAsync(async context =>
        {
            var task = context.AddTask(what);
            return await Task.Run(() => work((done, total) =>
            {
                task.MaxValue = total;
                task.Value = done;
            }));
        });
    }
}

/// <summary>Progress reported at once, on the thread that makes it.</summary>
internal sealed class Reports<T>(Action<T> report) : IProgress<T>
{
    void IProgress<T>.Report(T value) => report(value);
}
