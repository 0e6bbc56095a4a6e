using SamEngine.Data.Mini;

namespace SamEngine.Training;

/// <summary>
/// Scenes from which training composes groups, stories and changes anew in every step, so that far more of them are seen
/// than pictures are drawn. What is composed keeps the generator's promises: exactly one thing is shared.
/// </summary>
internal sealed class ScenePool
{
    private const int Tries = 200;

    /// <summary>More objects than other links, for there are more kinds of them to learn.</summary>
    private static readonly ItemType[] Links = [ItemType.Object, ItemType.Object, ItemType.Object, ItemType.Toy, ItemType.Activity];

    private readonly List<int>[] _bySetting;
    private readonly Dictionary<(ItemType, int), List<(int Picture, Item Item)>> _byItem = [];
    private readonly List<(ScenePair Pair, int First)> _pairs = [];
    private readonly List<Scene> _scenes = [];

    /// <param name="seed">Everything follows from it.</param>
    /// <param name="singles">Scenes on their own.</param>
    /// <param name="pairs">Scenes with what they can change to: four pictures each.</param>
    public ScenePool(int seed, int singles, int pairs)
    {
        var random = new Random(seed);
        var generator = new MiniGenerator(random.Next(), test: false);
        Scene Fresh() => generator.SceneAt(random.Next(Settings.All.Count));
        for (int i = 0; i < singles; i++)
        {
            _scenes.Add(Fresh());
        }
        for (int i = 0; i < pairs; i++)
        {
            var pair = generator.Pair(Fresh());
            _pairs.Add((pair, _scenes.Count));
            _scenes.AddRange([pair.Scene, pair.Without, pair.Replaced, pair.Elsewhere]);
        }
        _bySetting = [.. Settings.All.Select(_ => new List<int>())];
        for (int i = 0; i < _scenes.Count; i++)
        {
            _bySetting[_scenes[i].Setting].Add(i);
            foreach (var item in _scenes[i].Items)
            {
                if (!_byItem.TryGetValue((item.Type, item.Index), out var list))
                {
                    _byItem.Add((item.Type, item.Index), list = []);
                }
                list.Add((i, item));
            }
        }
    }

    public IReadOnlyList<Scene> Scenes => _scenes;

    /// <summary>A sample and its pictures' indices in <see cref="Scenes"/>.</summary>
    /// <param name="family">Kind of task.</param>
    /// <param name="placement">Where the link of a group or story lies.</param>
    /// <param name="pictures">Size of a group or story; changes have two, questions one.</param>
    /// <param name="random">Everything follows from it.</param>
    public (MiniSample Sample, int[] Pictures) Compose(MiniFamily family, Placement placement, int pictures, Random random)
    {
        var teller = new Teller(random);
        switch (family)
        {
            case MiniFamily.Change:
                {
                    var (pair, first) = _pairs[random.Next(_pairs.Count)];
                    var sample = teller.Change(pair, random.Next(ScenePair.Tellings));
                    Scene[] order = [pair.Scene, pair.Without, pair.Replaced, pair.Elsewhere];
                    return (sample, [.. sample.Scenes.Select(s => first + Array.IndexOf(order, s))]);
                }
            case MiniFamily.Picture:
                {
                    int picture = random.Next(_scenes.Count);
                    return (teller.Picture(_scenes[picture]), [picture]);
                }
            case MiniFamily.Group when random.Next(10) == 0:
                return Until(() => Choose(_bySetting[random.Next(Settings.All.Count)], pictures, random), differ: false,
                    chosen => teller.SharedSetting(chosen, placement));
            default:
                {
                    var (kind, index) = _byItem.Keys.ElementAt(0);
                    return Until(() =>
                    {
                        kind = family == MiniFamily.Story ? ItemType.Object : Links[random.Next(Links.Length)];
                        index = random.Next(Count(kind));
                        return Choose(Placed(_byItem[(kind, index)], placement, random), pictures, random);
                    }, differ: true, chosen => family == MiniFamily.Story ? teller.Story(chosen, index, placement)
                        : teller.SharedItem(chosen, kind, index, placement));
                }
        }

        (MiniSample, int[]) Until(Func<int[]?> choose, bool differ, Func<IReadOnlyList<Scene>, MiniSample> tell)
        {
            for (int attempt = 0; attempt < Tries; attempt++)
            {
                if (choose() is not { } chosen)
                {
                    continue;
                }
                Scene[] scenes = [.. chosen.Select(i => _scenes[i])];
                if (MiniGenerator.SharedCount(scenes) == 1
                    && (!differ || scenes.Select(s => s.Setting).Distinct().Count() == scenes.Length))
                {
                    return (tell(scenes), chosen);
                }
            }
            throw new InvalidOperationException($"no {family} of {pictures} pictures in {_scenes.Count} scenes after {Tries} tries");
        }
    }

    private static int Count(ItemType type) => type switch
    {
        ItemType.Object => Things.Objects.Count,
        ItemType.Toy => Things.Paints.Count,
        _ => Things.Activities.Count,
    };

    private static int[]? Choose(List<int> from, int count, Random random)
    {
        if (from.Count < count)
        {
            return null;
        }
        var chosen = new HashSet<int>();
        for (int attempt = 0; attempt < 20 && chosen.Count < count; attempt++)
        {
            chosen.Add(from[random.Next(from.Count)]);
        }
        return chosen.Count == count ? [.. chosen] : null;
    }

    /// <summary>Pictures that have the item where the placement wants it.</summary>
    private static List<int> Placed(List<(int Picture, Item Item)> all, Placement placement, Random random)
    {
        var anchor = all[random.Next(all.Count)].Item;
        return [.. all.Where(p => placement switch
        {
            Placement.Same => Math.Abs(p.Item.X - anchor.X) < 0.08f && Math.Abs(p.Item.Y - anchor.Y) < 0.08f,
            Placement.Photo => Math.Abs(p.Item.X - 0.5f) < 0.2f && Math.Abs(p.Item.Y - 0.55f) < 0.17f,
            _ => true,
        }).Select(p => p.Picture)];
    }
}
