using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using static TorchSharp.torch;

namespace SamEngine.Training;

/// <summary>Named tensors in a safetensors file, replaced as a whole: a kill leaves the old one or the new one.</summary>
internal static class Checkpoint
{
    public static void Save(string path, IEnumerable<(string Name, Tensor Values)> tensors, TensorDType dtype = TensorDType.F32)
    {
        var list = tensors.ToList();
        string partial = path + ".partial";
        File.Delete(partial);
        using (var writer = new SafetensorsWriter(partial, [.. list.Select(t =>
            (t.Name, t.Values.shape.Length < 2 ? TensorDType.F32 : dtype, t.Values.shape))]))
        {
            foreach (var (name, values) in list)
            {
                using var scope = NewDisposeScope();
                writer.Begin(name);
                var flat = values.detach().contiguous().to(ScalarType.Float32);
                float[] data = flat.data<float>().ToArray();
                writer.Write(values.shape.Length < 2 || dtype == TensorDType.F32 ? MemoryMarshal.AsBytes<float>(data)
                    : MemoryMarshal.AsBytes<Half>([.. data.Select(v => (Half)v)]));
            }
            writer.Complete();
        }
        File.Move(partial, path, overwrite: true);
    }

    /// <summary>Copies the file's values into the tensors of the same names; <paramref name="all"/> demands one for each.</summary>
    public static void Load(string path, IEnumerable<(string Name, Tensor Values)> tensors, bool all = true)
    {
        using var file = SafetensorsFile.Open(path);
        using var off = no_grad();
        foreach (var (name, values) in tensors)
        {
            using var scope = NewDisposeScope();
            if (file.TryGet(name, out var stored))
            {
                values.copy_(tensor(stored.ToFloats()).reshape(stored.Shape.ToArray()));
            }
            else if (all)
            {
                throw new InvalidOperationException($"{path} has no '{name}'");
            }
        }
    }
}
