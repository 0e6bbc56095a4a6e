using System.Diagnostics;
using SamEngine.Checkpoints;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>sam model convert</c> on checkpoints far larger than its memory, to the end and killed on the way.</summary>
public sealed class LargeConversionTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Two_gigabytes_convert_in_less_than_512_MB_of_memory()
    {
        const long Bytes = 2L << 30;
        const long MostMemory = 512L << 20;
        RequireDisk(2 * Bytes + (1L << 30));
        using var temp = new TempFolder();
        var config = WriteLargePort(temp["port"], Bytes);
        var clock = Stopwatch.StartNew();
        long peak = 0;
        using (var run = Convert(temp))
        {
            while (!run.HasExited && clock.Elapsed < TimeSpan.FromMinutes(5))
            {
                peak = Math.Max(peak, run.AnonymousMemory() ?? 0);
                await Task.Delay(10);
            }
            var result = await run.EndAsync();
            Assert.True(result.ExitCode == 0, result.ToString());
        }
        output.WriteLine($"converted {Bytes >> 20} MiB in {clock.Elapsed.TotalSeconds:0.0} s, at most {peak >> 20} MiB of anonymous memory");
        Assert.InRange(peak, 1, MostMemory);
        using var checkpoint = SamCheckpoint.Open(temp["out"]);
        CheckpointShapes.Check(checkpoint);
        Assert.Equal(config.Llm, checkpoint.Config.Llm);
        var head = checkpoint.Get(SamCheckpoint.HeadName, config.Llm.VocabularySize, config.Llm.HiddenSize);
        Assert.Equal(TensorDType.F16, head.DType);
        Assert.Equal(Block()[..1000], head.Slice(0, 1000).ToArray());
    }

    [Fact]
    public async Task A_killed_conversion_leaves_no_folder_that_looks_complete()
    {
        const long Bytes = 256L << 20;
        RequireDisk(4 * Bytes);
        using var temp = new TempFolder();
        WriteLargePort(temp["port"], Bytes);
        // As soon as there are weights in the folder it writes to. A shell looks for them all the time: this process may have so much
        // else to do that the conversion would have ended.
        var killed = await ProcessRun.RunAsync("bash", ["-c", """
            "$@" &
            until compgen -G "out.partial-*/*" > /dev/null || ! kill -0 $! 2> /dev/null; do :; done
            kill -KILL $!
            wait $!
            """, "bash", Built.Sam, .. Arguments(temp)], temp.Path);
        Assert.True(killed.ExitCode == 137, killed.ToString());
        Assert.False(Directory.Exists(temp["out"]));
        string left = Assert.Single(Partial(temp));
        var error = Assert.Throws<CheckpointException>(() => SamCheckpoint.Open(left));
        Assert.Contains("has no config.json", error.Message, StringComparison.Ordinal);

        using var again = Convert(temp);
        var result = await again.EndAsync();
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains(Path.GetFileName(left) + " is from a conversion that did not end", result.Error, StringComparison.Ordinal);
        using var checkpoint = SamCheckpoint.Open(temp["out"]);
        CheckpointShapes.Check(checkpoint);
    }

    private static string[] Arguments(TempFolder temp) => ["model", "convert", "--hf", temp["port"], "-o", temp["out"], "--dtype", "f16"];

    private static ProcessRun Convert(TempFolder temp) => ProcessRun.Start(Built.Sam, Arguments(temp));

    private static IEnumerable<string> Partial(TempFolder temp) => Directory.EnumerateDirectories(temp.Path, "out.partial-*");

    private static void RequireDisk(long bytes)
    {
        long free = new DriveInfo(Path.GetTempPath()).AvailableFreeSpace;
        Assert.SkipWhen(free < bytes, $"{Path.GetTempPath()} has {free >> 20} MiB free, this test needs {bytes >> 20}");
    }

    /// <summary>A model of the port's form in sharded torch files, of this size in half precision: one block of noise,
    /// repeated.</summary>
    private static SamConfig WriteLargePort(string folder, long bytes)
    {
        const int Width = 2048;
        const int Hidden = 5504;
        const long LayerBytes = 2 * (4L * Width * Width + 3L * Width * Hidden);
        var config = TinyModel.Config with
        {
            Llm = TinyModel.Config.Llm with
            {
                HiddenSize = Width,
                IntermediateSize = Hidden,
                Layers = (int)(bytes / LayerBytes) + 1,
                Heads = 16,
                KeyValueHeads = 16,
            },
        };
        byte[] block = Block();
        PortWriter.Write(folder, [.. RandomModelWriter.Tensors(config).Select(t => new TensorSource(t.Name, TensorDType.F16, t.Shape,
            () => Pieces(block, SafetensorsWriter.ByteLength(TensorDType.F16, t.Shape))))], config, torch: true);
        return config;
    }

    private static IEnumerable<ReadOnlyMemory<byte>> Pieces(byte[] block, long bytes)
    {
        for (long at = 0; at < bytes; at += block.Length)
        {
            yield return block.AsMemory(0, (int)Math.Min(block.Length, bytes - at));
        }
    }

    /// <summary>Halves below 2: none of them is NaN or infinite.</summary>
    private static byte[] Block()
    {
        byte[] block = new byte[1 << 20];
        new Random(1).NextBytes(block);
        for (int i = 1; i < block.Length; i += 2)
        {
            block[i] &= 0xBF;
        }
        return block;
    }
}
