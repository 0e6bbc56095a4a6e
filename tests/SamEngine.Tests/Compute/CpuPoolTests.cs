using System.Globalization;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>An application that waits for its user pays nothing for a loaded engine.</summary>
[Collection(nameof(Alone))]
public sealed class CpuPoolTests
{
    [Fact]
    public async Task Idle_threads_take_less_than_ten_milliseconds_of_a_second()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "reads /proc");
        using var backend = new CpuBackend(threads: 8);
        using var probe = new Probe(backend, 1);
        probe.Queue.Linear(probe.Input(1, 64, 256), probe.Matrix(WeightFormat.Q8, 256, [4096], 64), probe.Output("y", 1, 64, 4096));
        // The work above did not wait for threads that had not begun yet.
        int threads = 0;
        Assert.True(SpinWait.SpinUntil(() => PoolNanoseconds(out threads) >= 0 && threads >= 7, 5000), $"{threads} threads of the pool");
        await Task.Delay(100, TestContext.Current.CancellationToken);
        long before = PoolNanoseconds(out _);
        await Task.Delay(1000, TestContext.Current.CancellationToken);
        long took = PoolNanoseconds(out _) - before;
        Assert.True(took < 10_000_000, $"{took / 1e6} ms of processor time");
    }

    /// <summary>Processor time of the pools' threads so far.</summary>
    private static long PoolNanoseconds(out int threads)
    {
        threads = 0;
        long sum = 0;
        foreach (string task in Directory.GetDirectories("/proc/self/task"))
        {
            try
            {
                if (File.ReadAllText(Path.Combine(task, "comm")).Trim() == "samengine-pool")
                {
                    threads++;
                    sum += long.Parse(File.ReadAllText(Path.Combine(task, "schedstat")).Split(' ')[0], CultureInfo.InvariantCulture);
                }
            }
            catch (IOException)
            {
                // The thread has ended.
            }
        }
        return sum;
    }
}
