using System.Runtime.InteropServices;
using BitMiracle.LibTiff.Classic;

namespace SamEngine.Imaging;

/// <summary>The first page of a TIFF, through LibTiff.NET: grey, palette, RGB and CMYK, in the compressions that lose nothing. Other
/// kinds are refused by name. As Pillow does for TIFF alone, the orientation tag is always applied.</summary>
internal static class TiffDecoder
{
    private static readonly Lock InstallLock = new();
    private static Collector? _collector;

    /// <summary>Decodes a file that starts with a TIFF signature.</summary>
    /// <exception cref="ImageFormatException">Damaged, over a limit, or of a kind that is not supported.</exception>
    public static PixelBuffer Decode(ReadOnlyMemory<byte> file, ImageLimits limits)
    {
        TiffDirectory.Validate(file.Span, limits);
        Collector.Begin();
        try
        {
            // LibTiff.NET takes an array.
            var bytes = MemoryMarshal.TryGetArray(file, out var segment) ? segment : new ArraySegment<byte>(file.ToArray());
            using var stream = new MemoryStream(bytes.Array!, bytes.Offset, bytes.Count, writable: false);
            using var tiff = Tiff.ClientOpen("TIFF", "r", stream, new TiffStream())
                ?? throw new ImageFormatException("has the signature of a TIFF file but no valid directory" + Collector.First());
            var page = Page.Read(tiff);
            // The library may see another entry of a tag that is there twice.
            ImageDecoder.CheckSize(page.Width, page.Height, limits);
            page.Validate(tiff);
            var pixels = new PixelBuffer(page.Width, page.Height);
            if (tiff.IsTiled())
            {
                ReadTiles(tiff, page, pixels);
            }
            else
            {
                ReadRows(tiff, page, pixels);
            }
            return Orientation.Apply(pixels, page.Orientation);
        }
        catch (Exception e) when (e is not (ImageFormatException or OutOfMemoryException))
        {
            // The library's own failures on damaged files are of many types.
            throw new ImageFormatException("the TIFF data is damaged: " + e.Message, e);
        }
        finally
        {
            Collector.End();
        }
    }

    private static void ReadRows(Tiff tiff, Page page, PixelBuffer pixels)
    {
        byte[] row = new byte[Math.Max(tiff.ScanlineSize(), page.BytesOf(page.Width))];
        for (int y = 0; y < page.Height; y++)
        {
            if (!tiff.ReadScanline(row, y))
            {
                throw new ImageFormatException($"the TIFF data ends or is damaged in row {y}" + Collector.First());
            }
            page.Unpack(row, page.Width, pixels.Bytes[(y * pixels.RowBytes)..]);
        }
    }

    private static void ReadTiles(Tiff tiff, Page page, PixelBuffer pixels)
    {
        byte[] tile = new byte[Math.Max(tiff.TileSize(), (long)page.BytesOf(page.TileWidth) * page.TileHeight)];
        int tileRowBytes = tiff.TileRowSize();
        for (int top = 0; top < page.Height; top += page.TileHeight)
        {
            for (int left = 0; left < page.Width; left += page.TileWidth)
            {
                if (tiff.ReadTile(tile, 0, left, top, 0, 0) < 0)
                {
                    throw new ImageFormatException($"the TIFF data ends or is damaged in the tile at ({left}, {top})" +
                        Collector.First());
                }
                int rows = Math.Min(page.TileHeight, page.Height - top);
                int columns = Math.Min(page.TileWidth, page.Width - left);
                for (int y = 0; y < rows; y++)
                {
                    page.Unpack(tile.AsSpan(y * tileRowBytes), columns,
                        pixels.Bytes[(((top + y) * pixels.RowBytes) + (left * 4))..]);
                }
            }
        }
    }

    /// <summary>What the tags of a page say.</summary>
    private sealed class Page
    {
        private Photometric _photometric;
        private int _bits;
        private int _samples;
        private byte[] _palette = [];

        public int Width { get; private init; }

        public int Height { get; private init; }

        public int TileWidth { get; private init; }

        public int TileHeight { get; private init; }

        public int Orientation { get; private init; }

        public static Page Read(Tiff tiff)
        {
            int Tag(TiffTag tag, int otherwise) =>
                tiff.GetFieldDefaulted(tag) is { Length: > 0 } value ? value[0].ToInt() : otherwise;

            return new Page
            {
                Width = Tag(TiffTag.IMAGEWIDTH, 0),
                Height = Tag(TiffTag.IMAGELENGTH, 0),
                TileWidth = Tag(TiffTag.TILEWIDTH, 0),
                TileHeight = Tag(TiffTag.TILELENGTH, 0),
                Orientation = Tag(TiffTag.ORIENTATION, 1),
                _photometric = (Photometric)Tag(TiffTag.PHOTOMETRIC, -1),
                _bits = Tag(TiffTag.BITSPERSAMPLE, 1),
                _samples = Tag(TiffTag.SAMPLESPERPIXEL, 1),
            };
        }

