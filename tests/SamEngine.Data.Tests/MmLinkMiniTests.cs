using SamEngine.Data.Mini;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

/// <summary>What the generator promises.</summary>
public sealed class MmLinkMiniTests
{
    private const int Count = 3000;

    [Fact]
    public void A_group_shares_exactly_one_thing()
    {
        foreach (var sample in Samples(false).Where(s => s.Family == MiniFamily.Group))
        {
            Assert.InRange(sample.Scenes.Count, 2, 5);
            var shared = sample.Scenes[0].Items.Select(i => i.Name).Distinct()
                .Where(n => sample.Scenes.All(s => s.Items.Any(i => i.Name == n))).ToList();
            if (sample.Scenes.All(s => s.Setting == sample.Scenes[0].Setting))
            {
                shared.Add(Settings.All[sample.Scenes[0].Setting].Name);
            }
            Assert.Equal(sample.Required, shared);
        }
    }

    [Fact]
    public void Held_out_pairs_of_object_and_setting_are_in_test_data_only()
    {
        static int HeldOut(MiniSample sample) => sample.Scenes.Sum(s =>
            s.Items.Count(i => i.Type == ItemType.Object && MiniGenerator.IsHeldOut(i.Index, s.Setting)));
        Assert.All(Samples(false), s => Assert.Equal(0, HeldOut(s)));
        Assert.All(Samples(true).Where(s => s.Family == MiniFamily.Story), s => Assert.NotEqual(0, HeldOut(s)));
    }

    [Fact]
    public void Changes_differ_in_one_thing()
    {
        foreach (var sample in Samples(false).Where(s => s.Family == MiniFamily.Change))
        {
            var (before, after) = (sample.Scenes[0], sample.Scenes[1]);
            Assert.Equal(before.BackgroundSeed, after.BackgroundSeed);
            int differences = (before.Setting == after.Setting ? 0 : 1)
                + Math.Max(before.Items.Except(after.Items).Count(), after.Items.Except(before.Items).Count());
            Assert.Equal(1, differences);
        }
    }

    [Fact]
    public void Answers_are_right_by_the_rule_and_wrong_ones_are_not()
    {
        var samples = Samples(true).ToList();
        string[] vocabulary = [.. samples.SelectMany(s => s.Required).Distinct()];
        foreach (var sample in samples)
        {
            Assert.True(AnswerRule.IsRight(sample.Output, sample.Required, vocabulary), sample.Output);
            var other = samples.First(s => s.Family == sample.Family && !s.Required.Intersect(sample.Required).Any());
            Assert.False(AnswerRule.IsRight(other.Output, sample.Required, vocabulary));
            Assert.False(AnswerRule.IsRight(sample.Output + " " + other.Output, sample.Required, vocabulary));
            Assert.False(AnswerRule.IsRight("", sample.Required, vocabulary));
        }
    }

    [Fact]
    public void One_seed_gives_one_list_and_a_longer_list_begins_with_the_shorter()
    {
        string Text(int seed, int count) => string.Join('\n', MmLinkMini.Samples(seed, false, count, null)
            .Select(s => s.Instruction + s.Output + string.Join(' ', s.Scenes.Select(c => c.BackgroundSeed))));
        Assert.Equal(Text(5, 50), Text(5, 50));
        Assert.StartsWith(Text(5, 50), Text(5, 80), StringComparison.Ordinal);
        Assert.NotEqual(Text(5, 50), Text(6, 50));
    }

    [Fact]
    public void There_is_variety()
    {
        Assert.True(Things.Objects.Count >= 60);
        Assert.True(Settings.All.Count >= 12);
        var samples = Samples(false).ToList();
        Assert.True(samples.Select(s => s.Instruction).Distinct().Count() > 300);
        Assert.Equal(Things.Objects.Count, samples.SelectMany(s => s.Scenes).SelectMany(s => s.Items)
            .Where(i => i.Type == ItemType.Object).Select(i => i.Index).Distinct().Count());
    }

    [Fact]
    public void Names_do_not_contain_one_another()
    {
        string[] names = [.. Things.Objects.Select(o => o.Name), .. Things.Activities.Select(a => a.Name),
            .. Things.Paints.Select(p => p.Name), .. Settings.All.Select(s => s.Name)];
        foreach (string name in names)
        {
            Assert.DoesNotContain(names, n => n != name && $" {n} ".Contains($" {name} ", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void A_written_folder_reads_back_and_is_the_same_for_a_seed()
    {
        Assert.SkipUnless(File.Exists(SceneRenderer.DebianFontPath), $"{SceneRenderer.DebianFontPath} is not installed");
        using var folder = new TempFolder();
        var options = new MmLinkMiniOptions { Seed = 3, Train = 4, Test = 4, Side = 112 };
        MmLinkMini.Write(folder["a"], options);
        MmLinkMini.Write(folder["b"], options);
        foreach (string split in (string[])["train", "test"])
        {
            var read = MmLinkDataset.Open(Path.Combine(folder["a"], split));
            Assert.Equal(4, read.Samples.Count);
            foreach (string file in Directory.EnumerateFiles(Path.Combine(folder["a"], split), "*", SearchOption.AllDirectories))
            {
                string other = file.Replace(folder["a"], folder["b"], StringComparison.Ordinal);
                Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(other));
            }
        }
        Assert.Throws<OutputException>(() => MmLinkMini.Write(folder["a"], options));

        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => MmLinkMini.Write(folder["c"], options, new StopsAt(3, stop), stop.Token));
        Assert.Equal([folder["a"], folder["b"]], Directory.EnumerateFileSystemEntries(folder.Path).Order(StringComparer.Ordinal));
    }

    private sealed class StopsAt(int sample, CancellationTokenSource stop) : IProgress<(int Done, int Total)>
    {
        public void Report((int Done, int Total) value)
        {
            if (value.Done == sample)
            {
                stop.Cancel();
            }
        }
    }

    private static IEnumerable<MiniSample> Samples(bool test) => MmLinkMini.Samples(7, test, Count, null);
}
