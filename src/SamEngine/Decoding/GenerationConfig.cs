using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using SamEngine.Checkpoints;
using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine.Decoding;

/// <summary>A model folder's generation defaults: <c>generation_config.json</c> with transformers' names. A key that nobody
/// knows, a value out of range and a way of decoding that is not computed here are errors: a text made otherwise than the
/// file says would go unnoticed.</summary>
internal static partial class GenerationConfig
{
    private const string MaxLength = "max_length";
    private const string MaxNewTokens = "max_new_tokens";
    private const string MinLength = "min_length";
    private const string MinNewTokens = "min_new_tokens";

    /// <summary>Keys that are defaults here.</summary>
    private static readonly string[] Understood = ["num_beams", MaxLength, MaxNewTokens, MinLength, MinNewTokens,
        "repetition_penalty", "length_penalty", "do_sample", "temperature", "top_k", "top_p", "stop_strings",
        "num_return_sequences", "suppress_tokens"];

    /// <summary>Ids that config.json states.</summary>
    private static readonly string[] Ids = ["bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"];

    /// <summary>Keys that say nothing about which text comes out.</summary>
    private static readonly HashSet<string> WithoutEffect = new(StringComparer.Ordinal)
    {
        "_from_model_config", "_commit_hash", "_original_object_hash", "transformers_version", "generation_kwargs", "use_cache",
        "cache_implementation", "cache_config", "return_legacy_cache", "low_memory", "output_attentions",
        "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "is_assistant",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_early_exit",
        "assistant_lookbehind", "target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size",
        "prefill_chunk_size", "compile_config", "disable_compile",
    };

    /// <summary>Ways of decoding that are not computed here, with the value that switches each off; null: it has none.</summary>
    private static readonly Dictionary<string, double?> SwitchedOff = new(StringComparer.Ordinal)
    {
        ["early_stopping"] = 0,
        ["num_beam_groups"] = 1,
        ["diversity_penalty"] = 0,
        ["no_repeat_ngram_size"] = 0,
        ["encoder_no_repeat_ngram_size"] = 0,
        ["encoder_repetition_penalty"] = 1,
        ["typical_p"] = 1,
        ["min_p"] = 0,
        ["epsilon_cutoff"] = 0,
        ["eta_cutoff"] = 0,
        ["penalty_alpha"] = 0,
        ["guidance_scale"] = 1,
        ["renormalize_logits"] = 0,
        ["remove_invalid_values"] = 0,
        ["token_healing"] = 0,
        ["top_h"] = null,
        ["exponential_decay_length_penalty"] = null,
        ["forced_bos_token_id"] = null,
        ["forced_eos_token_id"] = null,
        ["forced_decoder_ids"] = null,
        ["begin_suppress_tokens"] = null,
        ["bad_words_ids"] = null,
        ["force_words_ids"] = null,
        ["constraints"] = null,
        ["sequence_bias"] = null,
        ["watermarking_config"] = null,
        ["dola_layers"] = null,
        ["max_time"] = null,
    };

    /// <summary>What requests to this model take where they say nothing themselves.</summary>
    /// <param name="checkpoint">The model folder.</param>
    /// <param name="prompt">Its prompt tokenizer, where it has one.</param>
    /// <exception cref="CheckpointException">The folder's file can't be used; the message names file and key.</exception>
    public static GenerationOptions DefaultsOf(SamCheckpoint checkpoint, VicunaTokenizer? prompt)
    {
        var llm = checkpoint.Config.Llm;
        // The ids that the published port states contradict its tokenizer (see PortConfig).
        var defaults = checkpoint.GenerationConfigPath is { } path ? Load(path, llm, checkIds: !checkpoint.IsPort)
            : new GenerationOptions();
        if (checkpoint.IsPort && prompt is not null && prompt.PadTokenId < llm.VocabularySize)
        {
            // The port's [PAD] row was never trained; our own folders say so in their generation defaults.
            defaults = defaults with { SuppressTokens = defaults.SuppressTokens ?? [prompt.PadTokenId] };
        }
        return defaults;
    }