        /// <summary>Refuses what is not supported.</summary>
        public void Validate(Tiff tiff)
        {
            var compression = (Compression)tiff.GetFieldDefaulted(TiffTag.COMPRESSION)[0].ToInt();
            if (compression is not (Compression.NONE or Compression.LZW or Compression.DEFLATE
                or Compression.ADOBE_DEFLATE or Compression.PACKBITS or Compression.CCITTRLE
                or Compression.CCITTFAX3 or Compression.CCITTFAX4))
            {
                throw Unsupported($"compression {compression}");
            }
            bool supported = _photometric switch
            {
                Photometric.MINISBLACK => (_bits is 1 or 2 or 4 or 8 or 16 && _samples == 1) || (_bits == 8 && _samples == 2),
                Photometric.MINISWHITE or Photometric.PALETTE => _bits is 1 or 2 or 4 or 8 && _samples == 1,
                Photometric.RGB => _bits is 8 or 16 && _samples is >= 3 and <= 6,
                Photometric.SEPARATED => _bits == 8 && _samples is >= 4 and <= 6,
                _ => false,
            };
            var format = (SampleFormat)tiff.GetFieldDefaulted(TiffTag.SAMPLEFORMAT)[0].ToInt();
            if (!supported || format != SampleFormat.UINT)
            {
                throw Unsupported($"photometric {_photometric}, {_samples} x {_bits} bits, sample format {format}");
            }
            if (_samples > 1 && (PlanarConfig)tiff.GetFieldDefaulted(TiffTag.PLANARCONFIG)[0].ToInt() != PlanarConfig.CONTIG)
            {
                throw Unsupported("separate colour planes");
            }
            if (tiff.GetField(TiffTag.EXTRASAMPLES) is { Length: > 1 } extra && extra[0].ToInt() > 0 &&
                extra[1].ToByteArray()[0] == (byte)ExtraSample.ASSOCALPHA)
            {
                throw Unsupported("premultiplied alpha");
            }
            if (_photometric == Photometric.PALETTE)
            {
                var map = tiff.GetField(TiffTag.COLORMAP) is { Length: >= 3 } value
                    ? value
                    : throw new ImageFormatException("the TIFF needs a palette and has none (no ColorMap tag)");
                _palette = new byte[3 << _bits];
                for (int c = 0; c < 3; c++)
                {
                    short[] levels = map[c].ToShortArray();
                    for (int i = 0; i < 1 << _bits; i++)
                    {
                        _palette[(3 * i) + c] = (byte)((ushort)levels[i] >> 8);
                    }
                }
            }
        }

        /// <summary>Bytes of so many pixels.</summary>
        public int BytesOf(int pixels) => checked((int)((((long)pixels * _samples * _bits) + 7) / 8));

        /// <summary>From stored samples, in this machine's byte order, to R, G, B and 255.</summary>
        public void Unpack(ReadOnlySpan<byte> from, int pixels, Span<byte> to)
        {
            from = from[..BytesOf(pixels)];
            var words = MemoryMarshal.Cast<byte, ushort>(from);
            int most = (1 << _bits) - 1;
            for (int i = 0; i < pixels; i++, to = to[4..])
            {
                to[3] = 255;
                int at = i * _samples;
                switch (_photometric)
                {
                    case Photometric.RGB when _bits == 16:
                        (to[0], to[1], to[2]) = ((byte)(words[at] >> 8), (byte)(words[at + 1] >> 8), (byte)(words[at + 2] >> 8));
                        break;
                    case Photometric.RGB:
                        from.Slice(at, 3).CopyTo(to);
                        break;
                    case Photometric.SEPARATED:
                        int paper = 255 - from[at + 3];
                        for (int c = 0; c < 3; c++)
                        {
                            to[c] = (byte)(paper - MultiplyDivide255(from[at + c], paper));
                        }
                        break;
                    case Photometric.MINISBLACK when _bits == 16:
                        // Clipped, as Pillow converts 16-bit grey.
                        to[..3].Fill((byte)Math.Min((int)words[at], 255));
                        break;
                    default:
                        int bit = at * _bits;
                        int sample = (from[bit >> 3] >> (8 - _bits - (bit & 7))) & most;
                        if (_photometric == Photometric.PALETTE)
                        {
                            _palette.AsSpan(3 * sample, 3).CopyTo(to);
                        }
                        else
                        {
                            int level = _photometric == Photometric.MINISWHITE ? most - sample : sample;
                            to[..3].Fill((byte)(level * 255 / most));
                        }
                        break;
                }
            }
        }

        /// <summary>a * b / 255, rounded.</summary>
        private static int MultiplyDivide255(int a, int b)
        {
            int t = (a * b) + 128;
            return ((t >> 8) + t) >> 8;
        }

        private static ImageFormatException Unsupported(string what) =>
            new($"is a TIFF with {what}, which is not supported") { Advice = "convert it to PNG or an RGB TIFF" };
    }

    /// <summary>LibTiff.NET knows one error handler for the whole process, which prints by default. This one keeps the messages
    /// of the thread that decodes here and leaves all others to the handler that was there before.</summary>
    private sealed class Collector : TiffErrorHandler
    {
        [ThreadStatic]
        private static string? _first;

        [ThreadStatic]
        private static bool _active;

        private readonly TiffErrorHandler _others;

        private Collector(TiffErrorHandler others)
        {
            _others = others;
        }

        public static void Begin()
        {
            lock (InstallLock)
            {
                if (_collector is null)
                {
                    var previous = Tiff.SetErrorHandler(new TiffErrorHandler());
                    _collector = new Collector(previous ?? new TiffErrorHandler());
                    Tiff.SetErrorHandler(_collector);
                }
            }
            (_first, _active) = (null, true);
        }

        public static void End() => (_first, _active) = (null, false);

        /// <summary>": " and the first error of this thread, or nothing.</summary>
        public static string First() => _first is null ? "" : ": " + _first;

        public override void ErrorHandler(Tiff tif, string method, string format, params object[] args)
        {
            if (_active)
            {
                _first ??= string.Format(System.Globalization.CultureInfo.InvariantCulture, format, args);
            }
            else
            {
                _others.ErrorHandler(tif, method, format, args);
            }
        }

        public override void WarningHandler(Tiff tif, string method, string format, params object[] args)
        {
            if (!_active)
            {
                _others.WarningHandler(tif, method, format, args);
            }
        }
    }
}
