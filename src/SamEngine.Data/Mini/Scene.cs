namespace SamEngine.Data.Mini;

/// <summary>Where in the pictures of a group the linking object lies.</summary>
public enum Placement
{
    /// <summary>At about the same place in all of them.</summary>
    Same,

    /// <summary>Anywhere.</summary>
    Free,

    /// <summary>Near the middle, as the subject of a photograph.</summary>
    Photo,
}

/// <summary>What an item of a scene is.</summary>
internal enum ItemType
{
    Object,
    Activity,

    /// <summary>A toy painted in a colour; <see cref="Item.Variant"/> is its form.</summary>
    Toy,
}

/// <summary>One thing in a scene.</summary>
/// <param name="Type">Which list <paramref name="Index"/> counts in.</param>
/// <param name="Index">Object, activity, or colour.</param>
/// <param name="Variant">Form of a toy.</param>
/// <param name="X">Centre, 0 to 1 of the picture's width.</param>
/// <param name="Y">Centre, 0 to 1 of the picture's height.</param>
/// <param name="Size">Width, 0 to 1 of the picture's width.</param>
/// <param name="Angle">Degrees.</param>
internal readonly record struct Item(ItemType Type, int Index, int Variant, float X, float Y, float Size, float Angle)
{
    /// <summary>The name that answers use.</summary>
    public string Name => Type switch
    {
        ItemType.Object => Things.Objects[Index].Name,
        ItemType.Activity => Things.Activities[Index].Name,
        _ => Things.Paints[Index].Name,
    };
}

/// <summary>A picture before it is drawn.</summary>
/// <param name="Setting">Index in <see cref="Settings.All"/>.</param>
/// <param name="BackgroundSeed">What varies in the setting.</param>
/// <param name="Items">Drawn in this order.</param>
internal sealed record Scene(int Setting, int BackgroundSeed, IReadOnlyList<Item> Items)
{
    public bool Shows(ItemType type, int index) => Items.Any(i => i.Type == type && i.Index == index);
}
