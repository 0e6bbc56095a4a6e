using SamEngine.Compute;

namespace SamEngine.Data.Mini;

/// <summary>A random request as numbers.</summary>
/// <param name="Images">Number of pictures.</param>
/// <param name="Pixels">[images, 3, side, side], of about unit deviation.</param>
/// <param name="TextIds">Ids for the Q-Former.</param>
/// <param name="PromptIds">Ids for the language model.</param>
/// <param name="Guided">Whether the pictures guide each other.</param>
internal sealed record ParitySample(int Images, float[] Pixels, int[] TextIds, int[] PromptIds, bool Guided);

/// <summary>Random requests that every machine makes alike, for comparing implementations of one model.</summary>
internal static class ParitySamples
{
    public const int Count = 50;

    public static ParitySample Create(int index, int side, int textVocabulary, int promptVocabulary)
    {
        uint counter = 0;
        uint Next() => Philox.Draw((uint)index, 20261123, counter++, 0, 0, 0).X0;
        int images = 1 + (int)(Next() % 5);
        int[] Ids(int most, int vocabulary) =>
            [.. Enumerable.Range(0, 3 + (int)(Next() % (uint)most)).Select(_ => (int)(Next() % (uint)vocabulary))];
        int[] text = Ids(20, textVocabulary);
        int[] prompt = Ids(20, promptVocabulary);
        float[] pixels = [.. Enumerable.Range(0, images * 3 * side * side).Select(_ => (int)Next() / 2147483648f * 1.7f)];
        return new ParitySample(images, pixels, text, prompt, index % 4 != 0);
    }
}
