using SamEngine.Bench.MakeModel;

namespace SamEngine.Peers;

/// <summary>Whether the peers compute what this engine computes.</summary>
internal static class PeerCheck
{
    /// <summary>Root mean square of the difference over that of the values: fp32 sums in another order; bf16 has 8 bits, of
    /// which dozens of layers lose some; dynamic int8 rounds weights and activations to 7 bits.</summary>
    private static double Allowed(string format) => format switch { "f32" => 1e-3, "bf16" => 0.05, _ => 0.1 };

    public static async Task<bool> RunAsync(string folder, string[] onnx, TextWriter output, CancellationToken cancellation)
    {
        var own = await SourceFolder.OwnResultsAsync(folder, cancellation);
        bool all = true;
        void Compare(string what, string format, float[] theirs, float[] ours)
        {
            double difference = 0;
            double size = 0;
            for (int i = 0; i < ours.Length; i++)
            {
                difference += Math.Pow((double)theirs[i] - ours[i], 2);
                size += Math.Pow(ours[i], 2);
            }
            double relative = theirs.Length == ours.Length ? Math.Sqrt(difference / size) : double.PositiveInfinity;
            bool holds = relative <= Allowed(format);
            all &= holds;
            output.WriteLine(FormattableString.Invariant($"{(holds ? "same" : "DIFFERENT")}: {what}: relative difference {relative:0.0e0}, allowed {Allowed(format)}"));
        }
        foreach (string format in (string[])["f32", "bf16"])
        {
            using var torch = new TorchEngine(folder, format, int.MaxValue, 1, 1);
            Compare($"torch {format}, vision features", format, torch.Features(own.Pixels, own.Images), own.Features);
            Compare($"torch {format}, logits of the last row", format, torch.Logits(own.Embedded, own.Rows, own.Rows - 3), own.Logits);
        }
        foreach (string pair in onnx)
        {
            string[] parts = pair.Split('=', 2);
            using var session = new OnnxEngine(parts[^1], parts[0], 1);
            Compare($"onnx {parts[0]}, vision features", parts[0], session.Features(own.Pixels, own.Images), own.Features);
        }
        return all;
    }
}
