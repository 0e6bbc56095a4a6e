using System.Runtime.CompilerServices;
using SamEngine;

// A user's application: model folder and pictures in, text out; with CUDA where it is built for it. The compilation goes to standard
// error for the tests.
Console.Error.WriteLine(RuntimeFeature.IsDynamicCodeSupported ? "JIT" : "AOT");
#if CUDA
var settings = new SamModelOptions { BackendProvider = new SamEngine.Cuda.CudaProvider { ActivationType = SamEngine.Cuda.CudaActivationType.F32 } };
#else
var settings = new SamModelOptions();
#endif
using var model = await SamModel.LoadAsync(args[0], settings);
var pictures = args[1..].Select(SamImage.FromFile).ToList();
var options = new GenerationOptions { MaxLength = 24 };
await foreach (var piece in model.DescribeAsync(pictures, "Sum up the common factor in these pictures.", options))
{
    Console.Write(piece.Text);
}