    /// <summary>Options under the file's names, as text; what is left null is left out.</summary>
    public static IReadOnlyList<(string Key, string Value)> Named(GenerationOptions options)
    {
        var named = new List<(string, string)>();
        void Add(string key, object? value)
        {
            if (value is not null)
            {
                named.Add((key, value is bool flag ? flag ? "true" : "false" : Convert.ToString(value, CultureInfo.InvariantCulture)!));
            }
        }
        Add("num_beams", options.NumBeams);
        Add(MaxLength, options.MaxLength);
        Add(MinLength, options.MinLength);
        Add("repetition_penalty", options.RepetitionPenalty);
        Add("length_penalty", options.LengthPenalty);
        Add("do_sample", options.DoSample);
        Add("temperature", options.Temperature);
        Add("top_k", options.TopK);
        Add("top_p", options.TopP);
        Add("stop_strings", options.StopStrings is { } stops ? string.Join(" ", stops.Select(s => $"'{s}'")) : null);
        Add("num_return_sequences", options.NumReturnSequences);
        Add("suppress_tokens", options.SuppressTokens is { } ids ? string.Join(" ", ids) : null);
        return named;
    }

    /// <summary>The file's name of an option that a request leaves to the folder; null where the request sets it or the folder does
    /// not.</summary>
    public static string? KeyIfTakenFrom(GenerationOptions folder, GenerationOptions request, string option)
    {
        string key = KeyOf(option);
        return Named(folder).Any(n => n.Key == key) && !Named(request).Any(n => n.Key == key)
            ? key == MaxLength ? $"{MaxLength} or {MaxNewTokens}" : key == MinLength ? $"{MinLength} or {MinNewTokens}" : key : null;
    }

