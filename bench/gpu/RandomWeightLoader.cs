using System.Text;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Cuda;
using SamEngine.Cuda.Driver;
using SamEngine.Model;

namespace SamEngine.GpuBench;

/// <summary>
/// Random weights of any dimensions, never zeros. Matrices are made on the device (kernels/random_weight.cu): nothing of them is
/// computed, kept or sent by the host, which for 7 billion weights would take longer than what is measured. Vectors and small
/// tables come from <see cref="RandomModelWriter"/>. Every tensor has values of its own, the same for the same seed and name.
/// </summary>
/// <param name="config">Dimensions.</param>
/// <param name="backend">The device.</param>
/// <param name="format">Of all matrices; quantised ones in groups of <see cref="QuantizedLayout.DefaultGroupSize"/>.</param>
/// <param name="seed">Of the values.</param>
internal sealed unsafe class RandomWeightLoader(SamConfig config, CudaBackend backend, WeightFormat format, ulong seed)
    : WeightLoader(config, backend)
{
    /// <summary>Threads of a block of <c>random_weight</c>, and blocks of it for each multiprocessor: kernels/random_weight.cu.</summary>
    private const int Threads = 256;
    private const int BlocksEach = 8;

    public override bool Has(string name) => true;

    /// <summary>A stack is one matrix, of the first name's values.</summary>
    public override Weight Stack(IReadOnlyList<(string Name, int Rows)> parts, params long[] columnShape)
    {
        string name = parts[0].Name;
        var weight = new CudaWeight(backend, name, format, parts.Sum(p => p.Rows),
            checked((int)columnShape.Aggregate(1L, (a, b) => checked(a * b))),
            format.IsQuantized() ? QuantizedLayout.DefaultGroupSize : 0);
        Keep(weight);
        ByteLength += weight.OwnedBytes;
        var arguments = new RandomWeightArguments { Weight = weight.Native, Format = format, Seed = SeedOf(name) };
        void* argument = &arguments;
        using var queue = backend.OpenQueue();
        backend.Check(CudaDriver.cuLaunchKernel(backend.Kernels.RandomWeight.Function, (uint)(BlocksEach * backend.Multiprocessors), 1, 1,
            Threads, 1, 1, 0, queue.Stream, &argument, null));
        queue.Synchronize();
        return weight;
    }

    protected override float[] Values(string name, params long[] shape)
    {
        float[] values = new float[checked((int)shape.Aggregate(1L, (a, b) => checked(a * b)))];
        RandomModelWriter.Fill(values, name, shape, SeedOf(name), 0, 0);
        ByteLength += values.Length * sizeof(float);
        return values;
    }

    /// <summary>FNV-1a, which starts from the seed.</summary>
    private ulong SeedOf(string name) => Encoding.UTF8.GetBytes(name)
        .Aggregate(0xCBF29CE484222325 ^ seed, (hash, b) => unchecked((hash ^ b) * 0x100000001B3));
}
