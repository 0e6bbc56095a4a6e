using SamEngine.Checkpoints;

namespace SamEngine.Testing;

/// <summary>A tensor to write: its bytes come in pieces.</summary>
internal sealed record TensorSource(string Name, TensorDType DType, long[] Shape, Func<IEnumerable<ReadOnlyMemory<byte>>> Bytes)
{
    /// <summary>A copy of a tensor under a name.</summary>
    public static TensorSource Of(string name, TensorData tensor) =>
        new(name, tensor.DType, [.. tensor.Shape], () => [tensor.Bytes.ToArray()]);

    public static TensorSource Of(string name, params float[] values) =>
        new(name, TensorDType.F32, [values.Length], () => [System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()).ToArray()]);
}

/// <summary>Writes files as torch.save does: a state dict, or one under <c>model</c>.</summary>
internal static class TorchFileWriter
{
    public static void Write(string path, IReadOnlyList<TensorSource> tensors, bool nested = false, bool zip64 = false)
    {
        string root = Path.GetFileNameWithoutExtension(path);
        using var zip = new StoredZip(path) { Zip64 = zip64 };
        zip.Add(root + "/data.pkl", Pickle(tensors, nested));
        zip.Add(root + "/byteorder", "little"u8);
        for (int i = 0; i < tensors.Count; i++)
        {
            zip.Begin($"{root}/data/{i}");
            foreach (var piece in tensors[i].Bytes())
            {
                zip.Write(piece.Span);
            }
            zip.End();
        }
        zip.Add(root + "/version", "3\n"u8);
    }

    private static byte[] Pickle(IReadOnlyList<TensorSource> tensors, bool nested)
    {
        var pickle = new PickleWriter().Protocol();
        if (nested)
        {
            pickle.Op('}').Op('(').Text("model");
        }
        pickle.Global("collections", "OrderedDict").Op(')').Op('R').Op('(');
        for (int i = 0; i < tensors.Count; i++)
        {
            var (name, type, shape, _) = tensors[i];
            long[] strides = new long[shape.Length];
            long count = 1;
            for (int d = shape.Length - 1; d >= 0; d--)
            {
                strides[d] = count;
                count *= shape[d];
            }
            pickle.Text(name).Tensor(PickleWriter.StorageType(type), $"{i}", count, 0, shape, strides);
        }
        pickle.Op('u');
        if (nested)
        {
            pickle.Op('u');
        }
        return pickle.Op('.').ToArray();
    }
}
