using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace SamEngine.Checkpoints;

/// <summary>
/// Reads the pickles that torch.save writes and executes nothing: a fixed set of opcodes builds plain containers, and the
/// few names that describe tensors are recognised as data. Any other name or call becomes a <see cref="Refused"/> value that
/// is carried along and named if it stands where a tensor is needed.
/// </summary>
internal sealed class PickleReader
{
    private const int MostOperations = 50_000_000;
    private const int MostDepth = 1_000_000;
    private const int MostMemo = 10_000_000;
    private const int MostStringBytes = 1 << 24;

    private readonly byte[] _bytes;
    private readonly string _path;
    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly Dictionary<int, object?> _memo = [];
    private int _at;

    private PickleReader(byte[] bytes, string path)
    {
        _bytes = bytes;
        _path = path;
    }

    /// <summary>A storage that a persistent id names.</summary>
    public sealed record Storage(TensorDType? DType, string TypeName, string Key, long Elements);

    /// <summary>A tensor: a strided view of a storage, in elements.</summary>
    public sealed record Tensor(Storage Storage, long Offset, long[] Shape, long[] Strides);

    /// <summary>Something the reader does not make: a class, a function, the result of a call.</summary>
    public sealed record Refused(string Name);

    /// <summary>A dictionary in its order; keys that are not texts are kept by their text.</summary>
    public sealed class Map
    {
        public Dictionary<string, object?> Entries { get; } = new(StringComparer.Ordinal);
    }

    private sealed record Global(string Module, string Name)
    {
        public string Full => Module + "." + Name;
    }

    private sealed record TupleValue(object?[] Items);

    private sealed record ListValue(List<object?> Items);

    /// <summary>Reads one pickle.</summary>
    /// <exception cref="CheckpointException">An opcode outside the set, or a stack that does not work out.</exception>
    public static object? Read(byte[] bytes, string path)
    {
        var reader = new PickleReader(bytes, path);
        try
        {
            return reader.Run();
        }
        catch (Exception e) when (e is ArgumentOutOfRangeException or InvalidCastException or IndexOutOfRangeException
            or OverflowException or FormatException)
        {
            throw reader.Wrong("is damaged: " + e.Message);
        }
    }

