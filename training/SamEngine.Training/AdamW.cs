using System.Numerics;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>AdamW whose state can be saved and restored tensor by tensor.</summary>
internal sealed class AdamW : IDisposable
{
    private const float Beta1 = 0.9f;
    private const float Beta2 = 0.98f;
    private const float Epsilon = 1e-8f;
    private readonly List<(string Name, TorchSharp.Modules.Parameter Parameter, Tensor First, Tensor Second)> _states;
    private readonly float _weightDecay;
    private readonly Workers _workers;

    public AdamW(IEnumerable<KeyValuePair<string, TorchSharp.Modules.Parameter>> parameters, float weightDecay, Workers workers)
    {
        _weightDecay = weightDecay;
        _workers = workers;
        _states = [.. parameters.Select(p => (p.Key, p.Value, zeros(p.Value.shape).DetachFromDisposeScope(),
            zeros(p.Value.shape).DetachFromDisposeScope()))];
    }

    /// <summary>State by name, to save and to restore in place.</summary>
    public IEnumerable<(string Name, Tensor Values)> State =>
        _states.SelectMany(s => new[] { ("adam.first." + s.Name, s.First), ("adam.second." + s.Name, s.Second) });

    /// <summary>Clips the norm of all gradients together, steps, and forgets the gradients.</summary>
    /// <param name="step">From 1.</param>
    /// <param name="learningRate">Of this step.</param>
    /// <param name="largestNorm">Gradients of a larger norm are scaled down.</param>
    public void Step(int step, float learningRate, float largestNorm = 1)
    {
        double[] squares = _workers.Run(_states.Count, i => _states[i].Parameter.grad is { } gradient ? SumOfSquares(Values(gradient)) : 0);
        float scale = (float)Math.Min(1, largestNorm / (Math.Sqrt(squares.Sum()) + 1e-6));
        float correction1 = 1 - MathF.Pow(Beta1, step);
        float correction2 = 1 - MathF.Pow(Beta2, step);
        _workers.Run(_states.Count, i =>
        {
            var s = _states[i];
            if (s.Parameter.grad is { } gradient)
            {
                float kept = s.Parameter.shape.Length > 1 ? 1 - learningRate * _weightDecay : 1;
                Update(Values(s.Parameter), Values(gradient), Values(s.First), Values(s.Second), scale, kept,
                    -learningRate / correction1, 1 / correction2);
                s.Parameter.grad = null;
            }
            return 0;
        });
    }

    public void Dispose()
    {
        foreach (var s in _states)
        {
            s.First.Dispose();
            s.Second.Dispose();
        }
    }

    /// <summary>A tensor's own memory.</summary>
    private static Span<float> Values(Tensor t) => MemoryMarshal.Cast<byte, float>(
        t.is_contiguous() ? t.bytes : throw new InvalidOperationException($"[{string.Join(", ", t.shape)}] does not lie in one piece"));

    private static double SumOfSquares(ReadOnlySpan<float> values)
    {
        var sum = Vector<double>.Zero;
        int n = 0;
        for (; n <= values.Length - Vector<float>.Count; n += Vector<float>.Count)
        {
            Vector.Widen(new Vector<float>(values[n..]), out var low, out var high);
            sum += low * low + high * high;
        }
        double rest = 0;
        for (; n < values.Length; n++)
        {
            rest += (double)values[n] * values[n];
        }
        return Vector.Sum(sum) + rest;
    }

    /// <summary>All of a step in one pass over the memory.</summary>
    private static void Update(Span<float> values, ReadOnlySpan<float> gradient, Span<float> first, Span<float> second, float scale,
        float kept, float rate, float correction)
    {
        int n = 0;
        for (; n <= values.Length - Vector<float>.Count; n += Vector<float>.Count)
        {
            var g = new Vector<float>(gradient[n..]) * scale;
            var m = new Vector<float>(first[n..]) * Beta1 + g * (1 - Beta1);
            var v = new Vector<float>(second[n..]) * Beta2 + g * g * (1 - Beta2);
            m.CopyTo(first[n..]);
            v.CopyTo(second[n..]);
            var x = new Vector<float>(values[n..]) * kept;
            (x + m * rate / (Vector.SquareRoot(v * correction) + new Vector<float>(Epsilon))).CopyTo(values[n..]);
        }
        for (; n < values.Length; n++)
        {
            float g = gradient[n] * scale;
            first[n] = first[n] * Beta1 + g * (1 - Beta1);
            second[n] = second[n] * Beta2 + g * g * (1 - Beta2);
            values[n] = values[n] * kept + first[n] * rate / (MathF.Sqrt(second[n] * correction) + Epsilon);
        }
    }
}