    /// <summary>Reads and checks a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="llm">The language model whose defaults they are.</param>
    /// <param name="checkIds">Whether the ids it states must be those of <paramref name="llm"/>.</param>
    /// <exception cref="CheckpointException">Not readable, a key that is not known or there twice, a value of the wrong kind, out
    /// of range, or asking for what is not computed here.</exception>
    public static GenerationOptions Load(string path, LlamaConfig llm, bool checkIds = true)
    {
        try
        {
            using var json = JsonDocument.Parse(SmallFile.Read(path, SamConfig.MostBytes), new JsonDocumentOptions { MaxDepth = 16 });
            if (json.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new CheckpointException(path, $"is {json.RootElement.ValueKind}, expected a JSON object");
            }
            var values = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
            var keys = new HashSet<string>(StringComparer.Ordinal);
            foreach (var property in json.RootElement.EnumerateObject())
            {
                if (!keys.Add(property.Name))
                {
                    throw new CheckpointException(path, $"'{Short(property.Name)}' is there twice; keep one");
                }
                // null is transformers' way of saying nothing.
                if (property.Value.ValueKind != JsonValueKind.Null)
                {
                    values.Add(property.Name, property.Value);
                }
                CheckKey(path, property.Name, property.Value);
            }
            if (checkIds)
            {
                CheckIds(path, values, llm);
            }
            return Read(path, values, llm);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    private static void CheckKey(string path, string key, JsonElement found)
    {
        if (SwitchedOff.TryGetValue(key, out double? off))
        {
            double? value = found.ValueKind switch
            {
                JsonValueKind.False => 0,
                JsonValueKind.True => 1,
                JsonValueKind.Number => found.GetDouble(),
                _ => null,
            };
            if (found.ValueKind != JsonValueKind.Null && (value is null || value != off))
            {
                throw Wrong(path, key, found, off is not { } none ? "null"
                    : found.ValueKind == JsonValueKind.True ? "false (off)" : Invariant($"{none} (off)"),
                    "; this is not computed here, remove it");
            }
        }
        else if (!Understood.Contains(key) && !Ids.Contains(key) && !WithoutEffect.Contains(key))
        {
            throw new CheckpointException(path, $"'{Short(key)}' is not a key that is known here; correct or remove it " +
                $"(defaults can be: {string.Join(", ", Understood)})");
        }
    }

    /// <summary>The engine takes its ids from config.json; a file that states others belongs to another model.</summary>
    private static void CheckIds(string path, Dictionary<string, JsonElement> values, LlamaConfig llm)
    {
        void Require(string key, int expected, string what)
        {
            // Several end ids are a list, and a list of one is the same as its id.
            if (values.TryGetValue(key, out var found)
                && !(Is(found, expected) || found.ValueKind == JsonValueKind.Array && found.GetArrayLength() == 1 && Is(found[0], expected)))
            {
                throw Wrong(path, key, found, $"{expected}, the {what} in {SamCheckpoint.ConfigName}");
            }
        }
        static bool Is(JsonElement found, int id) =>
            found.ValueKind == JsonValueKind.Number && found.TryGetInt32(out int value) && value == id;
        Require("bos_token_id", llm.BosTokenId, "start id");
        Require("decoder_start_token_id", llm.BosTokenId, "start id");
        Require("eos_token_id", llm.EosTokenId, "end id");
        // Nothing is padded here, and transformers' files name any id for it, or -1.
        if (values.TryGetValue("pad_token_id", out var pad) && !(pad.ValueKind == JsonValueKind.Number
            && pad.TryGetInt32(out int padId) && padId >= -1 && padId < llm.VocabularySize))
        {
            throw Wrong(path, "pad_token_id", pad, $"-1 (none) to {llm.VocabularySize - 1}, the rows of the model");
        }
    }

    private static GenerationOptions Read(string path, Dictionary<string, JsonElement> values, LlamaConfig llm)
    {
        int? Int(string key) => !values.TryGetValue(key, out var v) ? null
            : v.ValueKind == JsonValueKind.Number && v.TryGetInt32(out int i) ? i : throw Wrong(path, key, v, "a whole number");
        float? Float(string key) => !values.TryGetValue(key, out var v) ? null
            : v.ValueKind == JsonValueKind.Number && v.TryGetSingle(out float f) ? f : throw Wrong(path, key, v, "a number");
        bool? Bool(string key) => !values.TryGetValue(key, out var v) ? null
            : v.ValueKind is JsonValueKind.True or JsonValueKind.False ? v.GetBoolean() : throw Wrong(path, key, v, "true or false");
        string Text(string key, JsonElement v) => v.ValueKind == JsonValueKind.String ? v.GetString()!
            : throw Wrong(path, key, v, "a text");
        // Lengths count the start id, new tokens do not.
        int? Counted(string key) => Int(key) is { } n ? (int)Math.Min(n + 1L, int.MaxValue) : null;

        // As in transformers: of the two upper limits the new tokens' counts, of the two lower ones the larger.
        string maxKey = values.ContainsKey(MaxNewTokens) ? MaxNewTokens : MaxLength;
        int? minLength = Int(MinLength);
        int? minNew = Counted(MinNewTokens);
        string minKey = minNew is not null && !(minLength > minNew) ? MinNewTokens : MinLength;
        var options = new GenerationOptions
        {
            NumBeams = Int("num_beams"),
            MaxLength = Counted(MaxNewTokens) ?? Int(MaxLength),
            MinLength = minKey == MinNewTokens ? minNew : minLength,
            RepetitionPenalty = Float("repetition_penalty"),
            LengthPenalty = Float("length_penalty"),
            DoSample = Bool("do_sample"),
            Temperature = Float("temperature"),
            TopK = Int("top_k"),
            TopP = Float("top_p"),
            StopStrings = !values.TryGetValue("stop_strings", out var stops) ? null
                : stops.ValueKind == JsonValueKind.Array ? [.. stops.EnumerateArray().Select(s => Text("stop_strings", s))]
                : [Text("stop_strings", stops)],
            NumReturnSequences = Int("num_return_sequences"),
            SuppressTokens = !values.TryGetValue("suppress_tokens", out var ids) ? null
                : ids.ValueKind == JsonValueKind.Array
                    ? [.. ids.EnumerateArray().Select(v => v.ValueKind == JsonValueKind.Number && v.TryGetInt32(out int id) ? id
                        : throw Wrong(path, "suppress_tokens", v, "whole numbers"))]
                    : throw Wrong(path, "suppress_tokens", ids, "a list of ids"),
        };
        try
        {
            GenerationSettings.Create(options, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        }
        catch (RequestException e)
        {
            string key = e.Option switch
            {
                nameof(GenerationOptions.MaxLength) when maxKey == MaxNewTokens => $"'{maxKey}', as {MaxLength},",
                nameof(GenerationOptions.MinLength) when minKey == MinNewTokens => $"'{minKey}', as {MinLength},",
                _ => $"'{KeyOf(e.Option)}'",
            };
            throw new CheckpointException(path, $"{key} {OptionName().Replace(e.Message[(e.Option.Length + 2)..],
                m => KeyOf(m.Value))}", e);
        }
        return options;
    }

    private static CheckpointException Wrong(string path, string key, JsonElement found, string expected, string advice = "") =>
        new(path, $"'{key}' is {Short(found.GetRawText())}, expected {expected}{advice}");

    private static string Short(string text) => text.Length > 80 ? text[..80] + "…" : text;

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    /// <summary>The file's name of an option: transformers' names are the same words.</summary>
    private static string KeyOf(string option) => JsonNamingPolicy.SnakeCaseLower.ConvertName(option);

    /// <summary>An option's name in a message.</summary>
    [GeneratedRegex(@"\b(?:[A-Z][a-z]+){2,}\b")]
    private static partial Regex OptionName();
}
