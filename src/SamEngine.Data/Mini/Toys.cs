using SkiaSharp;

namespace SamEngine.Data.Mini;

/// <summary>Painted toys: forms that say nothing about their colour. Drawn inside -0.5 to 0.5.</summary>
internal static class Toys
{
    /// <summary>Number of forms.</summary>
    public const int Forms = 5;

    public static void Draw(SKCanvas canvas, int form, SKColor colour)
    {
        using var fill = new SKPaint { Color = colour, IsAntialias = true };
        using var line = new SKPaint
        {
            Color = new SKColor(0xFF606060),
            IsAntialias = true,
            Style = SKPaintStyle.Stroke,
            StrokeWidth = 0.035f,
        };
        using var path = new SKPath();
        switch (form)
        {
            case 0: // balloon
                canvas.DrawLine(0, 0.2f, 0.05f, 0.5f, line);
                path.AddOval(new SKRect(-0.3f, -0.48f, 0.3f, 0.24f));
                break;
            case 1: // kite
                canvas.DrawLine(0, 0.25f, 0.2f, 0.5f, line);
                path.AddPoly([new(0, -0.48f), new(0.3f, -0.08f), new(0, 0.35f), new(-0.3f, -0.08f)]);
                break;
            case 2: // block
                path.AddRoundRect(new SKRect(-0.38f, -0.38f, 0.38f, 0.38f), 0.06f, 0.06f);
                break;
            case 3: // flag
                canvas.DrawLine(-0.35f, -0.45f, -0.35f, 0.5f, line);
                path.AddPoly([new(-0.35f, -0.45f), new(0.42f, -0.2f), new(-0.35f, 0.1f)]);
                break;
            default: // ball
                path.AddCircle(0, 0, 0.38f);
                break;
        }
        canvas.DrawPath(path, fill);
        canvas.DrawPath(path, line);
    }
}
