using System.Text.Json;
using SamEngine.Bench.Compare;
using Xunit;

namespace SamEngine.Bench.Tests;

/// <summary>What is made of the children's reports.</summary>
public sealed class ComparisonTests
{
    private const string Own = "SamEngine q4";

    [Fact]
    public void Ratios_are_taken_inside_a_round()
    {
        // The machine halves its speed in the second round: times differ, the ratio does not.
        var comparison = Make([Report(Own, (WorkItems.Decode, 1)), Report("llama", (WorkItems.Decode, 2))],
            [Report("llama", (WorkItems.Decode, 4)), Report(Own, (WorkItems.Decode, 2))]);
        var ours = comparison.Series.Single(s => s.Contender == Own);
        var theirs = comparison.Series.Single(s => s.Contender == "llama");
        Assert.Equal(new Spread(3, 2, 4), theirs.Seconds);
        Assert.Equal(new Spread(2, 2, 2), theirs.RatioTo(ours));
    }

    [Fact]
    public void A_round_in_which_a_child_failed_is_left_out_of_its_ratio_only()
    {
        var comparison = Make([Report(Own, (WorkItems.Decode, 1)), Report("llama", (WorkItems.Decode, 3))], [Report(Own, (WorkItems.Decode, 1))]);
        var theirs = comparison.Series.Single(s => s.Contender == "llama");
        Assert.Equal(new Spread(3, 3, 3), theirs.RatioTo(comparison.Series.Single(s => s.Contender == Own)));
        Assert.Equal(1, comparison.Series.Single(s => s.Contender == Own).Seconds.Median);
    }

