using SamEngine.Data.Mini;
using SamEngine.Imaging;
using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine.Training;

/// <summary>A sample as numbers.</summary>
/// <param name="Pictures">Indices of its pictures.</param>
/// <param name="Text">Ids of the instruction for the Q-Former.</param>
/// <param name="Prompt">Ids of the instruction for the language model, start id first.</param>
/// <param name="Answer">Ids of the answer, end id last.</param>
/// <param name="Source">What it was made from.</param>
internal sealed record TrainingSample(int[] Pictures, int[] Text, int[] Prompt, int[] Answer, MiniSample Source);

/// <summary>Pictures drawn, resized as the engine resizes them, and labelled patch by patch.</summary>
internal sealed class TrainingData
{
    private const int DrawnSide = 224;
    private readonly SamConfig _config;
    private readonly QFormerTokenizer _instruction;
    private readonly VicunaTokenizer _prompt;

    public TrainingData(SamConfig config, QFormerTokenizer instruction, VicunaTokenizer prompt, IReadOnlyList<Scene> scenes)
    {
        (_config, _instruction, _prompt) = (config, instruction, prompt);
        Side = config.Vision.ImageSize;
        PatchesAcross = Side / config.Vision.PatchSize;
        Scenes = scenes;
        Pixels = new byte[Scenes.Count][];
        using var renderer = new SceneRenderer();
        using var resize = new ThreadLocal<PillowResize>(() => new PillowResize(DrawnSide, DrawnSide, Side, Side));
        Parallel.For(0, Scenes.Count, i =>
        {
            byte[] small = new byte[Side * Side * 4];
            resize.Value!.Resize(renderer.Render(Scenes[i], DrawnSide), small);
            Pixels[i] = small;
        });
    }

    /// <summary>Classes of patches: objects, activities, colours of toys, settings.</summary>
    public static int Classes { get; } = Things.Objects.Count + Things.Activities.Count + Things.Paints.Count + Settings.All.Count;

    /// <summary>Of every channel and byte.</summary>
    private static float[] NormalizedValue { get; } = [.. Enumerable.Range(0, 3 * 256).Select(i =>
        (i % 256 / 255f - ImagePreprocessor.ReferenceMean[i / 256]) / ImagePreprocessor.ReferenceStd[i / 256])];

    public int Side { get; }

    public int PatchesAcross { get; }

    public IReadOnlyList<Scene> Scenes { get; }

    /// <summary>RGBA bytes of every picture, [side, side, 4].</summary>
    private byte[][] Pixels { get; set; }

    public static int ClassOf(Item item) => item.Index + item.Type switch
    {
        ItemType.Object => 0,
        ItemType.Activity => Things.Objects.Count,
        _ => Things.Objects.Count + Things.Activities.Count,
    };

    public static int ClassOfSetting(int setting) => Classes - Settings.All.Count + setting;

    /// <summary>Frees the pictures' memory when their features are known.</summary>
    public void Forget() => Pixels = [];

    /// <summary>A sample as numbers.</summary>
    public TrainingSample Encode(MiniSample sample, int[] pictures) => new(pictures,
        _instruction.EncodeInstruction(sample.Instruction, _config.MaxTextLength), _prompt.EncodePrompt(sample.Instruction),
        [.. _prompt.EncodeText(sample.Output), _prompt.EosTokenId], sample);

    /// <summary>Which classes a picture shows, one after the other.</summary>
    public float[] Present(IReadOnlyList<int> pictures)
    {
        float[] present = new float[pictures.Count * Classes];
        for (int i = 0; i < pictures.Count; i++)
        {
            var scene = Scenes[pictures[i]];
            present[i * Classes + ClassOfSetting(scene.Setting)] = 1;
            foreach (var item in scene.Items)
            {
                present[i * Classes + ClassOf(item)] = 1;
            }
        }
        return present;
    }

    /// <summary>Normalised pictures, [pictures, 3, side, side].</summary>
    /// <param name="pictures">Indices.</param>
    /// <param name="shifts">Pixels to move each by, edges repeated; null: none.</param>
    public float[] Normalized(IReadOnlyList<int> pictures, IReadOnlyList<(int X, int Y)>? shifts = null)
    {
        int plane = Side * Side;
        float[] values = new float[pictures.Count * 3 * plane];
        for (int i = 0; i < pictures.Count; i++)
        {
            byte[] pixels = Pixels[pictures[i]];
            var (dx, dy) = shifts?[i] ?? (0, 0);
            for (int y = 0; y < Side; y++)
            {
                int row = Math.Clamp(y - dy, 0, Side - 1) * Side;
                int to = i * 3 * plane + y * Side;
                for (int x = 0; x < Side; x++, to++)
                {
                    int from = 4 * (row + Math.Clamp(x - dx, 0, Side - 1));
                    values[to] = NormalizedValue[pixels[from]];
                    values[to + plane] = NormalizedValue[256 + pixels[from + 1]];
                    values[to + 2 * plane] = NormalizedValue[512 + pixels[from + 2]];
                }
            }
        }
        return values;
    }

    /// <summary>Class of every patch of a picture. A patch belongs to the topmost item that its middle lies in, else to the
    /// setting.</summary>
    /// <param name="picture">Index.</param>
    /// <param name="shift">Pixels the picture is moved by.</param>
    public long[] PatchLabels(int picture, (int X, int Y) shift = default)
    {
        var scene = Scenes[picture];
        long[] labels = new long[PatchesAcross * PatchesAcross];
        Array.Fill(labels, ClassOfSetting(scene.Setting));
        for (int p = 0; p < labels.Length; p++)
        {
            float x = (p % PatchesAcross + 0.5f) / PatchesAcross - shift.X / (float)Side;
            float y = (p / PatchesAcross + 0.5f) / PatchesAcross - shift.Y / (float)Side;
            foreach (var item in scene.Items)
            {
                float reach = 0.45f * item.Size;
                if ((x - item.X) * (x - item.X) + (y - item.Y) * (y - item.Y) < reach * reach)
                {
                    labels[p] = ClassOf(item);
                }
            }
        }
        return labels;
    }
}
