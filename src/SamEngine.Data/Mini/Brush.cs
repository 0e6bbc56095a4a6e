using SkiaSharp;

namespace SamEngine.Data.Mini;

/// <summary>Plain forms on a canvas of 1 x 1, each with a little of its own in colour.</summary>
internal sealed class Brush(Random random)
{
    public float Between(float low, float high) => low + (float)random.NextDouble() * (high - low);

    /// <summary>A vertical gradient from the top to <paramref name="bottom"/>.</summary>
    public void Sky(SKCanvas canvas, uint top, uint bottom, float height)
    {
        using var shader = SKShader.CreateLinearGradient(new SKPoint(0, 0), new SKPoint(0, height),
            [Vary(top), Vary(bottom)], SKShaderTileMode.Clamp);
        using var paint = new SKPaint { Shader = shader };
        canvas.DrawRect(0, 0, 1, 1, paint);
    }

    public void Box(SKCanvas canvas, uint colour, float x, float y, float width, float height)
    {
        using var paint = Fill(colour);
        canvas.DrawRect(x, y, width, height, paint);
    }

    public void Circle(SKCanvas canvas, uint colour, float x, float y, float radius)
    {
        using var paint = Fill(colour);
        canvas.DrawCircle(x, y, radius, paint);
    }

    public void Ring(SKCanvas canvas, uint colour, float x, float y, float radius)
    {
        using var paint = Fill(colour);
        paint.Style = SKPaintStyle.Stroke;
        paint.StrokeWidth = 0.006f;
        canvas.DrawCircle(x, y, radius, paint);
    }

    public void Stroke(SKCanvas canvas, uint colour, float x0, float y0, float x1, float y1, float width)
    {
        using var paint = Fill(colour);
        paint.Style = SKPaintStyle.Stroke;
        paint.StrokeWidth = width;
        canvas.DrawLine(x0, y0, x1, y1, paint);
    }

    public void Triangle(SKCanvas canvas, uint colour, float x0, float y0, float x1, float y1, float x2, float y2)
    {
        using var paint = Fill(colour);
        using var path = new SKPath();
        path.MoveTo(x0, y0);
        path.LineTo(x1, y1);
        path.LineTo(x2, y2);
        path.Close();
        canvas.DrawPath(path, paint);
    }

    /// <summary>Ground with a wavy upper edge, down to the bottom.</summary>
    public void Hill(SKCanvas canvas, uint colour, float y, float height, float phase)
    {
        using var paint = Fill(colour);
        using var path = new SKPath();
        path.MoveTo(0, 1);
        for (int i = 0; i <= 24; i++)
        {
            float x = i / 24f;
            path.LineTo(x, y + height * MathF.Sin(phase + x * 7));
        }
        path.LineTo(1, 1);
        path.Close();
        canvas.DrawPath(path, paint);
    }

    public void Dots(SKCanvas canvas, uint colour, int count, float x, float y, float width, float height, float size)
    {
        using var paint = Fill(colour);
        for (int i = 0; i < count; i++)
        {
            canvas.DrawCircle(x + (float)random.NextDouble() * width, y + (float)random.NextDouble() * height, size, paint);
        }
    }

    private SKPaint Fill(uint colour) => new() { Color = Vary(colour), IsAntialias = true };

    private SKColor Vary(uint colour)
    {
        var c = new SKColor(colour);
        int shift = random.Next(-10, 11);
        byte Shift(byte v) => (byte)Math.Clamp(v + shift + random.Next(-4, 5), 0, 255);
        return new SKColor(Shift(c.Red), Shift(c.Green), Shift(c.Blue));
    }
}