    [Fact]
    public void A_whole_request_is_set_against_the_best_peer_of_each_part()
    {
        var comparison = Make([Report(Own, (WorkItems.Picture, 0.01), (WorkItems.Vision5, 5), (WorkItems.QFormer5, 0.3), (WorkItems.Prefill, 3),
                (WorkItems.Beam5, 0.2), (WorkItems.Request5, 20)),
            Report("slow", (WorkItems.Vision5, 7), (WorkItems.Prefill, 9), (WorkItems.Beam5, 0.4)),
            Report("fast", (WorkItems.Vision5, 4), (WorkItems.Beam5, 0.5)), Report("Pillow", (WorkItems.Picture, 0.02))]);
        var sum = comparison.Series.Single(s => s.Contender == Comparison.Sum);
        Assert.Equal((5 * 0.02) + 4 + 0.3 + 9 + (59 * 0.4), sum.Seconds.Median, 1e-9);
        Assert.Contains("no peer does qformer-5", sum.Note, StringComparison.Ordinal);
        Assert.Contains("vision-5 fast", sum.Note, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_all_parts_there_is_no_sum()
    {
        var comparison = Make([Report(Own, (WorkItems.Request5, 20), (WorkItems.Prefill, 3)), Report("llama", (WorkItems.Prefill, 9))]);
        Assert.DoesNotContain(comparison.Series, s => s.Contender == Comparison.Sum);
    }

    [Fact]
    public void Absent_peers_failures_and_ratios_are_printed_and_in_the_json()
    {
        var comparison = new Comparison([Own], [[Report(Own, (WorkItems.Decode, 0.1)), Report("llama", (WorkItems.Decode, 0.25))]],
            [("Pillow", "no --python PATH given")], ["round 1: torch: ended with exit code 3"], 224, 2, [s_probe]);
        var text = new StringWriter();
        comparison.Print(text);
        Assert.Contains("ABSENT: Pillow: no --python PATH given", text.ToString(), StringComparison.Ordinal);
        Assert.Contains("FAILED: round 1: torch: ended with exit code 3", text.ToString(), StringComparison.Ordinal);
        Assert.Contains("| llama | q4_0 | 250 ms (250 ms to 250 ms) | 4.00 | 2.50 (2.50 to 2.50) |", text.ToString(), StringComparison.Ordinal);
        using var json = new MemoryStream();
        comparison.WriteJson(json);
        using var document = JsonDocument.Parse(json.ToArray());
        Assert.Equal("Pillow: no --python PATH given", document.RootElement.GetProperty("absent")[0].GetString());
        Assert.Equal(2.5, document.RootElement.GetProperty("series")[1].GetProperty("ratio_to").GetProperty(Own)[0].GetDouble());
    }

    [Fact]
    public void The_chart_is_a_png_with_a_panel_for_each_item()
    {
        using var chart = new ComparisonChart();
        var comparison = Make([Report(Own, (WorkItems.Decode, 0.1), (WorkItems.Prefill, 3)), Report("llama", (WorkItems.Decode, 0.25))]);
        using var one = SkiaSharp.SKBitmap.Decode(chart.Draw([.. comparison.Series.Where(s => s.Item == WorkItems.Decode)], [Own]));
        using var two = SkiaSharp.SKBitmap.Decode(chart.Draw(comparison.Series, [Own]));
        Assert.True(two.Height > one.Height);
        // Our bar is blue, the peer's grey.
        Assert.Contains(one.Pixels, p => p == new SkiaSharp.SKColor(0x1F, 0x77, 0xB4));
        Assert.Contains(one.Pixels, p => p == new SkiaSharp.SKColor(0xB8, 0xB8, 0xB8));
    }

    [Fact]
    public void Llama_bench_json_is_read()
    {
        var rows = LlamaOutput.ParseBench("x", """
            [ { "n_prompt": 224, "n_gen": 0, "avg_ts": 20.1, "samples_ns": [ 11000000000, 12000000000 ] },
              { "n_prompt": 0, "n_gen": 32, "samples_ns": [ 4000000000 ] } ]
            """);
        Assert.Equal((224, 0), (rows[0].Prompt, rows[0].Generated));
        Assert.Equal([11.0, 12.0], rows[0].Seconds);
        Assert.Equal(32, rows[1].Generated);
        Assert.Contains("llama-bench printed no JSON", Assert.Throws<ContenderException>(() => LlamaOutput.ParseBench("x", "error: no model")).Message,
            StringComparison.Ordinal);
        Assert.Throws<ContenderException>(() => LlamaOutput.ParseBench("x", """[ { "n_prompt": 1 } ]"""));
    }

    [Fact]
    public void Llama_batched_bench_is_read_as_json_lines_and_as_a_table()
    {
        var lines = LlamaOutput.ParseBatchedBench("x", """
            {"n_kv_max": 512, "pp": 224, "tg": 32, "pl": 1, "n_kv": 256, "t_pp": 8.000000, "t_tg": 4.000000}
            {"n_kv_max": 512, "pp": 224, "tg": 32, "pl": 5, "n_kv": 384, "t_pp": 8.500000, "t_tg": 12.800000}
            """);
        var table = LlamaOutput.ParseBatchedBench("x", """
            main: n_kv_max = 512, n_batch = 2048

            |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
            |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
            |   224 |     32 |    1 |    256 |    8.000 |    28.00 |    4.000 |     8.00 |   12.000 |    21.33 |
            |   224 |     32 |    5 |    384 |    8.500 |    26.35 |   12.800 |    12.50 |   21.300 |    18.03 |
            """);
        Assert.Equal([(1, 8.0, 0.125), (5, 8.5, 0.4)], lines);
        Assert.Equal(lines, table);
        Assert.Contains("no such file", Assert.Throws<ContenderException>(() => LlamaOutput.ParseBatchedBench("x", "no such file")).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_child_that_fails_or_hangs_says_so()
    {
        var none = TestContext.Current.CancellationToken;
        var failed = await Assert.ThrowsAsync<ContenderException>(() => ChildProcess.RunAsync("peer", "/bin/sh", ["-c", "echo reason >&2; exit 7"],
            TimeSpan.FromMinutes(1), none));
        Assert.Equal("peer: ended with exit code 7: reason", failed.Message);
        var slow = await Assert.ThrowsAsync<ContenderException>(() => ChildProcess.RunAsync("peer", "/bin/sh", ["-c", "sleep 60"],
            TimeSpan.FromMilliseconds(200), none));
        Assert.Contains("--limit-minutes", slow.Message, StringComparison.Ordinal);
        var absent = await Assert.ThrowsAsync<ContenderException>(() => ChildProcess.RunAsync("peer", "/no/such/program", [], TimeSpan.FromMinutes(1), none));
        Assert.Contains("can't be started", absent.Message, StringComparison.Ordinal);
        var done = await ChildProcess.RunAsync("peer", "/bin/sh", ["-c", "sleep 0.2; echo hello"], TimeSpan.FromMinutes(1), none);
        Assert.Equal("hello\n", done.Output);
        Assert.True(done.PeakResidentBytes > 0, "memory was not seen");
        Assert.True(done.Seconds >= 0.2, "a process that sleeps took no time");
    }

    [Fact]
    public void A_report_that_is_none_is_refused()
    {
        Assert.Throws<ContenderException>(() => ContenderReport.Parse("x", "Segmentation fault"));
        Assert.Throws<ContenderException>(() => ContenderReport.Parse("x", """{ "engine": "e" }"""));
        var report = new ContenderReport("e", [new Measurement(WorkItems.Decode, "q4", [0.5, 0.25, 0.75])]);
        Assert.Equal(0.5, ContenderReport.Parse("x", report.ToJson()).Items[0].Median);
    }

    private static readonly Ceilings s_probe = new(2, 30e9, new Dictionary<string, double> { ["128 bit"] = 1e11 }, new Dictionary<string, double>());

    private static Comparison Make(params IReadOnlyList<(string, ContenderReport)>[] rounds) => new([Own], rounds, [], [], 224, 2, [s_probe]);

    private static (string, ContenderReport) Report(string name, params (string Item, double Seconds)[] items) =>
        (name, new ContenderReport(name, [.. items.Select(i => new Measurement(i.Item, name == Own ? "q4" : "q4_0", [i.Seconds]))]));
}
