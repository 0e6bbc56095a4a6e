namespace SamEngine.Data.Mini;

/// <summary>A kind of task of MmLINK-mini.</summary>
public enum MiniFamily
{
    /// <summary>What do these pictures have in common.</summary>
    Group,

    /// <summary>Captions so far and pictures; tell the last one.</summary>
    Story,

    /// <summary>Two nearly equal pictures; what has changed.</summary>
    Change,

    /// <summary>Questions on one picture, for training only.</summary>
    Picture,
}

/// <summary>A sample before its pictures are drawn.</summary>
/// <param name="Family">Kind of task.</param>
/// <param name="Placement">Where the link lies.</param>
/// <param name="Scenes">The pictures.</param>
/// <param name="Instruction">What is asked.</param>
/// <param name="Output">The answer.</param>
/// <param name="Required">What a right answer names: all of it, and nothing else of the generator's names.</param>
internal sealed record MiniSample(MiniFamily Family, Placement Placement, IReadOnlyList<Scene> Scenes, string Instruction,
    string Output, IReadOnlyList<string> Required);

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

    /// <summary>Whether this pair is kept for test data.</summary>
    public static bool IsHeldOut(int objectIndex, int setting) => (objectIndex * 7 + setting * 3) % 10 == 0;

    public MiniSample Next(MiniFamily family, Placement placement) => family switch
    {
        MiniFamily.Group => Group(placement),
        MiniFamily.Story => Story(placement),
        MiniFamily.Change => Change(placement),
        _ => Picture(),
    };

    private MiniSample Group(Placement placement)
    {
        int pictures = _random.Next(2, 6);
        int kind = _random.Next(10);
        // Half of the groups are linked by an object, the rest evenly by colour, setting, activity.
        return kind < 5 ? LinkedBy(ItemType.Object, _random.Next(Things.Objects.Count), pictures, placement)
            : kind < 7 ? LinkedBy(ItemType.Toy, _random.Next(Things.Paints.Count), pictures, placement)
            : kind < 8 ? LinkedBySetting(pictures, placement)
            : LinkedBy(ItemType.Activity, _random.Next(Things.Activities.Count), pictures, placement);
    }

    private MiniSample LinkedBy(ItemType type, int index, int pictures, Placement placement)
    {
        int[] settings = DifferentSettings(pictures, type == ItemType.Object ? index : -1);
        var anchor = AnchorOf(placement);
        var scenes = Compose(settings, type, index, placement, anchor);
        string name = new Item(type, index, 0, 0, 0, 0, 0).Name;
        bool shortAnswer = type is ItemType.Object or ItemType.Toy && _random.Next(3) == 0;
        var (patterns, output) = type switch
        {
            ItemType.Object when shortAnswer => (Wording.LinkObject, Capital(Things.Objects[index].WithArticle) + "."),
            ItemType.Object => (Wording.Link, $"There is {Things.Objects[index].WithArticle} in every picture."),
            ItemType.Toy when shortAnswer => (Wording.LinkColour, Capital(name) + "."),
            ItemType.Toy => (Wording.Link, $"Every picture has a {name} toy."),
            _ => (Wording.Link, $"Somebody is {name} in every picture."),
        };
        return new MiniSample(MiniFamily.Group, placement, scenes, Wording.Pick(patterns, _random, pictures), output, [name]);
    }

    private MiniSample LinkedBySetting(int pictures, Placement placement)
    {
        int setting = _random.Next(Settings.All.Count);
        int[] settings = [.. Enumerable.Repeat(setting, pictures)];
        var scenes = Compose(settings, null, -1, placement, AnchorOf(placement));
        var place = Settings.All[setting];
        return new MiniSample(MiniFamily.Group, placement, scenes, Wording.Pick(Wording.Link, _random, pictures),
            $"All pictures are {place.Phrase}.", [place.Name]);
    }

    private MiniSample Story(Placement placement)
    {
        int pictures = _random.Next(2, 6);
        int hero = _random.Next(Things.Objects.Count);
        int[] settings = DifferentSettings(pictures, hero);
        var scenes = Compose(settings, ItemType.Object, hero, placement, AnchorOf(placement));
        string instruction = Wording.Pick(Wording.Story, _random, pictures);
        string[] openings = ["Our friend sets out", "The journey begins", "It all starts"];
        string[] middles = ["Then our friend arrives", "The journey goes on", "Some time later it is seen"];
        for (int i = 0; i < pictures - 1; i++)
        {
            string[] forms = i == 0 ? openings : middles;
            instruction += $"{{image#{i + 1}}}Caption#{i + 1}:{forms[_random.Next(forms.Length)]} " +
                $"{Settings.All[settings[i]].Phrase}.";
        }
        instruction += $"{{image#{pictures}}}Caption#{pictures}:";
        var place = Settings.All[settings[^1]];
        var name = Things.Objects[hero];
        return new MiniSample(MiniFamily.Story, placement, scenes, instruction,
            $"At last the {name.Name} is {place.Phrase}.", [name.Name, place.Name]);
    }

    private MiniSample Change(Placement placement)
    {
        int setting = _random.Next(Settings.All.Count);
        var before = Compose([setting], null, -1, placement, null)[0];
        var items = before.Items.ToList();
        int at = items.FindIndex(i => i.Type == ItemType.Object);
        var old = items[at];
        int fresh;
        do
        {
            fresh = _random.Next(Things.Objects.Count);
        }
        while (before.Shows(ItemType.Object, fresh) || Excluded(fresh, setting));
        var oldName = Things.Objects[old.Index];
        var newName = Things.Objects[fresh];
        string output;
        string[] required;
        int kind = _random.Next(4);
        var after = before;
        switch (kind)
        {
            case 0:
                items.RemoveAt(at);
                after = before with { Items = items };
                (output, required) = ($"The {oldName.Name} has gone.", [oldName.Name, "gone"]);
                break;
            case 1:
                items.RemoveAt(at);
                after = before;
                before = before with { Items = items };
                (output, required) = ($"{Capital(oldName.WithArticle)} has appeared.", [oldName.Name, "appeared"]);
                break;
            case 2:
                items[at] = old with { Index = fresh };
                after = before with { Items = items };
                (output, required) = ($"The {oldName.Name} has become {newName.WithArticle}.",
                    [oldName.Name, newName.Name, "become"]);
                break;
            default:
                int elsewhere;
                do
                {
                    elsewhere = _random.Next(Settings.All.Count);
                }
                while (elsewhere == setting || items.Any(i => i.Type == ItemType.Object && Excluded(i.Index, elsewhere)));
                after = before with { Setting = elsewhere };
                (output, required) = ($"The place is now {Settings.All[elsewhere].Phrase}.", [Settings.All[elsewhere].Name]);
                break;
        }
        return new MiniSample(MiniFamily.Change, placement, [before, after],
            Wording.Pick(Wording.Change, _random, 2), output, required);
    }

    private MiniSample Picture()
    {
        int setting = _random.Next(Settings.All.Count);
        var scene = Compose([setting], null, -1, Placement.Free, null)[0];
        MiniSample Sample(IReadOnlyList<string> patterns, string output, string x = "") => new(MiniFamily.Picture,
            Placement.Free, [scene], Wording.Pick(patterns, _random, 1).Replace("{x}", x, StringComparison.Ordinal), output, []);
        switch (_random.Next(4))
        {
            case 0:
                return Sample(Wording.Where, Capital(Settings.All[setting].Phrase) + ".");
            case 1:
                // Half of the questions are answered by yes.
                var shown = scene.Items.Where(i => i.Type == ItemType.Object).ToList();
                bool there = _random.Next(2) == 0;
                int asked;
                do
                {
                    asked = there ? shown[_random.Next(shown.Count)].Index : _random.Next(Things.Objects.Count);
                }
                while (!there && scene.Shows(ItemType.Object, asked));
                return Sample(Wording.IsThere, there ? "Yes." : "No.", Things.Objects[asked].WithArticle);
            default:
                // By a fixed order: there is one right answer.
                var names = scene.Items.OrderBy(i => i.Type).ThenBy(i => i.Index).Select(i => i.Type switch
                {
                    ItemType.Object => Things.Objects[i.Index].WithArticle,
                    ItemType.Activity => $"somebody {i.Name}",
                    _ => $"a {i.Name} toy",
                });
                return Sample(Wording.List, $"{Capital(string.Join(", ", names))} {Settings.All[setting].Phrase}.");
        }
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

    private static int SharedCount(List<Scene> scenes)
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
        float size = type == ItemType.Toy ? Between(0.16f, 0.22f) : Between(0.22f, 0.3f);
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

    private static string Capital(string text) => char.ToUpperInvariant(text[0]) + text[1..];
}
