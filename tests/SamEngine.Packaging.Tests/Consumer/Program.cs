using System.Runtime.CompilerServices;
using SamEngine;

// A user's application: model folder and pictures in, text out. The compilation goes to standard error for the tests.
Console.Error.WriteLine(RuntimeFeature.IsDynamicCodeSupported ? "JIT" : "AOT");
using var model = await SamModel.LoadAsync(args[0]);
var pictures = args[1..].Select(SamImage.FromFile).ToList();
var options = new GenerationOptions { MaxLength = 24 };
await foreach (var piece in model.DescribeAsync(pictures, "Sum up the common factor in these pictures.", options))
{
    Console.Write(piece.Text);
}
