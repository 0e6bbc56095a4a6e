using SamEngine.Checkpoints;

namespace SamEngine.Training;

/// <summary>Writes a model folder that the engine opens.</summary>
internal static class ModelExport
{
    public static void Write(TorchSam model, string tokenizers, string folder)
    {
        Directory.CreateDirectory(folder);
        foreach (string name in (string[])[SamCheckpoint.TokenizerName, SamCheckpoint.VocabularyName])
        {
            File.Copy(Path.Combine(tokenizers, name), Path.Combine(folder, name), overwrite: true);
        }
        using (var config = File.Create(Path.Combine(folder, SamCheckpoint.ConfigName)))
        {
            model.Config.Write(config);
        }
        File.WriteAllText(Path.Combine(folder, SamCheckpoint.GenerationConfigName), """
            {
              "num_beams": 1,
              "max_length": 64,
              "repetition_penalty": 1.0,
              "do_sample": false
            }

            """);
        Checkpoint.Save(Path.Combine(folder, SafetensorsFolder.SingleName),
            model.Parameters.Select(p => (p.Key, (TorchSharp.torch.Tensor)p.Value)), TensorDType.F16);
    }
}
