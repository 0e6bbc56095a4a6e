namespace SamEngine.Data.Mini;

/// <summary>Puts scenes into words: instruction, answer, and what a right answer names.</summary>
internal sealed class Teller(Random random)
{
    private static readonly string[] Openings = ["Our friend sets out", "The journey begins", "It all starts"];
    private static readonly string[] Middles = ["Then our friend arrives", "The journey goes on", "Some time later it is seen"];

    /// <summary>What links a group: half are linked by an object, the rest evenly by colour and activity, some by the
    /// setting.</summary>
    /// <returns>null for the setting.</returns>
    public static ItemType? PickLink(Random random) => random.Next(10) switch
    {
        < 5 => ItemType.Object,
        < 7 => ItemType.Toy,
        < 8 => null,
        _ => ItemType.Activity,
    };

    /// <summary>A group whose pictures all show an item.</summary>
    public MiniSample SharedItem(IReadOnlyList<Scene> scenes, ItemType type, int index, Placement placement)
    {
        string name = new Item(type, index, 0, 0, 0, 0, 0).Name;
        bool shortAnswer = type is ItemType.Object or ItemType.Toy && random.Next(3) == 0;
        var (patterns, output) = type switch
        {
            ItemType.Object when shortAnswer => (Wording.LinkObject, Capital(Things.Objects[index].WithArticle) + "."),
            ItemType.Object => (Wording.Link, $"There is {Things.Objects[index].WithArticle} in every picture."),
            ItemType.Toy when shortAnswer => (Wording.LinkColour, Capital(name) + "."),
            ItemType.Toy => (Wording.Link, $"Every picture has {Things.WithArticle(name)} toy."),
            _ => (Wording.Link, $"Somebody is {name} in every picture."),
        };
        return new MiniSample(MiniFamily.Group, placement, scenes, Wording.Pick(patterns, random, scenes.Count), output, [name]);
    }

    /// <summary>A group whose pictures are all at the same place.</summary>
    public MiniSample SharedSetting(IReadOnlyList<Scene> scenes, Placement placement)
    {
        var place = Settings.All[scenes[0].Setting];
        return new MiniSample(MiniFamily.Group, placement, scenes, Wording.Pick(Wording.Link, random, scenes.Count),
            $"All pictures are {place.Phrase}.", [place.Name]);
    }

    /// <summary>A story of an object that travels; the last caption is asked for.</summary>
    public MiniSample Story(IReadOnlyList<Scene> scenes, int hero, Placement placement)
    {
        string instruction = Wording.Pick(Wording.Story, random, scenes.Count);
        for (int i = 0; i < scenes.Count - 1; i++)
        {
            string[] forms = i == 0 ? Openings : Middles;
            instruction += $"{{image#{i + 1}}}Caption#{i + 1}:{forms[random.Next(forms.Length)]} " +
                $"{Settings.All[scenes[i].Setting].Phrase}.";
        }
        instruction += $"{{image#{scenes.Count}}}Caption#{scenes.Count}:";
        var place = Settings.All[scenes[^1].Setting];
        var name = Things.Objects[hero];
        return new MiniSample(MiniFamily.Story, placement, scenes, instruction,
            $"At last the {name.Name} is {place.Phrase}.", [name.Name, place.Name]);
    }

    /// <summary>What has changed between two pictures of a pair.</summary>
    /// <param name="pair">Where the pictures come from.</param>
    /// <param name="telling">Which change, below <see cref="ScenePair.Tellings"/>.</param>
    public MiniSample Change(ScenePair pair, int telling)
    {
        var (old, fresh) = (Things.Objects[pair.Old], Things.Objects[pair.Fresh]);
        string Moved(Scene to) => $"The place is now {Settings.All[to.Setting].Phrase}.";
        (Scene Before, Scene After, string Output, string[] Required) told = telling switch
        {
            0 => (pair.Scene, pair.Without, $"The {old.Name} has gone.", [old.Name, "gone"]),
            1 => (pair.Without, pair.Scene, $"{Capital(old.WithArticle)} has appeared.", [old.Name, "appeared"]),
            2 => (pair.Replaced, pair.Without, $"The {fresh.Name} has gone.", [fresh.Name, "gone"]),
            3 => (pair.Without, pair.Replaced, $"{Capital(fresh.WithArticle)} has appeared.", [fresh.Name, "appeared"]),
            4 => (pair.Scene, pair.Replaced, $"The {old.Name} has become {fresh.WithArticle}.", [old.Name, fresh.Name, "become"]),
            5 => (pair.Replaced, pair.Scene, $"The {fresh.Name} has become {old.WithArticle}.", [fresh.Name, old.Name, "become"]),
            6 => (pair.Scene, pair.Elsewhere, Moved(pair.Elsewhere), [Settings.All[pair.Elsewhere.Setting].Name]),
            _ => (pair.Elsewhere, pair.Scene, Moved(pair.Scene), [Settings.All[pair.Scene.Setting].Name]),
        };
        return new MiniSample(MiniFamily.Change, Placement.Same, [told.Before, told.After], Wording.Pick(Wording.Change, random, 2),
            told.Output, told.Required);
    }

    /// <summary>A question on one picture: half ask for one object, the others for the place or for everything.</summary>
    public MiniSample Picture(Scene scene)
    {
        MiniSample Sample(IReadOnlyList<string> patterns, string output, string x = "") => new(MiniFamily.Picture,
            Placement.Free, [scene], Wording.Pick(patterns, random, 1).Replace("{x}", x, StringComparison.Ordinal), output, []);
        string phrase = Settings.All[scene.Setting].Phrase;
        switch (random.Next(4))
        {
            case 0:
                return Sample(Wording.Where, Capital(phrase) + ".");
            case 1 or 2:
                // Half of the questions are answered by yes.
                var shown = scene.Items.Where(i => i.Type == ItemType.Object).ToList();
                bool there = random.Next(2) == 0;
                int asked;
                do
                {
                    asked = there ? shown[random.Next(shown.Count)].Index : random.Next(Things.Objects.Count);
                }
                while (!there && scene.Shows(ItemType.Object, asked));
                return Sample(Wording.IsThere, there ? "Yes." : "No.", Things.Objects[asked].WithArticle);
            default:
                // By a fixed order: there is one right answer.
                var names = scene.Items.OrderBy(i => i.Type).ThenBy(i => i.Index).Select(i => i.Type switch
                {
                    ItemType.Object => Things.Objects[i.Index].WithArticle,
                    ItemType.Activity => $"somebody {i.Name}",
                    _ => $"{Things.WithArticle(i.Name)} toy",
                });
                return Sample(Wording.List, $"{Capital(string.Join(", ", names))} {phrase}.");
        }
    }

    private static string Capital(string text) => char.ToUpperInvariant(text[0]) + text[1..];
}