    private object? Run()
    {
        for (int operations = 0; operations < MostOperations; operations++)
        {
            byte opcode = Byte();
            switch ((char)opcode)
            {
                case '\x80':
                    if (Byte() is var protocol and > 5)
                    {
                        throw Wrong($"uses pickle protocol {protocol}, expected at most 5");
                    }
                    break;
                case '\x95':
                    Take(8);
                    break;
                case '.':
                    return Pop();
                case '(':
                    if (_marks.Count >= MostDepth)
                    {
                        throw Wrong("is damaged: its marks grow without end");
                    }
                    _marks.Add(_stack.Count);
                    break;
                case '0':
                    Pop();
                    break;
                case '1':
                    PopToMark();
                    break;
                case '2':
                    Push(_stack[^1]);
                    break;
                case 'N':
                    Push(null);
                    break;
                case '\x88':
                    Push(true);
                    break;
                case '\x89':
                    Push(false);
                    break;
                case 'J':
                    Push((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4)));
                    break;
                case 'K':
                    Push((long)Byte());
                    break;
                case 'M':
                    Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2)));
                    break;
                case '\x8a':
                    Push(Long(Byte()));
                    break;
                case '\x8b':
                    Push(Long(Length32()));
                    break;
                case 'G':
                    Push(BinaryPrimitives.ReadDoubleBigEndian(Take(8)));
                    break;
                case 'I':
                    Push(LineNumber());
                    break;
                case 'F':
                    Push(double.Parse(Line(), System.Globalization.CultureInfo.InvariantCulture));
                    break;
                case 'X':
                    Push(Text(Length32()));
                    break;
                case '\x8c':
                    Push(Text(Byte()));
                    break;
                case '\x8d':
                    Push(Text(Length64()));
                    break;
                case 'C':
                case 'U':
                    Push(new Refused($"{Take(Byte()).Length} bytes"));
                    break;
                case 'B':
                case 'T':
                    Push(new Refused($"{Take(Length32()).Length} bytes"));
                    break;
                case ')':
                    Push(new TupleValue([]));
                    break;
                case '\x85':
                case '\x86':
                case '\x87':
                    int count = opcode - 0x84;
                    if (_stack.Count < count)
                    {
                        throw Wrong("is damaged: the stack is empty");
                    }
                    object?[] items = [.. _stack[^count..]];
                    _stack.RemoveRange(_stack.Count - count, count);
                    Push(new TupleValue(items));
                    break;
                case 't':
                    Push(new TupleValue([.. PopToMark()]));
                    break;
                case ']':
                    Push(new ListValue([]));
                    break;
                case 'l':
                    Push(new ListValue(PopToMark()));
                    break;
                case 'a':
                    object? item = Pop();
                    (_stack[^1] as ListValue)?.Items.Add(item);
                    break;
                case 'e':
                    var many = PopToMark();
                    (_stack[^1] as ListValue)?.Items.AddRange(many);
                    break;
                case '}':
                    Push(new Map());
                    break;
                case 'd':
                    var pairs = PopToMark();
                    var map = new Map();
                    SetItems(map, pairs);
                    Push(map);
                    break;
                case 's':
                    object? value = Pop();
                    object? key = Pop();
                    SetItems(_stack[^1], [key, value]);
                    break;
                case 'u':
                    var entries = PopToMark();
                    SetItems(_stack[^1], entries);
                    break;
                case '\x8f':
                    Push(new ListValue([]));
                    break;
                case '\x90':
                    PopToMark();
                    break;
                case '\x91':
                    PopToMark();
                    Push(new Refused("frozenset"));
                    break;
                case 'q':
                    Memo(Byte());
                    break;
                case 'r':
                    Memo(Length32());
                    break;
                case 'p':
                    Memo(checked((int)LineNumber()));
                    break;
                case '\x94':
                    Memo(_memo.Count);
                    break;
                case 'h':
                    Push(Recall(Byte()));
                    break;
                case 'j':
                    Push(Recall(Length32()));
                    break;
                case 'g':
                    Push(Recall(checked((int)LineNumber())));
                    break;
                case 'c':
                    Push(new Global(Line(), Line()));
                    break;
                case '\x93':
                    object? name = Pop();
                    object? module = Pop();
                    Push(new Global(module as string ?? "?", name as string ?? "?"));
                    break;
                case 'Q':
                    Push(Persistent(Pop()));
                    break;
                case 'R':
                    object? arguments = Pop();
                    Push(Call(Pop(), arguments));
                    break;
                case 'b':
                    Pop(); // the state of an object: attributes we do not keep (OrderedDict's _metadata, hooks)
                    break;
                case '\x81':
                    Pop();
                    Push(new Refused("an object of " + Name(Pop())));
                    break;
                case '\x92':
                    Pop();
                    Pop();
                    Push(new Refused("an object of " + Name(Pop())));
                    break;
                default:
                    throw Wrong($"uses pickle opcode 0x{opcode:x2} at byte {_at - 1}, which is not one that tensors need");
            }
        }
        throw Wrong($"does not end within {MostOperations} operations");
    }

    /// <summary>What a value is called in errors; cut, since names of nested calls grow with each of them.</summary>
    private static string Name(object? value)
    {
        const int Most = 200;
        string name = value switch
        {
            Global g => g.Full,
            Refused r => r.Name,
            _ => value?.GetType().Name ?? "None",
        };
        return name.Length > Most ? name[..Most] + "…" : name;
    }

    /// <summary>The calls that torch.save uses to describe tensors; nothing is called, their arguments are read.</summary>
    private static object? Call(object? function, object? arguments)
    {
        if (function is not Global global || arguments is not TupleValue { Items: var a })
        {
            return new Refused("a call of " + Name(function));
        }
        switch (global.Full)
        {
            case "collections.OrderedDict":
                var map = new Map();
                if (a.Length == 1 && a[0] is ListValue list)
                {
                    foreach (object? pair in list.Items)
                    {
                        if (pair is TupleValue { Items.Length: 2 } p)
                        {
                            SetItems(map, [p.Items[0], p.Items[1]]);
                        }
                    }
                }
                return map;
            case "torch._utils._rebuild_tensor_v2" when a.Length >= 4 && a[0] is Storage storage && a[1] is long offset
                && Numbers(a[2]) is { } shape && Numbers(a[3]) is { } strides:
                return new Tensor(storage, offset, shape, strides);
            case "torch._utils._rebuild_parameter" when a.Length >= 1:
                return a[0];
            case "torch._utils._rebuild_parameter_with_state" when a.Length >= 1:
                return a[0];
            case "torch.Size" when a.Length == 1:
                return a[0] is ListValue sizes ? new TupleValue([.. sizes.Items]) : a[0];
            default:
                return new Refused("a call of " + global.Full);
        }
    }

    private static long[]? Numbers(object? value) =>
        value is TupleValue { Items: var items } && items.Length <= 64 && items.All(i => i is long)
            ? [.. items.Select(i => (long)i!)] : null;

    private static object? Persistent(object? id)
    {
        if (id is TupleValue { Items: ["storage", Global type, string key, _, long elements, ..] } && elements >= 0)
        {
            return new Storage(StorageType(type), type.Full, key, elements);
        }
        return new Refused("a persistent id that is not a storage");
    }

    private static TensorDType? StorageType(Global type) => type.Module is not ("torch" or "torch.storage") ? null
        : type.Name switch
        {
            "FloatStorage" => TensorDType.F32,
            "HalfStorage" => TensorDType.F16,
            "BFloat16Storage" => TensorDType.BF16,
            "DoubleStorage" => TensorDType.F64,
            "LongStorage" => TensorDType.I64,
            "IntStorage" => TensorDType.I32,
            "ShortStorage" => TensorDType.I16,
            "CharStorage" => TensorDType.I8,
            "ByteStorage" => TensorDType.U8,
            "BoolStorage" => TensorDType.Bool,
            _ => null,
        };

    private static void SetItems(object? target, List<object?> pairs)
    {
        if (target is not Map map)
        {
            return; // items of something refused are refused with it
        }
        for (int i = 0; i + 1 < pairs.Count; i += 2)
        {
            string key = pairs[i] switch
            {
                string text => text,
                long number => number.ToString(System.Globalization.CultureInfo.InvariantCulture),
                _ => $"({Name(pairs[i])} {i})",
            };
            map.Entries[key] = pairs[i + 1];
        }
    }

    private void Push(object? value)
    {
        if (_stack.Count >= MostDepth)
        {
            throw Wrong("is damaged: its stack grows without end");
        }
        _stack.Add(value);
    }

    private object? Pop()
    {
        int floor = _marks.Count > 0 ? _marks[^1] : 0;
        if (_stack.Count <= floor)
        {
            throw Wrong("is damaged: it takes more from the stack than there is");
        }
        object? value = _stack[^1];
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private List<object?> PopToMark()
    {
        if (_marks.Count == 0)
        {
            throw Wrong("is damaged: a mark is missing");
        }
        int mark = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        var items = _stack[mark..];
        _stack.RemoveRange(mark, _stack.Count - mark);
        return items;
    }

    private void Memo(int index)
    {
        if (_memo.Count >= MostMemo || _stack.Count == 0)
        {
            throw Wrong("is damaged: its memo grows without end");
        }
        _memo[index] = _stack[^1];
    }

    private object? Recall(int index) => _memo.TryGetValue(index, out object? value) ? value
        : throw Wrong($"is damaged: memo entry {index} was never written");

    private byte Byte() => Take(1)[0];

    private ReadOnlySpan<byte> Take(int length)
    {
        if (length < 0 || length > _bytes.Length - _at)
        {
            throw Wrong("ends in the middle of a value");
        }
        _at += length;
        return _bytes.AsSpan(_at - length, length);
    }

    private int Length32()
    {
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(Take(4));
        return length <= int.MaxValue ? (int)length : throw Wrong($"declares a value of {length} bytes");
    }

    private int Length64()
    {
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(Take(8));
        return length <= int.MaxValue ? (int)length : throw Wrong($"declares a value of {length} bytes");
    }

    private string Text(int length)
    {
        if (length > MostStringBytes)
        {
            throw Wrong($"declares a text of {length} bytes");
        }
        return Encoding.UTF8.GetString(Take(length));
    }

    private string Line()
    {
        int end = _bytes.AsSpan(_at).IndexOf((byte)'\n');
        if (end is < 0 or > MostStringBytes)
        {
            throw Wrong("ends in the middle of a line");
        }
        string text = Encoding.UTF8.GetString(Take(end));
        Take(1);
        return text;
    }

    private long LineNumber() => long.TryParse(Line().TrimEnd('L'), System.Globalization.NumberStyles.AllowLeadingSign,
        System.Globalization.CultureInfo.InvariantCulture, out long value) ? value : throw Wrong("holds a damaged number");

    private object Long(int length)
    {
        if (length > 1024)
        {
            throw Wrong($"declares a number of {length} bytes");
        }
        var value = new BigInteger(Take(length));
        return value >= long.MinValue && value <= long.MaxValue ? (long)value : new Refused("a very large number");
    }

    private CheckpointException Wrong(string message) => new(_path, "its pickle " + message);
}
