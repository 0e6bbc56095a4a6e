namespace SamEngine.Data.Mini;

/// <summary>
/// Makes MmLINK-mini: groups of two to five pictures that share exactly one thing (an object, the colour of a toy, the
/// setting, an activity), stories, and changes. Every picture holds clutter of every type, so that one picture does not
/// tell what links the group. A tenth of all pairs of object and setting appears in test data only, where the linking
/// object stands in such a setting at least once. Deterministic for a seed.
/// </summary>
internal sealed class MiniGenerator(int seed, bool test)
{
    private const int ObjectsInScene = 3;
    private const int ToysInScene = 2;
    private const int ActivitiesInScene = 1;
    private readonly Random _random = new(seed);
    private readonly Teller _teller = new(new Random(seed ^ 0x5A3D));

    /// <summary>Whether this pair is kept for test data.</summary>
    public static bool IsHeldOut(int objectIndex, int setting) => (objectIndex * 7 + setting * 3) % 10 == 0;

    public MiniSample Next(MiniFamily family, Placement placement) => family switch
    {
        MiniFamily.Group => Group(placement),
        MiniFamily.Story => Story(placement),
        // What changes stays where it is.
        MiniFamily.Change => _teller.Change(Pair(SceneAt(_random.Next(Settings.All.Count))), _random.Next(ScenePair.Tellings)),
        _ => _teller.Picture(SceneAt(_random.Next(Settings.All.Count))),
    };

    private MiniSample Group(Placement placement)
    {
        int pictures = _random.Next(2, 6);
        if (Teller.PickLink(_random) is not { } type)
        {
            int setting = _random.Next(Settings.All.Count);
            return _teller.SharedSetting(Compose([.. Enumerable.Repeat(setting, pictures)], null, -1, placement, AnchorOf(placement)),
                placement);
        }
        int index = _random.Next(type switch
        {
            ItemType.Object => Things.Objects.Count,
            ItemType.Toy => Things.Paints.Count,
            _ => Things.Activities.Count,
        });
        int[] settings = DifferentSettings(pictures, type == ItemType.Object ? index : -1);
        return _teller.SharedItem(Compose(settings, type, index, placement, AnchorOf(placement)), type, index, placement);
    }

    private MiniSample Story(Placement placement)
    {
        int pictures = _random.Next(2, 6);
        int hero = _random.Next(Things.Objects.Count);
        return _teller.Story(Compose(DifferentSettings(pictures, hero), ItemType.Object, hero, placement, AnchorOf(placement)),
            hero, placement);
    }

    /// <summary>A scene of its own, its items anywhere.</summary>
    public Scene SceneAt(int setting) => Compose([setting], null, -1, Placement.Free, null)[0];

    /// <summary>What a scene can change to: without one object, with another in its place, elsewhere.</summary>
    public ScenePair Pair(Scene scene)
    {
        var items = scene.Items.ToList();
        int at = items.FindIndex(i => i.Type == ItemType.Object);
        var old = items[at];
        int fresh;
        do
        {
            fresh = _random.Next(Things.Objects.Count);
        }
        while (scene.Shows(ItemType.Object, fresh) || Excluded(fresh, scene.Setting));
        int elsewhere;
        do
        {
            elsewhere = _random.Next(Settings.All.Count);
        }
        while (elsewhere == scene.Setting || items.Any(i => i.Type == ItemType.Object && Excluded(i.Index, elsewhere)));
        items[at] = old with { Index = fresh };
        return new ScenePair(scene, scene with { Items = [.. scene.Items.Where((_, i) => i != at)] }, scene with { Items = items },
            scene with { Setting = elsewhere }, old.Index, fresh);
    }

    /// <summary>Scenes that share the link and nothing else.</summary>
    private List<Scene> Compose(int[] settings, ItemType? link, int index, Placement placement, (float X, float Y)? anchor)
    {
        while (true)
        {
            var scenes = settings.Select(s => One(s, link, index, placement, anchor)).ToList();
            if (scenes.Count == 1 || SharedCount(scenes) == 1)
            {
                return scenes;
            }
        }
    }

