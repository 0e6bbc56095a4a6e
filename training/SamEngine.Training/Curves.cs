using System.Globalization;
using SkiaSharp;

namespace SamEngine.Training;

/// <summary>Draws the losses that stages logged, one panel for each stage.</summary>
internal static class Curves
{
    private const int PanelWidth = 420;
    private const int PanelHeight = 300;
    private const int Margin = 52;
    private const int PanelsInRow = 4;

    /// <param name="work">Folder of the training.</param>
    /// <param name="path">PNG to write.</param>
    public static void Draw(string work, string path)
    {
        var panels = Directory.EnumerateFiles(work, "*.csv").Order(StringComparer.Ordinal)
            .GroupBy(f => Path.GetFileNameWithoutExtension(f).Split('-')[0])
            .OrderBy(g => Array.IndexOf(["vision", "queries", "words", "language", "finish", "adapters", "control"], g.Key))
            .Select(g => (Name: g.Key, Lines: g.Select(Read).Where(l => l.Count > 1).ToList())).Where(p => p.Lines.Count > 0).ToList();
        if (panels.Count == 0)
        {
            throw new InvalidOperationException($"{work} has no logs of training (*.csv)");
        }
        using var bitmap = new SKBitmap(PanelWidth * Math.Min(panels.Count, PanelsInRow),
            PanelHeight * ((panels.Count + PanelsInRow - 1) / PanelsInRow));
        using var canvas = new SKCanvas(bitmap);
        canvas.Clear(SKColors.White);
        for (int i = 0; i < panels.Count; i++)
        {
            canvas.Save();
            canvas.Translate(i % PanelsInRow * PanelWidth, i / PanelsInRow * PanelHeight);
            Panel(canvas, panels[i].Name, panels[i].Lines);
            canvas.Restore();
        }
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        File.WriteAllBytes(path, data.ToArray());
    }

    private static List<(float Step, float Loss)> Read(string file) => [.. File.ReadLines(file).Skip(1).Select(l => l.Split(','))
        .Select(f => (float.Parse(f[0], CultureInfo.InvariantCulture), float.Parse(f[1], CultureInfo.InvariantCulture)))];

    private static void Panel(SKCanvas canvas, string name, List<List<(float Step, float Loss)>> lines)
    {
        using var typeface = SKTypeface.Default;
        using var font = new SKFont(typeface, 13) { Subpixel = true };
        using var ink = new SKPaint { Color = SKColors.Black, IsAntialias = true };
        using var grid = new SKPaint { Color = new SKColor(0xFFDDDDDD), StrokeWidth = 1 };
        // Logarithmic: what matters is by which factor a loss falls.
        float low = MathF.Log10(lines.SelectMany(l => l).Min(p => p.Loss));
        float high = MathF.Log10(lines.SelectMany(l => l).Max(p => p.Loss));
        float steps = lines.SelectMany(l => l).Max(p => p.Step);
        (low, high) = (low - 0.05f, high + 0.05f);
        SKPoint At(float step, float log) => new(Margin + step / steps * (PanelWidth - Margin - 16),
            PanelHeight - 34 - (log - low) / (high - low) * (PanelHeight - 70));
        for (int i = 0; i <= 4; i++)
        {
            float log = low + (high - low) * i / 4;
            canvas.DrawLine(At(0, log), At(steps, log), grid);
            canvas.DrawText(MathF.Pow(10, log).ToString("G2", CultureInfo.InvariantCulture), 8, At(0, log).Y + 4, font, ink);
            canvas.DrawText((steps * i / 4).ToString("F0", CultureInfo.InvariantCulture), At(steps * i / 4, low).X - 12,
                PanelHeight - 14, font, ink);
        }
        canvas.DrawText($"{name}: loss by step", Margin, 22, font, ink);
        SKColor[] colours = [new(0xFF1F4FE0), new(0xFFD81E1E), new(0xFF1FA32B), new(0xFF8A2BC2)];
        for (int i = 0; i < lines.Count; i++)
        {
            using var pen = new SKPaint
            {
                Color = colours[i % colours.Length],
                StrokeWidth = 2,
                IsAntialias = true,
                Style = SKPaintStyle.Stroke,
            };
            using var curve = new SKPath();
            foreach (var (step, loss) in lines[i])
            {
                if (curve.IsEmpty)
                {
                    curve.MoveTo(At(step, MathF.Log10(loss)));
                }
                else
                {
                    curve.LineTo(At(step, MathF.Log10(loss)));
                }
            }
            canvas.DrawPath(curve, pen);
        }
    }
}
