using System.Net.Http.Headers;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using SamEngine.Cuda;
using SamEngine.Ilgpu;

namespace SamEngine.Packaging.Tests;

/// <summary>The snippets of docs/embedding.md, docs/backends.md and the packages' page, line by line, in code that the compiler and
/// <see cref="EmbeddingTests"/> see. This project sees the engine's public surface only, as an application does.</summary>
internal static class EmbeddingSamples
{
    public static async Task LoadAsync()
    {
        await using var model = await SamModel.LoadAsync("models/sam-mini");
        var request = new DescribeRequest
        {
            Images = ["samples/cats/3.png", "samples/cats/4.png", "samples/cats/5.png"],
            Prompt = "Sum up the common factor in these pictures.",
        };
        DescribeResult result = await model.DescribeToEndAsync(request);
        Console.WriteLine($"{result.Text} ({result.Usage.OutputTokens} tokens, {result.Usage.Total.TotalMilliseconds:0} ms)");
    }

    public static async Task PackagePageAsync()
    {
        using var model = await SamModel.LoadAsync("path/to/model");
        await foreach (var piece in model.DescribeAsync(["a.png", "b.png", "c.png"], "Sum up the common factor in these pictures."))
            Console.Write(piece.Text);
    }

    public static async Task StreamAsync(SamModel model, DescribeRequest request, CancellationToken cancellationToken)
    {
        await foreach (DescribePiece piece in model.DescribeAsync(request, cancellationToken))
        {
            Console.Write(piece.Text);
            if (piece.Result is { } result)
            {
                Console.WriteLine($" [{result.Texts[0].FinishReason}]");
            }
        }
    }

    public static DescribeRequest Options(IReadOnlyList<SamImage> pictures)
    {
        var request = new DescribeRequest
        {
            Images = pictures,
            Prompt = "What has changed between these two pictures?",
            Options = new GenerationOptions { NumBeams = 1, MaxLength = 64 },
            Guidance = Guidance.Off,
        };
        return request;
    }

    public static async Task<string> ErrorsAsync(SamModel model, DescribeRequest request, CancellationToken cancellationToken)
    {
        try
        {
            return (await model.DescribeToEndAsync(request, cancellationToken)).Text;
        }
        catch (ImageException e)
        {
            return $"picture {e.ImageIndex + 1} can't be used: {e.Message}";
        }
        catch (RequestException e)
        {
            return $"{e.Option} can't be used: {e.Message}";
        }
        catch (BackendException e) when (e.IsFatal)
        {
            throw new InvalidOperationException("the model has to be loaded anew", e);
        }
    }

    public static async Task<string[]> TogetherAsync(SamModel model, SamImage[][] groups, string prompt,
        CancellationToken cancellationToken)
    {
        string[] texts = await Task.WhenAll(groups.Select(async pictures =>
        {
            var request = new DescribeRequest { Images = pictures, Prompt = prompt };
            return (await model.DescribeToEndAsync(request, cancellationToken)).Text;
        }));
        return texts;
    }

    /// <summary>Serves until it has answered one upload.</summary>
    public static async Task<(int Status, string Body)> ServeAsync(string folder, string[] arguments, IEnumerable<string> uploads)
    {
        var builder = WebApplication.CreateBuilder(arguments);
        await using var model = await SamModel.LoadAsync(folder);
        var app = builder.Build();
        app.MapPost("/describe", async (IFormFileCollection files, CancellationToken cancellationToken) =>
        {
            var pictures = new List<SamImage>();
            foreach (var file in files)
            {
                var bytes = new MemoryStream();
                await file.CopyToAsync(bytes, cancellationToken);
                pictures.Add(SamImage.FromBytes(bytes.ToArray(), file.FileName));
            }
            try
            {
                var request = new DescribeRequest { Images = pictures, Prompt = "Sum up the common factor in these pictures." };
                return Results.Text((await model.DescribeToEndAsync(request, cancellationToken)).Text);
            }
            catch (SamException e) when (e is ImageException or RequestException)
            {
                return Results.Problem(e.Message, statusCode: StatusCodes.Status400BadRequest);
            }
        }).DisableAntiforgery();

        await using (app)
        {
            await app.StartAsync();
            string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
            using var client = new HttpClient();
            using var form = new MultipartFormDataContent();
            foreach (string upload in uploads)
            {
                var content = new ByteArrayContent(await File.ReadAllBytesAsync(upload));
                content.Headers.ContentType = new MediaTypeHeaderValue("image/png");
                form.Add(content, "files", Path.GetFileName(upload));
            }
            using var answer = await client.PostAsync(new Uri(address + "/describe"), form);
            return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync());
        }
    }

    /// <summary>Where to compute.</summary>
    public static SamModelOptions[] Backends()
    {
        var options = new SamModelOptions { BackendProvider = new CudaProvider() };                               // fails without a usable GPU
        var other = new SamModelOptions { BackendProvider = IlgpuProvider.ForFirstGpu(out string problems) };     // null: the processor
        return problems.Length == 0 ? [options, other] : [options];
    }
}
