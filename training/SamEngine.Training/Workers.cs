using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>A thread per processor core, each computing with one thread of libtorch: for models this small, libtorch's own threads
/// wait for each other more than they gain.</summary>
internal sealed class Workers : IDisposable
{
    private readonly BlockingCollection<Action> _queue = [];
    private readonly Thread[] _threads;

    public Workers()
    {
        _threads = [.. Enumerable.Range(0, Environment.ProcessorCount).Select(i => new Thread(Work) { IsBackground = true, Name = $"worker {i}" })];
        foreach (var thread in _threads)
        {
            thread.Start();
        }
    }

    /// <summary>Computes every item, and returns the results in order. Tensors an item makes are disposed with it.</summary>
    public double[] Run(int count, Func<int, double> item)
    {
        double[] results = new double[count];
        int next = -1;
        int helpers = Math.Min(_threads.Length, count);
        using var left = new CountdownEvent(helpers);
        ExceptionDispatchInfo? failure = null;
        for (int i = 0; i < helpers; i++)
        {
            _queue.Add(() =>
            {
                try
                {
                    for (int k; (k = Interlocked.Increment(ref next)) < count;)
                    {
                        using var scope = NewDisposeScope();
                        results[k] = item(k);
                    }
                }
                catch (Exception e)
                {
                    failure = ExceptionDispatchInfo.Capture(e);
                }
                finally
                {
                    left.Signal();
                }
            });
        }
        left.Wait();
        failure?.Throw();
        return results;
    }

    public void Dispose()
    {
        _queue.CompleteAdding();
        foreach (var thread in _threads)
        {
            thread.Join();
        }
        _queue.Dispose();
    }

    private void Work()
    {
        // Holds for the thread that calls it.
        set_num_threads(1);
        foreach (var action in _queue.GetConsumingEnumerable())
        {
            action();
        }
    }
}
