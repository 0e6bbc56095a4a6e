using System.Buffers.Binary;
using System.Text;
using SamEngine.Checkpoints;

namespace SamEngine.Testing;

/// <summary>Writes the opcodes of pickles, sound ones and others.</summary>
internal sealed class PickleWriter
{
    private readonly List<byte> _bytes = [];

    public byte[] ToArray() => [.. _bytes];

    /// <summary>Opcodes as they are.</summary>
    public PickleWriter Raw(params byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public PickleWriter Op(char opcode) => Raw((byte)opcode);

    public PickleWriter Protocol(byte version = 2) => Op('\x80').Raw(version);

    public PickleWriter Text(string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        return Op('X').Raw(Little(utf8.Length)).Raw(utf8);
    }

    public PickleWriter Global(string module, string name) =>
        Op('c').Raw(Encoding.ASCII.GetBytes($"{module}\n{name}\n"));

    /// <summary>A whole number of up to eight bytes.</summary>
    public PickleWriter Number(long value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return Op('\x8a').Raw(8).Raw(bytes);
    }

    public PickleWriter Numbers(IEnumerable<long> values)
    {
        Op('(');
        foreach (long value in values)
        {
            Number(value);
        }
        return Op('t');
    }

    /// <summary>The persistent id of a storage.</summary>
    public PickleWriter Storage(string type, string key, long elements) =>
        Op('(').Text("storage").Global("torch", type).Text(key).Text("cpu").Number(elements).Op('t').Op('Q');

    /// <summary>A tensor as torch.save describes it.</summary>
    public PickleWriter Tensor(string storageType, string key, long elements, long offset, long[] shape, long[] strides)
    {
        Global("torch._utils", "_rebuild_tensor_v2").Op('(').Storage(storageType, key, elements).Number(offset);
        Numbers(shape).Numbers(strides).Op('\x89');
        return Global("collections", "OrderedDict").Op(')').Op('R').Op('t').Op('R');
    }

    public static string StorageType(TensorDType type) => type switch
    {
        TensorDType.F32 => "FloatStorage",
        TensorDType.F16 => "HalfStorage",
        TensorDType.BF16 => "BFloat16Storage",
        TensorDType.F64 => "DoubleStorage",
        TensorDType.I64 => "LongStorage",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "not written"),
    };

    private static byte[] Little(int value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }
}
