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
        double[] squares = _workers.Run(_states.Count, i =>
        {
            using var off = no_grad();
            return _states[i].Parameter.grad is { } g ? g.square().sum().item<float>() : 0;
        });
        float scale = (float)Math.Min(1, largestNorm / (Math.Sqrt(squares.Sum()) + 1e-6));
        float correction1 = 1 - MathF.Pow(Beta1, step);
        float correction2 = 1 - MathF.Pow(Beta2, step);
        _workers.Run(_states.Count, i =>
        {
            using var off = no_grad();
            var s = _states[i];
            if (s.Parameter.grad is { } gradient)
            {
                var g = gradient * scale;
                s.First.mul_(Beta1).add_(g, 1 - Beta1);
                s.Second.mul_(Beta2).addcmul_(g, g, 1 - Beta2);
                if (s.Parameter.shape.Length > 1)
                {
                    s.Parameter.mul_(1 - learningRate * _weightDecay);
                }
                s.Parameter.addcdiv_(s.First, (s.Second / correction2).sqrt_().add_(Epsilon), -learningRate / correction1);
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
}
