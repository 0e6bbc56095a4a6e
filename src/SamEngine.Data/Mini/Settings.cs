using SkiaSharp;

namespace SamEngine.Data.Mini;

/// <summary>A place, and how it is drawn.</summary>
/// <param name="Name">Short name, as in "the beach".</param>
/// <param name="Phrase">As in "on the beach".</param>
/// <param name="Draw">Paints the background on a canvas of 1 x 1.</param>
internal sealed record Setting(string Name, string Phrase, Action<SKCanvas, Brush, Random> Draw);

/// <summary>The places. Each varies in colours, horizon and furnishing, and shares no word with another.</summary>
internal static class Settings
{
    public static IReadOnlyList<Setting> All { get; } =
    [
        new("the beach", "on the beach", Beach),
        new("the forest", "in the forest", Forest),
        new("the city", "in the city", City),
        new("the desert", "in the desert", Desert),
        new("the snow", "in the snow", Snow),
        new("the sea", "under the sea", Sea),
        new("outer space", "in outer space", Space),
        new("a meadow", "on a meadow", Meadow),
        new("the kitchen", "in the kitchen", Kitchen),
        new("the living room", "in the living room", LivingRoom),
        new("a farm", "on a farm", Farm),
        new("the mountains", "in the mountains", Mountains),
        new("a stadium", "in a stadium", Stadium),
        new("a library", "in a library", Library),
    ];

    private static void Beach(SKCanvas c, Brush b, Random r)
    {
        float sea = b.Between(0.3f, 0.42f);
        float sand = sea + b.Between(0.12f, 0.25f);
        b.Sky(c, 0xFF7EC8F2, 0xFFCDEBFA, sea);
        b.Box(c, 0xFF1E86C8, 0, sea, 1, sand - sea);
        for (int i = 0; i < 9; i++)
        {
            b.Box(c, 0xFFBFE6F7, (float)r.NextDouble(), sea + (float)r.NextDouble() * (sand - sea), 0.12f, 0.008f);
        }
        b.Box(c, 0xFFF0DA9E, 0, sand, 1, 1 - sand);
        b.Dots(c, 0xFFD8BC78, 120, 0, sand, 1, 1 - sand, 0.004f);
    }

