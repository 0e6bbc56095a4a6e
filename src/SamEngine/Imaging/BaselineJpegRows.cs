using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.Intrinsics.X86;

namespace SamEngine.Imaging;

/// <summary>Decodes JPEGs of the most frequent kind with vector instructions, to the bits of libjpeg-turbo (SkiaSharp's is built
/// without its own), one row of blocks at a time. Where the data is not in order, SkiaSharp takes over from the same row on and has the
/// last word.</summary>
internal sealed class BaselineJpegRows : PixelSource
{
    private const int Block = 8;

    private readonly ReadOnlyMemory<byte> _file;
    private readonly BaselineJpeg _jpeg;
    private readonly SkiaDecoder _decoder;
    private readonly short[] _blocks = new short[2 * Block * Block];
    private readonly int[] _last = new int[3];
    private readonly int _unitsAcross;
    private readonly int _unitsDown;

    /// <summary>Samples from one row of each component to the next.</summary>
    private readonly int[] _strides = new int[3];

    /// <summary>Where each component begins in <see cref="_planes"/>: a row kept from the blocks before, then rows of blocks.</summary>
    private readonly int[] _starts = new int[3];

    /// <summary>Where a block may go that nobody looks at.</summary>
    private readonly int _nowhere;

    private EntropyReader _reader;
    private PixelSource? _other;
    private byte[]? _planes;
    private byte[]? _pixels;
    private short[]? _colour;
    private int _unitRow;
    private int _row;
    private int _untilRestart;
    private int _restarts;
    private Waiting? _waiting;

    [SetsRequiredMembers]
    private BaselineJpegRows(ReadOnlyMemory<byte> file, BaselineJpeg jpeg, SkiaDecoder decoder)
    {
        (Width, Height) = (jpeg.Width, jpeg.Height);
        (_file, _jpeg, _decoder) = (file, jpeg, decoder);
        _reader = new EntropyReader(jpeg.DataStart);
        _untilRestart = jpeg.RestartInterval;
        _unitsAcross = ((Width - 1) / (Block * jpeg.Shared.Right)) + 1;
        _unitsDown = ((Height - 1) / (Block * jpeg.Shared.Down)) + 1;
        for (int i = 0, at = 0; i < jpeg.Components.Length; i++)
        {
            var (right, down) = BlocksOf(i);
            _strides[i] = _unitsAcross * right * Block;
            _starts[i] = at;
            at = checked(at + (_strides[i] * ((down * Block) + 1)));
            _nowhere = at;
        }
    }

    /// <summary>Takes over the decoder, whose file this is.</summary>
    public static PixelSource Open(ReadOnlyMemory<byte> file, SkiaDecoder decoder) =>
        Avx2.IsSupported && BaselineJpeg.Parse(file.Span) is { } jpeg && (jpeg.Width, jpeg.Height) == (decoder.Width, decoder.Height)
            ? new BaselineJpegRows(file, jpeg, decoder)
            : decoder.ReadRows();

    /// <inheritdoc/>
    public override ReadOnlySpan<byte> NextRows()
    {
        if (_other is not null)
        {
            return _other.NextRows();
        }
        if (_row == Height)
        {
            throw new InvalidOperationException("no rows are left");
        }
        Rent();
        if (!DecodeUnits())
        {
            Return();
            _other = _decoder.ReadRows(skip: _row);
            return _other.NextRows();
        }
        int unitHeight = Block * _jpeg.Shared.Down, unitTop = _unitRow * unitHeight;
        bool isLast = _unitRow + 1 == _unitsDown;
        // The last row of a unit waits for the colour below it.
        int end = isLast ? Height : unitTop + unitHeight - (_jpeg.Shared.Down - 1);
        int count = 0, rowBytes = RowBytes;
        for (; _row < end; _row++, count++)
        {
            ToPixels(_row - unitTop, _pixels.AsSpan(count * rowBytes));
        }
        for (int i = 0; i < _jpeg.Components.Length; i++)
        {
            int rows = BlocksOf(i).Down * Block;
            Row(i, rows - 1)[.._strides[i]].CopyTo(Row(i, -1));
        }
        _unitRow++;
        return _pixels.AsSpan(0, count * rowBytes);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        Return();
        if (_other is not null)
        {
            _other.Dispose();
        }
        else
        {
            _decoder.Dispose();
        }
    }

    private (int Right, int Down) BlocksOf(int component) => component == 0 ? _jpeg.Shared : (1, 1);

    /// <summary>From a row of a component on; -1 is the row kept from the unit above.</summary>
    private Span<byte> Row(int component, int row) => _planes.AsSpan(_starts[component] + ((row + 1) * _strides[component]));

