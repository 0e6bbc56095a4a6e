using SkiaSharp;

namespace SamEngine.Bench.Compare;

/// <summary>The comparison as a picture: a panel for each item, a bar for each contender's median, a line from the least to
/// the most of its rounds. Panels have scales of their own; times stand beside the bars.</summary>
internal sealed class ComparisonChart : IDisposable
{
    private const string FontPath = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
    private const int Width = 1100;
    private const int NameWidth = 330;
    private const int TimeWidth = 240;
    private const int RowHeight = 24;
    private const int TitleHeight = 34;
    private const int Margin = 20;

    private static readonly SKColor s_own = new(0x1F, 0x77, 0xB4);
    private static readonly SKColor s_peer = new(0xB8, 0xB8, 0xB8);
    private static readonly SKColor s_ink = new(0x22, 0x22, 0x22);

    private readonly SKTypeface _typeface;

    /// <exception cref="ContenderException">The font is missing.</exception>
    public ComparisonChart()
    {
        _typeface = SKTypeface.FromFile(FontPath)
            ?? throw new ContenderException("--chart", $"needs {FontPath}; install Debian's fonts-dejavu-core, or leave --chart out");
    }

    /// <returns>The bytes of a PNG.</returns>
    public byte[] Draw(IReadOnlyList<Series> series, IReadOnlyCollection<string> own)
    {
        var panels = WorkItems.All.Select(i => (Item: i, Bars: series.Where(s => s.Item == i.Name).OrderBy(s => s.Seconds.Median).ToList()))
            .Where(p => p.Bars.Count > 0).ToList();
        int height = 2 * Margin + panels.Sum(p => TitleHeight + p.Bars.Count * RowHeight + Margin);
        using var bitmap = new SKBitmap(new SKImageInfo(Width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using var canvas = new SKCanvas(bitmap);
        canvas.Clear(SKColors.White);
        float y = Margin;
        using var title = new SKFont(_typeface, 16);
        using var text = new SKFont(_typeface, 13);
        using var ink = new SKPaint { Color = s_ink, IsAntialias = true };
        foreach (var (item, bars) in panels)
        {
            canvas.DrawText(item.Title, Margin, y + 18, title, ink);
            y += TitleHeight;
            double longest = bars.Max(b => b.Seconds.Most);
            foreach (var bar in bars)
            {
                DrawBar(canvas, bar, own.Contains(bar.Contender), longest, y, text, ink);
                y += RowHeight;
            }
            y += Margin;
        }
        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return png.ToArray();
    }

    public void Dispose() => _typeface.Dispose();

    private static void DrawBar(SKCanvas canvas, Series bar, bool own, double longest, float y, SKFont text, SKPaint ink)
    {
        const float Left = Margin + NameWidth;
        const float Space = Width - Left - TimeWidth - Margin;
        float X(double seconds) => Left + (float)(Space * seconds / longest);
        var s = bar.Seconds;
        using var fill = new SKPaint { Color = own ? s_own : s_peer };
        canvas.DrawRect(Left, y + 3, X(s.Median) - Left, RowHeight - 8, fill);
        float middle = y + 3 + (RowHeight - 8) / 2f;
        canvas.DrawLine(X(s.Least), middle, X(s.Most), middle, ink);
        string name = bar.Format.Length == 0 || bar.Contender.Contains(bar.Format, StringComparison.Ordinal) ? bar.Contender
            : $"{bar.Contender} ({bar.Format})";
        canvas.DrawText(name, Left - 10, y + 16, SKTextAlign.Right, text, ink);
        canvas.DrawText($"{Comparison.Time(s.Median)} ({Comparison.Time(s.Least)} to {Comparison.Time(s.Most)})", X(s.Most) + 8, y + 16, text, ink);
    }
}