    private static void Forest(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFF9FC5A0, 0xFF5E8C5A, 0.6f);
        b.Box(c, 0xFF3F5E2C, 0, 0.55f, 1, 0.45f);
        for (int i = 0; i < 10; i++)
        {
            float x = (float)r.NextDouble();
            float foot = b.Between(0.5f, 0.75f);
            float width = b.Between(0.03f, 0.06f);
            b.Box(c, 0xFF5B4023, x - width / 2, 0, width, foot);
            b.Triangle(c, 0xFF2A5A2D, x - 0.13f, foot - 0.12f, x + 0.13f, foot - 0.12f, x, foot - 0.5f);
        }
        b.Dots(c, 0xFF6B8E3D, 60, 0, 0.6f, 1, 0.4f, 0.008f);
    }

    private static void City(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFFB9C7D6, 0xFFE3E6EA, 0.7f);
        float x = -0.02f;
        while (x < 1)
        {
            float width = b.Between(0.1f, 0.2f);
            float top = b.Between(0.08f, 0.4f);
            b.Box(c, r.Next(2) == 0 ? 0xFF7C8796 : 0xFF9A8577, x, top, width, 0.72f - top);
            for (float wy = top + 0.03f; wy < 0.66f; wy += 0.07f)
            {
                for (float wx = x + 0.02f; wx < x + width - 0.03f; wx += 0.05f)
                {
                    b.Box(c, r.Next(3) == 0 ? 0xFFF7E8A0 : 0xFF4C5663, wx, wy, 0.025f, 0.035f);
                }
            }
            x += width;
        }
        b.Box(c, 0xFF55585C, 0, 0.72f, 1, 0.28f);
        for (float dash = b.Between(0, 0.1f); dash < 1; dash += 0.2f)
        {
            b.Box(c, 0xFFEDEDED, dash, 0.85f, 0.1f, 0.015f);
        }
    }

    private static void Desert(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFFF6C56B, 0xFFFCE9B6, 0.5f);
        b.Circle(c, 0xFFFFF4C8, b.Between(0.1f, 0.9f), b.Between(0.1f, 0.25f), 0.08f);
        for (int i = 0; i < 4; i++)
        {
            float y = 0.45f + i * 0.13f;
            b.Hill(c, i % 2 == 0 ? 0xFFD99A4E : 0xFFC98542, y, b.Between(0.04f, 0.1f), (float)r.NextDouble() * 6);
        }
    }

    private static void Snow(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFFAFC3D8, 0xFFDCE7F1, 0.5f);
        b.Hill(c, 0xFFEDF4FA, 0.42f, 0.06f, (float)r.NextDouble() * 6);
        b.Hill(c, 0xFFFFFFFF, 0.62f, 0.05f, (float)r.NextDouble() * 6);
        for (int i = 0; i < 3; i++)
        {
            float x = (float)r.NextDouble();
            b.Triangle(c, 0xFF5F8F8A, x - 0.06f, 0.5f, x + 0.06f, 0.5f, x, 0.3f);
            b.Triangle(c, 0xFFF4FAFF, x - 0.03f, 0.38f, x + 0.03f, 0.38f, x, 0.3f);
        }
        b.Dots(c, 0xFFFFFFFF, 70, 0, 0, 1, 1, 0.009f);
    }

    private static void Sea(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFF1CA0C4, 0xFF06395F, 1);
        b.Hill(c, 0xFFB79A63, 0.86f, 0.03f, (float)r.NextDouble() * 6);
        for (int i = 0; i < 7; i++)
        {
            float x = (float)r.NextDouble();
            b.Stroke(c, 0xFF2E8B57, x, 0.92f, x + b.Between(-0.06f, 0.06f), b.Between(0.55f, 0.75f), 0.02f);
        }
        for (int i = 0; i < 22; i++)
        {
            b.Ring(c, 0xFFC9F1FF, (float)r.NextDouble(), (float)r.NextDouble(), b.Between(0.008f, 0.02f));
        }
    }

    private static void Space(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFF05030F, 0xFF1B1240, 1);
        b.Dots(c, 0xFFFFFFFF, 110, 0, 0, 1, 1, 0.005f);
        b.Circle(c, r.Next(2) == 0 ? 0xFFC46A3A : 0xFF8AA6C9, b.Between(0.1f, 0.9f), b.Between(0.1f, 0.9f), b.Between(0.08f, 0.16f));
    }

    private static void Meadow(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFF8FD0F5, 0xFFDDF3FC, 0.4f);
        b.Hill(c, 0xFF8CCB4F, 0.38f, 0.04f, (float)r.NextDouble() * 6);
        b.Hill(c, 0xFF6DB83A, 0.58f, 0.03f, (float)r.NextDouble() * 6);
        foreach (uint colour in (uint[])[0xFFF7D5E8, 0xFFFFFFFF, 0xFFE58AD0])
        {
            b.Dots(c, colour, 22, 0, 0.5f, 1, 0.5f, 0.012f);
        }
    }

    private static void Kitchen(SKCanvas c, Brush b, Random r)
    {
        uint wall = r.Next(2) == 0 ? 0xFFE9EFE6 : 0xFFF2E9DC;
        b.Box(c, wall, 0, 0, 1, 1);
        for (float x = 0; x < 1; x += 0.1f)
        {
            b.Box(c, 0xFFC3D3CC, x, 0.08f, 0.006f, 0.42f);
        }
        for (float y = 0.08f; y < 0.5f; y += 0.1f)
        {
            b.Box(c, 0xFFC3D3CC, 0, y, 1, 0.006f);
        }
        b.Box(c, 0xFFA9805A, 0, 0.5f, 1, 0.06f);
        b.Box(c, 0xFFDCC2A0, 0, 0.56f, 1, 0.3f);
        for (float x = b.Between(0.02f, 0.08f); x < 1; x += 0.24f)
        {
            b.Box(c, 0xFFCBAB82, x, 0.6f, 0.2f, 0.22f);
            b.Box(c, 0xFF6E5A44, x + 0.09f, 0.62f, 0.03f, 0.012f);
        }
        b.Box(c, 0xFF8E7B6A, 0, 0.86f, 1, 0.14f);
    }

    private static void LivingRoom(SKCanvas c, Brush b, Random r)
    {
        b.Box(c, r.Next(2) == 0 ? 0xFFE7C9B4 : 0xFFD9C2CE, 0, 0, 1, 0.7f);
        b.Box(c, 0xFF9C6B43, 0, 0.7f, 1, 0.3f);
        float window = b.Between(0.05f, 0.6f);
        b.Box(c, 0xFF8A5A36, window - 0.02f, 0.06f, 0.34f, 0.3f);
        b.Box(c, 0xFFBFE3F5, window, 0.08f, 0.3f, 0.26f);
        b.Box(c, 0xFF8A5A36, window + 0.14f, 0.08f, 0.02f, 0.26f);
        uint sofa = r.Next(2) == 0 ? 0xFF7A3E48 : 0xFF3E5A7A;
        float left = b.Between(0.05f, 0.4f);
        b.Box(c, sofa, left, 0.5f, 0.55f, 0.14f);
        b.Box(c, sofa, left - 0.04f, 0.58f, 0.63f, 0.16f);
    }

    private static void Farm(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFFA6D8F0, 0xFFE9F5FA, 0.45f);
        b.Box(c, 0xFF9DB54A, 0, 0.45f, 1, 0.55f);
        for (float y = 0.55f; y < 1; y += 0.08f)
        {
            b.Box(c, 0xFF8B6B3A, 0, y, 1, 0.03f);
        }
        float barn = b.Between(0.05f, 0.65f);
        b.Box(c, 0xFFA8322D, barn, 0.28f, 0.26f, 0.22f);
        b.Triangle(c, 0xFF5E4A42, barn - 0.02f, 0.28f, barn + 0.28f, 0.28f, barn + 0.13f, 0.14f);
        b.Box(c, 0xFFF3E9E0, barn + 0.1f, 0.38f, 0.07f, 0.12f);
        for (float x = (float)r.NextDouble() * 0.1f; x < 1; x += 0.12f)
        {
            b.Box(c, 0xFFF7F2E8, x, 0.46f, 0.02f, 0.1f);
        }
        b.Box(c, 0xFFF7F2E8, 0, 0.49f, 1, 0.015f);
    }

    private static void Mountains(SKCanvas c, Brush b, Random r)
    {
        b.Sky(c, 0xFF6FA8DC, 0xFFD5E6F5, 0.7f);
        for (int i = 0; i < 5; i++)
        {
            float x = i * 0.25f + b.Between(-0.08f, 0.08f);
            float top = b.Between(0.1f, 0.35f);
            b.Triangle(c, i % 2 == 0 ? 0xFF66707E : 0xFF7C8794, x - 0.3f, 0.75f, x + 0.3f, 0.75f, x, top);
            float cap = (0.75f - top) * 0.25f;
            b.Triangle(c, 0xFFF3F7FA, x - 0.075f, top + cap, x + 0.075f, top + cap, x, top);
        }
        b.Hill(c, 0xFF55773F, 0.74f, 0.03f, (float)r.NextDouble() * 6);
    }

    private static void Stadium(SKCanvas c, Brush b, Random r)
    {
        b.Box(c, 0xFF8C93A0, 0, 0, 1, 0.42f);
        for (float y = 0.03f; y < 0.4f; y += 0.045f)
        {
            for (float x = (float)r.NextDouble() * 0.03f; x < 1; x += 0.035f)
            {
                b.Circle(c, Things.Paints[r.Next(Things.Paints.Count)].Argb, x, y, 0.012f);
            }
        }
        b.Box(c, 0xFFE8E8E8, 0, 0.4f, 1, 0.03f);
        for (int i = 0; i < 7; i++)
        {
            b.Box(c, i % 2 == 0 ? 0xFF2F9B45 : 0xFF3DB156, i / 7f, 0.43f, 1 / 7f + 0.01f, 0.57f);
        }
        b.Box(c, 0xFFF5F5F5, 0, b.Between(0.6f, 0.75f), 1, 0.012f);
        b.Ring(c, 0xFFF5F5F5, b.Between(0.3f, 0.7f), 0.7f, 0.12f);
    }

    private static void Library(SKCanvas c, Brush b, Random r)
    {
        b.Box(c, 0xFF5A3A22, 0, 0, 1, 1);
        for (int shelf = 0; shelf < 4; shelf++)
        {
            float y = 0.02f + shelf * 0.2f;
            b.Box(c, 0xFF3A2414, 0, y, 1, 0.17f);
            float x = 0.01f;
            while (x < 0.98f)
            {
                float width = b.Between(0.02f, 0.05f);
                float height = b.Between(0.11f, 0.155f);
                uint[] covers = [0xFF8C2F2F, 0xFF2F5D8C, 0xFF3E7A4A, 0xFFC9A24A, 0xFF6B4A7E, 0xFFB8AFA0];
                b.Box(c, covers[r.Next(covers.Length)], x, y + 0.17f - height, width - 0.004f, height);
                x += width;
            }
        }
        b.Box(c, 0xFF8C6239, 0, 0.82f, 1, 0.18f);
    }
}
