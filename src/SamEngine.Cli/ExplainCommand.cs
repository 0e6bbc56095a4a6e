using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using SkiaSharp;

namespace SamEngine.Cli;

/// <summary><c>sam explain</c>: what the engine looked at, as heat maps over the pictures.</summary>
internal static partial class ExplainCommand
{
    private const int Gap = 8;

    public static Command Create()
    {
        var images = CommandOptions.Pictures();
        var prompt = new Option<string>("--prompt", "-p")
        {
            Description = "What to say about them",
            DefaultValueFactory = _ => DescribeCommand.DefaultPrompt,
        };
        var output = CommandOptions.Path("--out", "Folder for the maps, sheet.png and explanation.json", "-o");
        output.Required = true;
        var guidance = CommandOptions.Choice<Guidance>("--guidance", "Whether the pictures guide each other (auto: where the model can)");
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Nothing but the text and errors" };
        var command = new Command("explain", "Answer, and draw what the answer rests on") { images, prompt, output, guidance, quiet };
        var model = new ModelOptions();
        model.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            var pictures = CommandOptions.ReadPictures(parsed, images);
            string folder = parsed.GetRequiredValue(output)!;
            OutputFolder.Require(folder, mustBeEmpty: false);
            using var loaded = await model.LoadAsync(parsed, parsed.GetValue(quiet), cancellation);
            // Read once, for the model and for the maps: a pipe gives its picture only once.
            pictures = [.. pictures.Select((p, i) => SamImage.FromBytes(p.ReadEncoded(i, new ImageLimits(), cancellation), p.Name))];
            var explanation = await loaded.ExplainAsync(new DescribeRequest
            {
                Images = pictures,
                Prompt = parsed.GetRequiredValue(prompt),
                Guidance = parsed.GetValue(guidance) ?? Guidance.Auto,
            }, cancellation);
            Directory.CreateDirectory(folder);
            var columns = Draw(explanation, pictures, folder);
            WriteJson(explanation, loaded.Info.Folder, Path.Combine(folder, "explanation.json"));
            foreach (string map in Directory.EnumerateFiles(folder, "*-*.png"))
            {
                // Of an earlier answer about more pictures, or with guidance.
                if (MapName().Match(Path.GetFileName(map)) is { Success: true } name
                    && (int.Parse(name.Groups[1].Value, CultureInfo.InvariantCulture) > pictures.Count || !columns.Contains(name.Groups[2].Value)))
                {
                    File.Delete(map);
                }
            }
            Console.Out.WriteLine(explanation.Result.Text);
            if (!parsed.GetValue(quiet))
            {
                await Console.Error.WriteLineAsync($"wrote {folder}; columns of sheet.png: {string.Join(" | ", columns)}");
            }
            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>One file per map, and all of them on a sheet with a row for every picture; returns the columns' names.</summary>
    private static List<string> Draw(Explanation explanation, IReadOnlyList<SamImage> pictures, string folder)
    {
        // Colours span the least to the strongest patch of a column, so that pictures compare.
        var columns = new List<(string Name, Func<int, IReadOnlyList<float>> Of)>();
        if (explanation.ImageWeights.Count > 0)
        {
            columns.Add(("weight", i => explanation.ImageWeights[i]));
        }
        foreach (var group in explanation.CrossAttention.GroupBy(m => (m.Stream, m.Layer)).OrderBy(g => g.Key))
        {
            var maps = group.ToList();
            columns.Add(($"stream{group.Key.Stream}-layer{group.Key.Layer}", i => maps.Single(m => (m.Image ?? i) == i).Patches));
        }
        int side = HeatMap.Side + Gap;
        using var sheet = new SKBitmap((columns.Count + 1) * side + Gap, pictures.Count * side + Gap);
        using var canvas = new SKCanvas(sheet);
        canvas.Clear(SKColors.White);
        for (int i = 0; i < pictures.Count; i++)
        {
            using var map = new HeatMap(pictures[i], i);
            canvas.DrawBitmap(map.Picture, Gap, Gap + i * side);
            for (int c = 0; c < columns.Count; c++)
            {
                float low = Enumerable.Range(0, pictures.Count).Min(j => columns[c].Of(j).Min());
                float high = Enumerable.Range(0, pictures.Count).Max(j => columns[c].Of(j).Max());
                using var drawn = map.Over(columns[c].Of(i), explanation.PatchesAcross, low, high);
                canvas.DrawBitmap(drawn, Gap + (c + 1) * side, Gap + i * side);
                Save(drawn, Path.Combine(folder, $"{i + 1}-{columns[c].Name}.png"));
            }
        }
        Save(sheet, Path.Combine(folder, "sheet.png"));
        return ["picture", .. columns.Select(c => c.Name)];
    }

    [GeneratedRegex(@"^(\d{1,9})-(weight|stream\d+-layer\d+)\.png$")]
    private static partial Regex MapName();

    private static void Save(SKBitmap bitmap, string path)
    {
        // Encoded first: an exception of the file must not pass through the native encoder.
        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        try
        {
            File.WriteAllBytes(path, png.AsSpan());
        }
        catch (IOException)
        {
            File.Delete(path);
            throw;
        }
    }

    private static void WriteJson(Explanation explanation, string model, string path)
    {
        using var stream = File.Create(path);
        using var json = new Utf8JsonWriter(stream, Json.Options);
        void Values(IReadOnlyList<float> values)
        {
            json.WriteStartArray();
            foreach (float value in values)
            {
                json.WriteNumberValue(value);
            }
            json.WriteEndArray();
        }
        json.WriteStartObject();
        json.WriteString("model", model);
        json.WriteString("text", explanation.Result.Text);
        json.WriteBoolean("guided", explanation.Result.Guided);
        json.WriteNumber("patches_across", explanation.PatchesAcross);
        json.WriteStartArray("image_weights");
        foreach (var weights in explanation.ImageWeights)
        {
            Values(weights);
        }
        json.WriteEndArray();
        json.WriteStartArray("cross_attention");
        foreach (var map in explanation.CrossAttention)
        {
            json.WriteStartObject();
            json.WriteNumber("layer", map.Layer);
            json.WriteNumber("stream", map.Stream);
            if (map.Image is { } image)
            {
                json.WriteNumber("image", image);
            }
            else
            {
                json.WriteNull("image");
            }
            json.WritePropertyName("patches");
            Values(map.Patches);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }
}
