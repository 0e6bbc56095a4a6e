using System.Globalization;
using System.Runtime.InteropServices;

namespace SamEngine.Bench.MakeModel;

/// <summary>Element types of ONNX tensors (<c>TensorProto.DataType</c>).</summary>
internal enum OnnxType
{
    Float = 1,
    UInt8 = 2,
    Int8 = 3,
    Int64 = 7,
}

/// <summary>Writes an ONNX model whose weights lie in a second file beside it (a protocol-buffers file holds at most 2 GB).
/// Field numbers are those of <c>onnx.proto3</c>.</summary>
internal sealed class OnnxGraph : IDisposable
{
    private const int IrVersion = 8;
    private const int Alignment = 64;
    private const string ContribDomain = "com.microsoft";
    private readonly string _path;
    private readonly FileStream _data;
    private readonly ProtobufWriter _graph = new();

    public OnnxGraph(string path)
    {
        _path = path;
        _data = File.Create(path + ".data");
    }

    /// <summary>A constant; returns its name.</summary>
    public string Constant<T>(string name, OnnxType type, ReadOnlySpan<T> values, params long[] shape)
        where T : unmanaged
    {
        _data.Write(new byte[(Alignment - _data.Position % Alignment) % Alignment]);
        var bytes = MemoryMarshal.AsBytes(values);
        long offset = _data.Position;
        _data.Write(bytes);
        long length = bytes.Length;
        _graph.Message(5, tensor =>
        {
            foreach (long size in shape)
            {
                tensor.Int(1, size);
            }
            tensor.Int(2, (int)type).Text(8, name);
            foreach (var (key, value) in (IEnumerable<(string, string)>)[("location", Path.GetFileName(_path) + ".data"),
                ("offset", offset.ToString(CultureInfo.InvariantCulture)), ("length", length.ToString(CultureInfo.InvariantCulture))])
            {
                tensor.Message(13, pair => pair.Text(1, key).Text(2, value));
            }
            tensor.Int(14, 1);
        });
        return name;
    }

    /// <summary>A small constant inside the model file, which shape inference needs to see.</summary>
    public string Inline(string name, params long[] values)
    {
        byte[] bytes = MemoryMarshal.AsBytes<long>(values).ToArray();
        _graph.Message(5, tensor => tensor.Int(1, values.Length).Int(2, (int)OnnxType.Int64).Text(8, name).Bytes(9, bytes));
        return name;
    }

    /// <summary>An operation with one output; returns the output's name.</summary>
    /// <param name="type">Operator.</param>
    /// <param name="output">Name of the output.</param>
    /// <param name="inputs">Names of the inputs.</param>
    /// <param name="attributes">Values: long, float or long[].</param>
    /// <param name="contrib">One of ONNX Runtime's own operators.</param>
    public string Node(string type, string output, string[] inputs, (string Name, object Value)[]? attributes = null, bool contrib = false)
    {
        Nodes(type, [output], inputs, attributes, contrib);
        return output;
    }

    public void Nodes(string type, string[] outputs, string[] inputs, (string Name, object Value)[]? attributes = null, bool contrib = false) =>
        _graph.Message(1, node =>
        {
            foreach (string input in inputs)
            {
                node.Text(1, input);
            }
            foreach (string output in outputs)
            {
                node.Text(2, output);
            }
            node.Text(3, outputs[0] + "/" + type).Text(4, type);
            foreach (var (name, value) in attributes ?? [])
            {
                node.Message(5, attribute => Attribute(attribute.Text(1, name), value));
            }
            if (contrib)
            {
                node.Text(7, ContribDomain);
            }
        });

    /// <summary>Names input and output and writes the model file.</summary>
    /// <param name="input">Name and shape; -1 is the batch.</param>
    /// <param name="output">Name and shape.</param>
    /// <param name="metadata">Notes that a reader of the model can ask for.</param>
    public void Complete((string Name, long[] Shape) input, (string Name, long[] Shape) output, params (string Key, string Value)[] metadata)
    {
        _graph.Text(2, "vision_encoder");
        _graph.Message(11, value => Value(value, input));
        _graph.Message(12, value => Value(value, output));
        var model = new ProtobufWriter().Int(1, IrVersion).Text(2, "SamEngine.Bench").Bytes(7, _graph.Written);
        model.Message(8, set => set.Text(1, "").Int(2, 17));
        model.Message(8, set => set.Text(1, ContribDomain).Int(2, 1));
        foreach (var (key, value) in metadata)
        {
            model.Message(14, pair => pair.Text(1, key).Text(2, value));
        }
        _data.Flush();
        using var file = File.Create(_path);
        file.Write(model.Written);
    }

    public void Dispose() => _data.Dispose();

    private static void Attribute(ProtobufWriter attribute, object value)
    {
        switch (value)
        {
            case float number:
                attribute.Float(2, number).Int(20, 1);
                break;
            case long number:
                attribute.Int(3, number).Int(20, 2);
                break;
            case long[] numbers:
                Array.ForEach(numbers, n => attribute.Int(8, n));
                attribute.Int(20, 7);
                break;
            default:
                throw new ArgumentException($"attribute of type {value.GetType()}", nameof(value));
        }
    }

    private static void Value(ProtobufWriter value, (string Name, long[] Shape) what) => value.Text(1, what.Name).Message(2, type =>
        type.Message(1, tensor => tensor.Int(1, (int)OnnxType.Float).Message(2, shape =>
        {
            foreach (long size in what.Shape)
            {
                shape.Message(1, dimension => _ = size < 0 ? dimension.Text(2, "batch") : dimension.Int(1, size));
            }
        })));
}
