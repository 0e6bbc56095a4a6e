using System.Buffers.Binary;
using System.Text;
using SamEngine.Checkpoints;

namespace SamEngine.Text;

/// <summary>A SentencePiece <c>tokenizer.model</c>: the fields of its protobuf that a BPE tokenizer needs, read with every
/// length checked.</summary>
internal sealed class SentencePieceModel
{
    private const int MostBytes = 64 << 20;
    private const int MostPieceBytes = 1024;

    public enum PieceType
    {
        Normal = 1,
        Unknown = 2,
        Control = 3,
        UserDefined = 4,
        Unused = 5,
        Byte = 6,
    }

    public readonly record struct Piece(string Text, float Score, PieceType Type);

    public List<Piece> Pieces { get; } = [];

    public bool AddDummyPrefix { get; private set; } = true;

    public bool RemoveExtraWhitespaces { get; private set; } = true;

    private int ModelType { get; set; } = 1;

    private bool HasNormalizer { get; set; }

    /// <exception cref="CheckpointException">Missing, damaged, or of a kind the engine does not compute.</exception>
    public static SentencePieceModel Load(string path)
    {
        byte[] bytes = SmallFile.Read(path, MostBytes);
        var model = new SentencePieceModel();
        var reader = new ProtoReader(bytes, path);
        while (reader.Next(out int field, out var payload, out _))
        {
            switch (field)
            {
                case 1:
                    model.Pieces.Add(ReadPiece(payload, path));
                    break;
                case 2:
                    model.ReadTrainer(payload, path);
                    break;
                case 3:
                    model.ReadNormalizer(payload, path);
                    break;
            }
        }
        model.Check(path);
        return model;
    }

    private static Piece ReadPiece(ReadOnlySpan<byte> message, string path)
    {
        string text = "";
        float score = 0;
        var type = PieceType.Normal;
        var reader = new ProtoReader(message, path);
        while (reader.Next(out int field, out var payload, out ulong value))
        {
            switch (field)
            {
                case 1:
                    if (payload.Length > MostPieceBytes)
                    {
                        throw new CheckpointException(path, $"a piece has {payload.Length} bytes");
                    }
                    text = Utf8(payload, path);
                    break;
                case 2:
                    score = BitConverter.UInt32BitsToSingle((uint)value);
                    break;
                case 3:
                    type = (PieceType)value;
                    break;
            }
        }
        return new Piece(text, score, type);
    }

    private void ReadTrainer(ReadOnlySpan<byte> message, string path)
    {
        var reader = new ProtoReader(message, path);
        while (reader.Next(out int field, out _, out ulong value))
        {
            if (field == 3)
            {
                ModelType = (int)Math.Min(value, 100);
            }
        }
    }

    private void ReadNormalizer(ReadOnlySpan<byte> message, string path)
    {
        var reader = new ProtoReader(message, path);
        while (reader.Next(out int field, out var payload, out ulong value))
        {
            switch (field)
            {
                case 2:
                    HasNormalizer = payload.Length > 0;
                    break;
                case 3:
                    AddDummyPrefix = value != 0;
                    break;
                case 4:
                    RemoveExtraWhitespaces = value != 0;
                    break;
            }
        }
    }

    private void Check(string path)
    {
        if (Pieces.Count < 4)
        {
            throw new CheckpointException(path, $"has {Pieces.Count} pieces: not a SentencePiece model, or damaged");
        }
        if (ModelType != 2)
        {
            throw new CheckpointException(path, $"is a SentencePiece model of type {ModelType}; expected BPE (2), as LLaMA's");
        }
        if (HasNormalizer || RemoveExtraWhitespaces)
        {
            throw new CheckpointException(path, "normalises its text; expected the identity normaliser without removal of " +
                "white space, as LLaMA's (spm_train --normalization_rule_name=identity --remove_extra_whitespaces=false)");
        }
        if (Pieces[0].Type != PieceType.Unknown || Pieces[1].Type != PieceType.Control
            || Pieces[2].Type != PieceType.Control)
        {
            throw new CheckpointException(path, "ids 0, 1, 2 are not unknown, start and end, as in LLaMA's model");
        }
        if (Pieces.Any(p => p.Type is PieceType.Unused or PieceType.UserDefined
            || p.Type < PieceType.Normal || p.Type > PieceType.Byte))
        {
            throw new CheckpointException(path, "has user-defined, unused or unknown kinds of pieces, which are not supported");
        }
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var piece in Pieces)
        {
            if (piece.Text.Length == 0 || !seen.Add(piece.Text) || !float.IsFinite(piece.Score))
            {
                throw new CheckpointException(path, $"piece '{piece.Text}' is empty, there twice, or without a finite score");
            }
        }
    }

    private static string Utf8(ReadOnlySpan<byte> bytes, string path)
    {
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException(path, "a piece is not UTF-8", e);
        }
    }

    /// <summary>Reads the fields of one protobuf message.</summary>
    private ref struct ProtoReader(ReadOnlySpan<byte> bytes, string path)
    {
        private ReadOnlySpan<byte> _rest = bytes;

        /// <summary>The next field: bytes for length-delimited ones, else the number.</summary>
        public bool Next(out int field, out ReadOnlySpan<byte> payload, out ulong value)
        {
            field = 0;
            payload = default;
            value = 0;
            if (_rest.IsEmpty)
            {
                return false;
            }
            ulong tag = VarInt();
            field = (int)Math.Min(tag >> 3, int.MaxValue);
            switch (tag & 7)
            {
                case 0:
                    value = VarInt();
                    return true;
                case 1:
                    value = BinaryPrimitives.ReadUInt64LittleEndian(Take(8));
                    return true;
                case 2:
                    payload = Take(VarInt());
                    return true;
                case 5:
                    value = BinaryPrimitives.ReadUInt32LittleEndian(Take(4));
                    return true;
                default:
                    throw Damaged();
            }
        }

        private ReadOnlySpan<byte> Take(ulong length)
        {
            if (length > (ulong)_rest.Length)
            {
                throw Damaged();
            }
            var taken = _rest[..(int)length];
            _rest = _rest[(int)length..];
            return taken;
        }

        private ulong VarInt()
        {
            ulong value = 0;
            for (int i = 0; i < 10; i++)
            {
                byte b = Take(1)[0];
                value |= (ulong)(b & 0x7F) << (7 * i);
                if (b < 0x80)
                {
                    return value;
                }
            }
            throw Damaged();
        }

        private readonly CheckpointException Damaged() =>
            new(path, "is not a SentencePiece model, or truncated or damaged");
    }
}
