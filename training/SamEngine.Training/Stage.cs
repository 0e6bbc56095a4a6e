using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>A run of optimiser steps that can be stopped and taken up again at any moment. What a step sees follows from the
/// seed and its number alone, so an interrupted run ends like an uninterrupted one.</summary>
internal sealed class Stage
{
    private static readonly TimeSpan SaveEvery = TimeSpan.FromMinutes(2);

    /// <summary>For files and the log.</summary>
    public required string Name { get; init; }

    public required int Steps { get; init; }

    public required float LearningRate { get; init; }

    /// <summary>What is trained and saved.</summary>
    public required IReadOnlyList<KeyValuePair<string, TorchSharp.Modules.Parameter>> Trained { get; init; }

    /// <summary>Draws what a step sees, which may depend on how far the stage has come, 0 to 1, and returns the losses of its
    /// two parts, whose sum is the step's. They are of about equal size and computed at the same time; of two, the order in
    /// which gradients are added makes no difference.</summary>
    public required Func<Random, double, (Func<Tensor> A, Func<Tensor> B)> Parts { get; init; }

    /// <summary>Called before the first step, if any are left, and not counted among the steps' time.</summary>
    public Action? Prepare { get; init; }

    public int Seed { get; init; } = 1;

    public int WarmUp { get; init; } = 100;

    public float WeightDecay { get; init; } = 0.02f;

    /// <summary>Called now and then with the step; returns text for the log.</summary>
    public Func<string>? Validate { get; init; }

    public int ValidateEvery { get; init; } = 500;

    /// <summary>Trains, or takes up where the folder's checkpoint stands, and leaves the result in the folder as
    /// <c>{name}.safetensors</c>. A finished stage is only loaded.</summary>
    /// <returns>Mean loss of the first and of the last quarter of the steps made now.</returns>
    public (double First, double Last) Run(string folder)
    {
        Directory.CreateDirectory(folder);
        string done = Path.Combine(folder, Name + ".safetensors");
        string running = Path.Combine(folder, Name + ".running.safetensors");
        string log = Path.Combine(folder, Name + ".csv");
        var weights = Trained.Select(p => (p.Key, (Tensor)p.Value)).ToList();
        if (File.Exists(done))
        {
            Checkpoint.Load(done, weights);
            Console.WriteLine($"{Name}: done before");
            return (double.NaN, double.NaN);
        }
        foreach (var (_, parameter) in Trained)
        {
            parameter.requires_grad = true;
        }
        using var workers = new Workers();
        using var optimizer = new AdamW(Trained, WeightDecay, workers);
        var counter = zeros(1);
        var state = weights.Concat(optimizer.State).Append(("step", counter)).ToList();
        int step = 0;
        if (File.Exists(running))
        {
            Checkpoint.Load(running, state);
            step = (int)counter.item<float>();
            Console.WriteLine($"{Name}: goes on at step {step}");
        }
        else
        {
            File.WriteAllText(log, "step,loss,seconds\n");
        }
        Prepare?.Invoke();
        // While a step is computed, what the next one sees is drawn.
        Task<(Func<Tensor> A, Func<Tensor> B)> Draw(int next) =>
            Task.Run(() => Parts(new Random(HashCode(Seed, next)), next / (double)Steps));
        var drawn = Draw(step);
        var clock = Stopwatch.StartNew();
        var saved = Stopwatch.StartNew();
        int from = step;
        var losses = new List<double>();
        double shown = 0;
        int sinceShown = 0;
        while (step < Steps)
        {
            var (a, b) = drawn.GetAwaiter().GetResult();
            if (step + 1 < Steps)
            {
                drawn = Draw(step + 1);
            }
            // The gradients of both gather in the parameters, which libtorch guards.
            double value = workers.Run(2, part =>
            {
                var loss = part == 0 ? a() : b();
                loss.backward();
                return loss.item<float>();
            }).Sum();
            step++;
            if (!double.IsFinite(value))
            {
                throw new InvalidOperationException($"{Name}: the loss of step {step} is {value}");
            }
            float rate = LearningRate * Math.Min(1f, step / (float)WarmUp)
                * (0.05f + 0.95f * 0.5f * (1 + MathF.Cos(MathF.PI * step / Steps)));
            optimizer.Step(step, rate);
            losses.Add(value);
            shown += value;
            sinceShown++;
            if (step % 50 == 0 || step == Steps)
            {
                double perStep = clock.Elapsed.TotalSeconds / (step - from);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Name}: step {step}/{Steps}, loss " +
                    $"{shown / sinceShown:F4}, {perStep:F3} s a step, {TimeSpan.FromSeconds(perStep * (Steps - step)):hh\\:mm\\:ss} left"));
                File.AppendAllText(log, string.Create(CultureInfo.InvariantCulture,
                    $"{step},{shown / sinceShown:F5},{clock.Elapsed.TotalSeconds:F1}\n"));
                shown = sinceShown = 0;
            }
            if (Validate is not null && (step % ValidateEvery == 0 || step == Steps))
            {
                Console.WriteLine($"{Name}: step {step}: {Validate()}");
            }
            if (saved.Elapsed > SaveEvery)
            {
                counter.fill_(step);
                Checkpoint.Save(running, state);
                saved.Restart();
            }
        }
        Checkpoint.Save(done, weights);
        File.Delete(running);
        foreach (var (_, parameter) in Trained)
        {
            parameter.requires_grad = false;
        }
        int part = Math.Max(1, losses.Count / 4);
        return (losses.Take(part).Average(), losses.TakeLast(part).Average());
    }

    private static int HashCode(int seed, int step)
    {
        ulong x = (ulong)(uint)seed << 32 | (uint)step;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
        x = (x ^ x >> 27) * 0x94D049BB133111EB;
        return (int)(x ^ x >> 31);
    }
}
