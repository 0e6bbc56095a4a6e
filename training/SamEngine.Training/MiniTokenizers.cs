using System.Diagnostics;
using System.Text.RegularExpressions;
using SamEngine.Data.Mini;
using SamEngine.Text;

namespace SamEngine.Training;

/// <summary>The two tokenizers of SAM-mini, made from the texts of its training data: real formats, small vocabularies.</summary>
internal static partial class MiniTokenizers
{
    private const int SentencePieces = 1500;

    /// <summary>Makes tokenizer.model and vocab.txt in a folder, where they are not there yet.</summary>
    public static (QFormerTokenizer Instruction, VicunaTokenizer Prompt) Make(string folder)
    {
        string vocabulary = Path.Combine(folder, "vocab.txt");
        string model = Path.Combine(folder, "tokenizer.model");
        if (!File.Exists(vocabulary) || !File.Exists(model))
        {
            Directory.CreateDirectory(folder);
            string corpus = Path.Combine(folder, "corpus.txt");
            var lines = Corpus().ToList();
            File.WriteAllLines(corpus, lines);
            WriteVocabulary(vocabulary, lines);
            string prefix = Path.Combine(folder, "tokenizer");
            using var train = Process.Start(new ProcessStartInfo("spm_train",
            [
                $"--input={corpus}", $"--model_prefix={prefix}", $"--vocab_size={SentencePieces}", "--model_type=bpe",
                "--byte_fallback=true", "--normalization_rule_name=identity", "--add_dummy_prefix=true",
                "--remove_extra_whitespaces=false", "--character_coverage=1.0", "--split_digits=true",
                "--allow_whitespace_only_pieces=true",
            ])
            { RedirectStandardError = true })!;
            string log = train.StandardError.ReadToEnd();
            train.WaitForExit();
            if (train.ExitCode != 0)
            {
                throw new InvalidOperationException("spm_train (Debian: apt install sentencepiece) failed: " + log);
            }
        }
        return (QFormerTokenizer.Load(vocabulary), VicunaTokenizer.Load(model));
    }

    /// <summary>Texts of many samples, all families.</summary>
    private static IEnumerable<string> Corpus()
    {
        var generator = new MiniGenerator(20261123, test: false);
        for (int i = 0; i < 12000; i++)
        {
            var sample = generator.Next((MiniFamily)(i % 4), Placement.Free);
            yield return sample.Instruction;
            yield return sample.Output;
        }
    }

    private static void WriteVocabulary(string path, List<string> lines)
    {
        string[] words = [.. lines.SelectMany(l => Words().Matches(l.ToLowerInvariant()).Select(m => m.Value))
            .GroupBy(w => w).OrderByDescending(g => g.Count()).ThenBy(g => g.Key, StringComparer.Ordinal).Select(g => g.Key)];
        var ascii = Enumerable.Range(33, 94).Select(c => (char)c).Where(c => !char.IsUpper(c)).Select(c => c.ToString()).ToList();
        File.WriteAllLines(path, ((string[])["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]).Concat(ascii)
            .Concat(ascii.Where(c => char.IsLetterOrDigit(c[0])).Select(c => "##" + c))
            .Concat(words.Where(w => w.Length > 1)));
    }

    [GeneratedRegex("[a-z]+")]
    private static partial Regex Words();
}