    private void Rent()
    {
        if (_planes is null)
        {
            _planes = ArrayPool<byte>.Shared.Rent(checked(_nowhere + (Block * Block) + YccRows.Slack));
            int rows = Math.Min(Height, (Block * _jpeg.Shared.Down) + 1);
            _pixels = ArrayPool<byte>.Shared.Rent(checked((rows * RowBytes) + YccRows.Slack));
            _colour = ArrayPool<short>.Shared.Rent(checked(3 * (Width + 2 + YccRows.Slack)));
        }
    }

    private void Return()
    {
        if (_planes is not null)
        {
            ArrayPool<byte>.Shared.Return(_planes);
            ArrayPool<byte>.Shared.Return(_pixels!);
            ArrayPool<short>.Shared.Return(_colour!);
            (_planes, _pixels, _colour) = (null, null, null);
        }
    }

    /// <summary>Decodes the next row of units; false where the data is not in order.</summary>
    private bool DecodeUnits()
    {
        var file = _file.Span;
        Array.Clear(_blocks);
        _waiting = null;
        for (int unit = 0; unit < _unitsAcross; unit++)
        {
            if (_jpeg.RestartInterval > 0 && _untilRestart-- == 0)
            {
                const int firstRestart = 0xd0;
                if (!_reader.TryPass(file, (byte)(firstRestart + (_restarts++ & 7))))
                {
                    return false;
                }
                Array.Clear(_last);
                _untilRestart = _jpeg.RestartInterval - 1;
            }
            for (int i = 0; i < _jpeg.Components.Length; i++)
            {
                var (right, down) = BlocksOf(i);
                var component = _jpeg.Components[i];
                for (int y = 0; y < down; y++)
                {
                    for (int x = 0; x < right; x++)
                    {
                        var block = _blocks.AsSpan(_waiting is null ? 0 : Block * Block, Block * Block);
                        if (!_reader.ReadBlock(file, component, ref _last[i], block))
                        {
                            return false;
                        }
                        int at = _starts[i] + (((y * Block) + 1) * _strides[i]) + (((unit * right) + x) * Block);
                        Transform(new Waiting(component.Quantisation, at, _strides[i]));
                    }
                }
            }
        }
        if (_waiting is not null)
        {
            Transform(new Waiting(_jpeg.Components[0].Quantisation, _nowhere, Block));
        }
        const byte endOfImage = 0xd9;
        return _reader.IsInsideData && (_unitRow + 1 < _unitsDown || _reader.TryPass(file, endOfImage));
    }

    /// <summary>Blocks are transformed in pairs.</summary>
    private void Transform(Waiting block)
    {
        if (_waiting is { } first)
        {
            InverseDct.TransformTwo(_blocks, first.Steps, block.Steps, _planes, first.At, first.Stride, block.At, block.Stride);
            _waiting = null;
        }
        else
        {
            _waiting = block;
        }
    }

    /// <summary>One row of pixels.</summary>
    /// <param name="row">Counted from the top of the unit row just decoded; -1 is the last one of the row before.</param>
    /// <param name="target">From its first pixel on.</param>
    private void ToPixels(int row, Span<byte> target)
    {
        var y = Row(0, row);
        if (_jpeg.Components.Length == 1)
        {
            YccRows.ToPixels(y, target, Width);
            return;
        }
        int third = Width + 2 + YccRows.Slack;
        var cb = _colour.AsSpan(third);
        var cr = _colour.AsSpan(2 * third);
        Colour(1, row, cb);
        Colour(2, row, cr);
        int first = _jpeg.Shared.Right == 1 ? 1 : 0;
        YccRows.ToPixels(y, cb[first..], cr[first..], target, Width);
    }

    /// <summary>One row of colour, as fine as the pixels; from position 1 on where it was stored so.</summary>
    private void Colour(int component, int row, Span<short> target)
    {
        if (_jpeg.Shared.Right == 1)
        {
            YccRows.Copy(Row(component, row), target, Width);
            return;
        }
        int width = (Width + 1) / 2;
        var sums = _colour.AsSpan();
        bool blended = _jpeg.Shared.Down == 2;
        if (blended)
        {
            int near = row >> 1, far = (row & 1) == 0 ? near - 1 : near + 1;
            // Above the first row and below the last one: itself.
            int top = _unitRow * Block;
            far = Math.Clamp(top + far, 0, (Height - 1) / 2) - top;
            YccRows.Blend(Row(component, near), Row(component, far), sums, width);
        }
        else
        {
            YccRows.Copy(Row(component, row), sums, width);
        }
        YccRows.Double(sums, width, blended, target);
    }

    /// <summary>A block that has been read.</summary>
    private readonly record struct Waiting(short[] Steps, int At, int Stride);
}