    /// <summary>How many things all scenes share.</summary>
    public static int SharedCount(IReadOnlyList<Scene> scenes)
    {
        int shared = scenes.All(s => s.Setting == scenes[0].Setting) ? 1 : 0;
        return shared + scenes[0].Items.Select(i => (i.Type, i.Index)).Distinct()
            .Count(i => scenes.All(s => s.Shows(i.Type, i.Index)));
    }

    private Scene One(int setting, ItemType? link, int index, Placement placement, (float X, float Y)? anchor)
    {
        var chosen = new List<(ItemType Type, int Index)>();
        if (link is { } type)
        {
            chosen.Add((type, index));
        }
        void Fill(ItemType kind, int count, int most)
        {
            while (chosen.Count(c => c.Type == kind) < count)
            {
                var candidate = (kind, _random.Next(most));
                if (!chosen.Contains(candidate) && !(kind == ItemType.Object && Excluded(candidate.Item2, setting)))
                {
                    chosen.Add(candidate);
                }
            }
        }
        Fill(ItemType.Object, ObjectsInScene + _random.Next(2), Things.Objects.Count);
        Fill(ItemType.Toy, ToysInScene, Things.Paints.Count);
        Fill(ItemType.Activity, ActivitiesInScene, Things.Activities.Count);
        var items = new List<Item>();
        foreach (var (kind, number) in chosen)
        {
            bool linking = link is not null && items.Count == 0;
            items.Add(Place(items, kind, number, linking ? placement : Placement.Free, linking ? anchor : null));
        }
        // The link must not always be what is drawn first, under everything.
        return new Scene(setting, _random.Next(), [.. items.OrderBy(_ => _random.Next())]);
    }

    private Item Place(List<Item> others, ItemType type, int index, Placement placement, (float X, float Y)? anchor)
    {
        float size = type == ItemType.Toy ? Between(0.17f, 0.23f) : Between(0.24f, 0.32f);
        Item best = default;
        float bestRoom = float.MinValue;
        for (int attempt = 0; attempt < 40; attempt++)
        {
            var (x, y) = (anchor, placement) switch
            {
                ({ } a, Placement.Same) => (a.X + Between(-0.04f, 0.04f), a.Y + Between(-0.04f, 0.04f)),
                (_, Placement.Photo) => (0.5f + Normal() * 0.12f, 0.55f + Normal() * 0.1f),
                _ => (Between(0.13f, 0.87f), Between(0.15f, 0.87f)),
            };
            var item = new Item(type, index, _random.Next(Toys.Forms), Math.Clamp(x, 0.13f, 0.87f), Math.Clamp(y, 0.13f, 0.87f),
                size, Between(-12, 12));
            float room = others.Count == 0 ? 1 : others.Min(o =>
                MathF.Sqrt((o.X - item.X) * (o.X - item.X) + (o.Y - item.Y) * (o.Y - item.Y)) - 0.45f * (o.Size + size));
            if (room > bestRoom)
            {
                (best, bestRoom) = (item, room);
            }
            if (room > 0)
            {
                break;
            }
        }
        return best;
    }

    private (float X, float Y)? AnchorOf(Placement placement) =>
        placement == Placement.Same ? (Between(0.2f, 0.8f), Between(0.2f, 0.8f)) : null;

    /// <summary>Settings all different; with an object, training leaves the held-out pairs alone and test data has at least
    /// one.</summary>
    private int[] DifferentSettings(int count, int objectIndex)
    {
        while (true)
        {
            int[] settings = [.. Enumerable.Range(0, Settings.All.Count).OrderBy(_ => _random.Next()).Take(count)];
            if (objectIndex < 0 || (test ? settings.Any(s => IsHeldOut(objectIndex, s)) : !settings.Any(s => IsHeldOut(objectIndex, s))))
            {
                return settings;
            }
        }
    }

    private bool Excluded(int objectIndex, int setting) => !test && IsHeldOut(objectIndex, setting);

    private float Between(float low, float high) => low + (float)_random.NextDouble() * (high - low);

    private float Normal() => (float)(Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble()));
}
