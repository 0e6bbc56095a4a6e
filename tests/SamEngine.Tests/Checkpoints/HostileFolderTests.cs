using System.Runtime.InteropServices;
using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

/// <summary>Folders whose index, links or small files lie: nothing outside is read, and nothing is waited for.</summary>
public sealed partial class HostileFolderTests
{
    [Theory]
    [InlineData("../x", "expected a plain file name")]
    [InlineData("..", "expected a plain file name")]
    [InlineData(".", "expected a plain file name")]
    [InlineData("", "expected a plain file name")]
    [InlineData("/etc/passwd", "expected a plain file name")]
    [InlineData("sub/one.safetensors", "expected a plain file name")]
    [InlineData("..\\one.safetensors", "expected a plain file name")]
    [InlineData("one.safetensors\0", "expected a plain file name")]
    [InlineData("missing.safetensors", "which is not in the folder")]
    [InlineData("folder", "which is not in the folder")]
    [InlineData("dev-zero", "outside the model folder")]
    [InlineData("outside", "outside the model folder")]
    [InlineData("dangling", "which is not in the folder", "outside the model folder")]
    [InlineData("loop", "a link that can't be followed")]
    [InlineData("through", "outside the model folder")]
    [InlineData("pipe", "is empty, or not a regular file")]
    [InlineData("hard", "declares a header of")]
    public void A_shard_must_be_a_file_of_the_folder(string shard, string expected, string? or = null)
    {
        using var temp = new TempFolder();
        string folder = Directory.CreateDirectory(temp["model"]).FullName;
        SafetensorsFiles.Write(Path.Combine(folder, "one.safetensors"), [TensorSource.Of("a", 1)]);
        SafetensorsFiles.Write(temp["secret"], [TensorSource.Of("a", 1)]);
        File.WriteAllText(temp["notes"], "a private text, not a tensor file");
        Directory.CreateDirectory(Path.Combine(folder, "folder"));
        File.CreateSymbolicLink(Path.Combine(folder, "dev-zero"), "/dev/zero");
        File.CreateSymbolicLink(Path.Combine(folder, "outside"), temp["secret"]);
        File.CreateSymbolicLink(Path.Combine(folder, "dangling"), temp["nowhere"]);
        File.CreateSymbolicLink(Path.Combine(folder, "loop"), Path.Combine(folder, "loop"));
        File.CreateSymbolicLink(Path.Combine(folder, "away"), temp.Path);
        File.CreateSymbolicLink(Path.Combine(folder, "through"), Path.Combine("away", "secret"));
        Assert.Equal(0, MakePipe(Path.Combine(folder, "pipe"), 0x1B6));
        // A hard link is a file like any other; what is in it decides.
        Assert.Equal(0, Link(temp["notes"], Path.Combine(folder, "hard")));
        WriteIndex(folder, ("a", shard));
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(folder));
        Assert.True(error.Message.Contains(expected, StringComparison.Ordinal)
            || (or is not null && error.Message.Contains(or, StringComparison.Ordinal)), error.Message);
    }

    [Fact]
    public void Links_inside_the_folder_and_into_its_download_cache_are_followed()
    {
        using var temp = new TempFolder();
        string folder = Directory.CreateDirectory(temp[Path.Combine("snapshots", "abc")]).FullName;
        Directory.CreateDirectory(temp["blobs"]);
        SafetensorsFiles.Write(temp[Path.Combine("blobs", "123")], [TensorSource.Of("a", 1)]);
        SafetensorsFiles.Write(Path.Combine(folder, "here"), [TensorSource.Of("b", 2)]);
        File.CreateSymbolicLink(Path.Combine(folder, "one.safetensors"), Path.Combine("..", "..", "blobs", "123"));
        File.CreateSymbolicLink(Path.Combine(folder, "two.safetensors"), "here");
        WriteIndex(folder, ("a", "one.safetensors"), ("b", "two.safetensors"));
        using var store = SafetensorsFolder.Open(folder);
        Assert.Equal(["a", "b"], store.Names);
    }

    [Fact]
    public void A_tensor_is_in_one_shard_and_in_the_one_the_index_says()
    {
        using var temp = new TempFolder();
        SafetensorsFiles.Write(temp["1.safetensors"], [TensorSource.Of("a", 1), TensorSource.Of("b", 2)]);
        SafetensorsFiles.Write(temp["2.safetensors"], [TensorSource.Of("b", 3)]);
        SafetensorsFiles.Write(temp["3.safetensors"], [TensorSource.Of("c", 3)]);
        WriteIndex(temp.Path, ("a", "1.safetensors"), ("b", "2.safetensors"));
        AssertRefused("tensor 'b' is also in '1.safetensors'");
        WriteIndex(temp.Path, ("a", "1.safetensors"), ("c", "1.safetensors"), ("b", "1.safetensors"));
        AssertRefused("says tensor 'c' is in '1.safetensors', but it is in none of the shards");
        WriteIndex(temp.Path, ("a", "3.safetensors"), ("c", "1.safetensors"));
        AssertRefused("says tensor 'a' is in '3.safetensors', but it is in '1.safetensors'");
        File.CreateSymbolicLink(temp["again.safetensors"], "1.safetensors");
        WriteIndex(temp.Path, ("a", "1.safetensors"), ("b", "again.safetensors"));
        AssertRefused("is also in");

        void AssertRefused(string expected) => Assert.Contains(expected,
            Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(temp.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "is empty")]
    [InlineData("[]", "has no object 'weight_map'")]
    [InlineData("{}", "has no object 'weight_map'")]
    [InlineData("""{"weight_map":[]}""", "has no object 'weight_map'")]
    [InlineData("""{"weight_map":{"a":1}}""", "is not a text")]
    [InlineData("""{"weight_map":{"a":"x","a":"y"}}""", "is there twice")]
    [InlineData("""{"weight_map":""", "can't be read")]
    [InlineData("""{"weight_map":{"\ud800":"x"}}""", "can't be read")]
    [InlineData("""{"weight_map":{"a":"\ud800"}}""", "can't be read")]
    [InlineData("[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "can't be read")]
    public void A_broken_index_is_refused(string json, string expected)
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp[SafetensorsFolder.IndexName], json);
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(temp.Path));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("config.json")]
    [InlineData("generation_config.json")]
    [InlineData("tokenizer.model")]
    [InlineData("vocab.txt")]
    [InlineData("model.safetensors")]
    [InlineData("model.safetensors.index.json")]
    public async Task Pipes_devices_and_folders_instead_of_files_are_refused(string name)
    {
        using var tiny = new TinyModel();
        string path = Path.Combine(tiny.Folder, name);
        foreach (var make in (Action[])[
            () => Assert.Equal(0, MakePipe(path, 0x1B6)),
            () => File.CreateSymbolicLink(path, "/dev/zero"),
            () => File.CreateSymbolicLink(path, "/dev/stdin"),
            () => File.WriteAllBytes(path, []),
        ])
        {
            File.Delete(path);
            make();
            var load = SamModel.LoadAsync(tiny.Folder);
            Assert.Same(load, await Task.WhenAny(load, Task.Delay(TimeSpan.FromSeconds(30))));
            var error = await Assert.ThrowsAsync<CheckpointException>(() => load);
            Assert.Contains(name, error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("{", "is not valid JSON")]
    [InlineData("[]", "expected a JSON object")]
    [InlineData("\u0000", "is not valid JSON")]
    [InlineData("""{"vit":5}""", "'vit' is 5, expected an object")]
    [InlineData("""{"vit":{"depth":-1}}""", "'vit.depth' is -1")]
    [InlineData("""{"vit":{"depth":1e99}}""", "'vit.depth' is 1e99")]
    [InlineData("""{"vit":{"act":"\ud800"}}""", "")]
    [InlineData("""{"vit":{"depth":16777216}}""", "expected")]
    [InlineData("""{"llm":{"num_hidden_layers":16777216}}""", "")]
    [InlineData("""{"llm":{"hidden_size":16777216,"intermediate_size":16777216,"vocab_size":16777216}}""", "")]
    [InlineData("""{"qformer_config":{}}""", "")]
    [InlineData("""{"qformer_config":{"num_hidden_layers":16777216},"text_config":{"num_hidden_layers":16777216}}""", "")]
    [InlineData("""{"qformer_config":5}""", "'qformer_config' is 5, expected an object")]
    public async Task A_configuration_that_does_not_fit_is_refused(string json, string expected)
    {
        using var tiny = new TinyModel();
        File.WriteAllText(Path.Combine(tiny.Folder, "config.json"), json);
        var load = SamModel.LoadAsync(tiny.Folder);
        Assert.Same(load, await Task.WhenAny(load, Task.Delay(TimeSpan.FromSeconds(30))));
        var error = await Assert.ThrowsAsync<CheckpointException>(() => load);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    private static void WriteIndex(string folder, params (string Tensor, string Shard)[] map) => File.WriteAllText(
        Path.Combine(folder, SafetensorsFolder.IndexName), JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["weight_map"] = map.ToDictionary(m => m.Tensor, m => m.Shard),
        }));

    [LibraryImport("libc", EntryPoint = "mkfifo", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MakePipe(string path, uint mode);

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Link(string from, string to);
}
