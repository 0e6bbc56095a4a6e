using System.Text;
using SamEngine.Bench.MakeModel;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Bench.Tests;

/// <summary>What <c>make-model --format onnx</c> writes, read with a reader that knows nothing but protocol buffers. That ONNX
/// Runtime computes with it what the engine computes, <c>SamEngine.Peers check</c> shows.</summary>
public sealed class OnnxTests
{
    [Theory]
    [InlineData("f32")]
    [InlineData("int8")]
    public async Task Every_input_of_a_node_is_made_before_and_every_weight_lies_in_the_data_file(string type)
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        Assert.Equal(0, await GgufTests.MakeAsync(temp["vision.onnx"], "onnx", tiny.Folder, type));
        var model = Message.Parse(await File.ReadAllBytesAsync(temp["vision.onnx"], TestContext.Current.CancellationToken));
        byte[] data = await File.ReadAllBytesAsync(temp["vision.onnx.data"], TestContext.Current.CancellationToken);
        var graph = model.One(7);
        var known = new HashSet<string> { graph.One(11).Text(1) };
        foreach (var tensor in graph.All(5))
        {
            Assert.True(known.Add(tensor.Text(8)), tensor.Text(8));
            long count = tensor.Ints(1).Aggregate(1L, (a, b) => a * b);
            int size = tensor.Ints(2).Single() switch { 1 => 4, 3 => 1, 7 => 8, var other => throw new InvalidOperationException($"type {other}") };
            if (tensor.Ints(14) is [1])
            {
                var external = tensor.All(13).ToDictionary(p => p.Text(1), p => p.Text(2));
                Assert.Equal("vision.onnx.data", external["location"]);
                Assert.Equal(count * size, long.Parse(external["length"], null));
                Assert.Equal(0, long.Parse(external["offset"], null) % 64);
                Assert.InRange(long.Parse(external["offset"], null) + count * size, 1, data.Length);
            }
            else
            {
                Assert.Equal(count * size, tensor.Raw(9).Length);
            }
        }
        var operators = new List<string>();
        foreach (var node in graph.All(1))
        {
            Assert.All(node.Texts(1), input => Assert.Contains(input, known));
            Assert.All(node.Texts(2), output => Assert.True(known.Add(output), output));
            operators.Add(node.Text(4));
        }
        Assert.Contains(graph.One(12).Text(1), known);
        Assert.Equal(2, operators.Count(o => o == "MultiHeadAttention"));
        Assert.Equal(type == "int8" ? 8 : 0, operators.Count(o => o == "MatMulInteger"));
        Assert.Equal(type == "int8" ? 0 : 8, operators.Count(o => o == "MatMul"));
        Assert.Equal("2", model.All(14).ToDictionary(p => p.Text(1), p => p.Text(2))[OnnxVision.BlocksKey]);
    }

    [Fact]
    public async Task A_type_of_another_format_is_refused()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        await Assert.ThrowsAsync<CheckpointException>(() => GgufTests.MakeAsync(temp["x.onnx"], "onnx", tiny.Folder, "q4_0"));
        await Assert.ThrowsAsync<CheckpointException>(() => GgufTests.MakeAsync(temp["x.gguf"], "gguf", tiny.Folder, "int8"));
        Assert.Empty(Directory.EnumerateFiles(temp.Path));
    }

    /// <summary>The fields of one protocol-buffers message.</summary>
    private sealed class Message
    {
        private readonly List<(int Field, ulong Number, ReadOnlyMemory<byte> Bytes)> _fields = [];

        public static Message Parse(ReadOnlyMemory<byte> bytes)
        {
            var message = new Message();
            int at = 0;
            ulong Varint()
            {
                ulong value = 0;
                for (int shift = 0; ; shift += 7)
                {
                    byte b = bytes.Span[at++];
                    value |= (ulong)(b & 0x7F) << shift;
                    if (b < 0x80)
                    {
                        return value;
                    }
                }
            }
            while (at < bytes.Length)
            {
                ulong tag = Varint();
                switch (tag & 7)
                {
                    case 0:
                        message._fields.Add(((int)(tag >> 3), Varint(), default));
                        break;
                    case 2:
                        int length = (int)Varint();
                        message._fields.Add(((int)(tag >> 3), 0, bytes.Slice(at, length)));
                        at += length;
                        break;
                    case 5:
                        at += 4;
                        break;
                    default:
                        throw new InvalidDataException($"wire type {tag & 7}");
                }
            }
            return message;
        }

        public IReadOnlyList<Message> All(int field) => [.. Fields(field).Select(f => Parse(f.Bytes))];

        public Message One(int field) => Assert.Single(All(field));

        public long[] Ints(int field) => [.. Fields(field).Select(f => (long)f.Number)];

        public string[] Texts(int field) => [.. Fields(field).Select(f => Encoding.UTF8.GetString(f.Bytes.Span))];

        public string Text(int field) => Assert.Single(Texts(field));

        public byte[] Raw(int field) => Assert.Single(Fields(field)).Bytes.ToArray();

        private IEnumerable<(int Field, ulong Number, ReadOnlyMemory<byte> Bytes)> Fields(int field) => _fields.Where(f => f.Field == field);
    }
}
