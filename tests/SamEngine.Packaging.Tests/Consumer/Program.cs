using System.Runtime.CompilerServices;
using SamEngine;
using SamEngine.Cuda;

// A user's application: model folder and pictures in, text out; on a GPU where CONSUMER_CUDA is set. The compilation goes to standard error for the tests.
Console.Error.WriteLine(RuntimeFeature.IsDynamicCodeSupported ? "JIT" : "AOT");
bool cuda = Environment.GetEnvironmentVariable("CONSUMER_CUDA") is not null;
using var model = await SamModel.LoadAsync(args[0], new()
{
    BackendProvider = cuda ? new CudaProvider { ActivationType = CudaActivationType.F32 } : null,
});
var pictures = args[1..].Select(SamImage.FromFile).ToList();
var options = new GenerationOptions { MaxLength = 24 };
await foreach (var piece in model.DescribeAsync(pictures, "Sum up the common factor in these pictures.", options))
{
    Console.Write(piece.Text);
}
