using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Imaging;
using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine;

/// <summary>
/// A loaded SAM model. Load once, ask from any thread as often as needed: requests run together, and each can be cancelled
/// by itself. Disposing it ends what is running.
/// </summary>
public sealed class SamModel : IDisposable, IAsyncDisposable
{
    private readonly SamCheckpoint _checkpoint;
    private readonly Backend _backend;
    private readonly SamWeights _weights;
    private readonly InferenceEngine _engine;
    private readonly QFormerTokenizer? _instructionTokenizer;
    private readonly VicunaTokenizer? _promptTokenizer;
    private readonly GenerationOptions _defaults;
    private readonly ImagePreprocessor _images;
    private int _disposed;

    private SamModel(string folder, SamModelOptions options, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        var owned = new Stack<IDisposable>();
        try
        {
            owned.Push(_checkpoint = SamCheckpoint.Open(folder, new CheckpointOptions
            {
                UseMmap = options.UseMmap,
                Adapters = options.Adapters,
                AllowTorchFiles = options.AllowTorchFiles,
            }));
            _promptTokenizer = _checkpoint.TokenizerModelPath is { } model ? VicunaTokenizer.Load(model) : null;
            _instructionTokenizer = _checkpoint.VocabularyPath is { } vocabulary ? QFormerTokenizer.Load(vocabulary) : null;
            var config = _checkpoint.Config;
            CheckTokenizers(config);
            _defaults = GenerationConfig.DefaultsOf(_checkpoint, _promptTokenizer);
            _images = new ImagePreprocessor(config.Vision.ImageSize, ImagePreprocessor.ReferenceMean,
                ImagePreprocessor.ReferenceStd, options.ImageLimits);
            owned.Push(_backend = CreateBackend(options));
            if (options.KvCacheTokens is < 0 or > InferenceEngine.MostCacheTokens)
            {
                throw new RequestException(nameof(options.KvCacheTokens), $"is {options.KvCacheTokens}, expected 0 (by the " +
                    $"context) to {InferenceEngine.MostCacheTokens}");
            }
            _backend.CheckBudget(MemoryEstimate.For(_checkpoint, options.Weights, _backend.ActivationType, options.KvCacheTokens));
            long done = 0;
            long total = _checkpoint.Names.Where(n => !SamCheckpoint.IsSuperfluous(n)).Sum(n => _checkpoint.Peek(n).ByteLength);
            owned.Push(_weights = SamWeights.Load(_checkpoint, _backend, options.Weights, (name, bytes) =>
                progress?.Report(new LoadProgress(name, done += bytes, total)), cancellation));
            owned.Push(_engine = new InferenceEngine(_weights, _backend, options.KvCacheTokens));
            Info = new SamModelInfo
            {
                Folder = folder,
                Config = config,
                Backend = _backend.Info,
                WeightBytes = _weights.ByteLength,
                HasGuidance = _weights.QFormer.HasGuidance,
                GenerationDefaults = _defaults,
                Notes = _checkpoint.Notes,
            };
        }
        catch
        {
            while (owned.TryPop(out var part))
            {
                part.Dispose();
            }
            throw;
        }
    }

    /// <summary>What was loaded and what computes.</summary>
    public SamModelInfo Info { get; }

    /// <summary>The engine, for tests that work with ids and pixels.</summary>
    internal InferenceEngine Engine => _engine;

    /// <summary>Loads a model folder.</summary>
    /// <param name="folder">A folder with <c>config.json</c>, safetensors, <c>tokenizer.model</c> and <c>vocab.txt</c>, as
    /// <c>sam model convert</c> writes it.</param>
    /// <param name="options">How to open it and what it may use.</param>
    /// <param name="progress">Told of every tensor.</param>
    /// <param name="cancellationToken">Stops between tensors.</param>
    /// <returns>The model, ready for requests; the caller disposes it.</returns>
    /// <exception cref="ArgumentException"><paramref name="folder"/> is null or empty.</exception>
    /// <exception cref="CheckpointException">The folder is not a model, or a damaged one.</exception>
    /// <exception cref="RequestException">An option is out of range or of another backend.</exception>
    /// <exception cref="BackendException">The backend can't be used here, or has too little memory.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing stays in memory.</exception>
    public static Task<SamModel> LoadAsync(string folder, SamModelOptions? options = null,
        IProgress<LoadProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        return Task.Run(async () =>
        {
            var model = new SamModel(folder, options ?? new SamModelOptions(), progress, cancellationToken);
            try
            {
                if (model._backend.WantsWarmUp)
                {
                    await model.WarmUpAsync(cancellationToken).ConfigureAwait(false);
                }
                return model;
            }
            catch
            {
                model.Dispose();
                throw;
            }
        }, cancellationToken);
    }

    private static Backend CreateBackend(SamModelOptions options)
    {
        CheckChoice(nameof(options.Backend), options.Backend);
        return options.BackendProvider is not { } provider ? new CpuBackend(options.Threads, options.InstructionSet)
            : options.Backend == BackendChoice.Auto ? provider.Create(options)
            : throw new RequestException(nameof(options.BackendProvider), $"goes with {nameof(options.Backend)} " +
                $"{nameof(BackendChoice.Auto)}, which is {options.Backend}");
    }

    /// <summary>Runs a small request through every part, so that the first real one finds memory mapped and code
    /// compiled.</summary>
    /// <param name="cancellationToken">Stops it between layers.</param>
    /// <returns>Ends with the request.</returns>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public async Task WarmUpAsync(CancellationToken cancellationToken = default)
    {
        var config = _weights.Config;
        var input = new EngineInput(1, new float[_images.ImageLength], [0], [config.Llm.EosTokenId], Guided: Info.HasGuidance);
        // The model folder's defaults are for texts; some don't go with one beam and so few tokens.
        var settings = Settings(new GenerationOptions { NumBeams = 1, NumReturnSequences = 1, MaxLength = 3, MinLength = 0 },
            input);
        await RunAsync(new GenerationWork(input, settings, TokenSearch.Create(settings), null, cancellationToken))
            .ConfigureAwait(false);
    }

    /// <summary>Says what links the pictures, streaming the text as it is generated.</summary>
    /// <param name="images">The pictures, in order.</param>
    /// <param name="prompt">The instruction.</param>
    /// <param name="options">How the text is generated; null takes the model's defaults.</param>
    /// <param name="cancellationToken">Stops between layers while the prompt is read, and between tokens.</param>
    /// <returns>Pieces of text as they are generated; the last one carries the result. Nothing happens, errors included, before they
    /// are asked for, and leaving the loop early ends the work.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    // Before the overload for paths: a list written in place, of strings too, is of pictures.
    [OverloadResolutionPriority(1)]
    public IAsyncEnumerable<DescribePiece> DescribeAsync(IReadOnlyList<SamImage> images, string prompt,
        GenerationOptions? options = null, CancellationToken cancellationToken = default) =>
        DescribeAsync(new DescribeRequest { Images = images, Prompt = prompt, Options = options }, cancellationToken);

    /// <summary>Says what links the pictures, streaming the text as it is generated.</summary>
    /// <param name="paths">The pictures' files, in order; read once, at the call.</param>
    /// <param name="prompt">The instruction.</param>
    /// <param name="options">How the text is generated; null takes the model's defaults.</param>
    /// <param name="cancellationToken">Stops between layers while the prompt is read, and between tokens.</param>
    /// <returns>Pieces of text as they are generated; the last one carries the result. Nothing happens, errors included, before they
    /// are asked for, and leaving the loop early ends the work.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public IAsyncEnumerable<DescribePiece> DescribeAsync(IEnumerable<string> paths, string prompt,
        GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(paths);
        return DescribeAsync([.. paths.Select(path => (SamImage)path)], prompt, options, cancellationToken);
    }

    /// <summary>Says what links the pictures, streaming the text as it is generated.</summary>
    /// <param name="request">Pictures, prompt and options.</param>
    /// <param name="cancellationToken">Stops between layers while the prompt is read, and between tokens.</param>
    /// <returns>Pieces of text as they are generated; the last one carries the result. Nothing happens, errors included, before they
    /// are asked for, and leaving the loop early ends the work.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public async IAsyncEnumerable<DescribePiece> DescribeAsync(DescribeRequest request,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        long start = Stopwatch.GetTimestamp();
        // Leaving the loop early ends the work too.
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var (input, preparing) = await PrepareAsync(request.Images, request.Prompt, request.Guidance, cancellationToken)
            .ConfigureAwait(false);
        var settings = Settings(request.Options, input);
        var search = StreamedText.Search(settings, _promptTokenizer!);
        var pieces = Channel.CreateUnbounded<string>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var stream = new StreamedText(_promptTokenizer!, settings.StopStrings);
        Action<string> onPiece = piece => pieces.Writer.TryWrite(piece);
        var work = new GenerationWork(input, settings, search, s => stream.Take(s, onPiece), leaving.Token);
        _engine.Submit(work);
        _ = work.Completion.ContinueWith(done => pieces.Writer.TryComplete(done.Exception?.InnerException),
            CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        try
        {
            while (await pieces.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
            {
                while (pieces.Reader.TryRead(out string? piece))
                {
                    yield return new DescribePiece(piece);
                }
            }
            await CompleteAsync(work, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            if (!work.Completion.IsCompleted)
            {
                await leaving.CancelAsync().ConfigureAwait(false);
            }
        }
        yield return new DescribePiece(stream.Finish(), Result(work, settings, search, preparing, start));
    }

    /// <summary>Says what links the pictures and waits for the whole text.</summary>
    /// <param name="request">Pictures, prompt and options.</param>
    /// <param name="cancellationToken">Stops between layers while the prompt is read, and between tokens.</param>
    /// <returns>The text and what it cost.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public async Task<DescribeResult> DescribeToEndAsync(DescribeRequest request, CancellationToken cancellationToken = default)
    {
        DescribeResult? result = null;
        await foreach (var piece in DescribeAsync(request, cancellationToken).ConfigureAwait(false))
        {
            result = piece.Result;
        }
        return result!;
    }

    /// <summary>Answers a request and reports what the answer rests on; slower than <see cref="DescribeToEndAsync"/>.</summary>
    /// <param name="request">Pictures, prompt and options.</param>
    /// <param name="cancellationToken">Stops between layers while the prompt is read, and between tokens.</param>
    /// <returns>The result, and maps over the patches of every picture.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public async Task<Explanation> ExplainAsync(DescribeRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        long start = Stopwatch.GetTimestamp();
        var (input, preparing) = await PrepareAsync(request.Images, request.Prompt, request.Guidance, cancellationToken)
            .ConfigureAwait(false);
        var settings = Settings(request.Options, input);
        var search = StreamedText.Search(settings, _promptTokenizer!);
        var recorder = new ExplanationRecorder(_weights.Config);
        var work = new GenerationWork(input, settings, search, null, cancellationToken) { Observer = recorder.OnStage };
        await RunAsync(work).ConfigureAwait(false);
        return recorder.Explain(Result(work, settings, search, preparing, start));
    }

    /// <summary>Puts candidate texts in order of how well they follow pictures and prompt, best first.</summary>
    /// <param name="request">Pictures, prompt and candidates.</param>
    /// <param name="cancellationToken">Stops between layers.</param>
    /// <returns>Every candidate, best first.</returns>
    /// <exception cref="RequestException">Something asked for can't be done: an option out of range, no picture, a prompt longer
    /// than the context.</exception>
    /// <exception cref="ImageException">A picture can't be read; of several, the first.</exception>
    /// <exception cref="CheckpointException">The model folder has no tokenizer.</exception>
    /// <exception cref="BackendException">The backend failed or ran out of memory.</exception>
    /// <exception cref="NumericException">The model computed NaN or infinity.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed, before or meanwhile.</exception>
    public async Task<IReadOnlyList<RankedCandidate>> RankAsync(RankRequest request,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        CheckChoice(nameof(request.Mode), request.Mode);
        if (request.Candidates is not { Count: > 0 })
        {
            throw new RequestException(nameof(request.Candidates), "is empty, expected at least one text");
        }
        var (input, _) = await PrepareAsync(request.Images, request.Prompt, request.Guidance, cancellationToken)
            .ConfigureAwait(false);
        foreach (string? candidate in request.Candidates)
        {
            CheckLength(nameof(request.Candidates), candidate ?? "");
        }
        int[][] ids = [.. request.Candidates.Select(c => _promptTokenizer!.EncodeText(c ?? ""))];
        int room = _weights.Config.Llm.MaxPositions - _engine.PromptRows(input);
        for (int i = 0; i < ids.Length; i++)
        {
            if (ids[i].Length == 0 || ids[i].Length > room)
            {
                throw new RequestException(nameof(request.Candidates), $"candidate {i} has {ids[i].Length} tokens, expected 1 " +
                    $"to {room} (the context less pictures and prompt)");
            }
            CheckIds(nameof(request.Candidates), ids[i], _weights.Config.Llm.VocabularySize);
        }
        var work = new RankingWork(input, ids, cancellationToken);
        await RunAsync(work).ConfigureAwait(false);
        var ranking = request.Mode == RankingMode.PerTokenMean ? CandidateRanking.PerTokenMean(work.LogProbs)
            : CandidateRanking.Reference(work.LogProbs, _engine.PromptRows(input));
        return [.. ranking.Order.Select(i => new RankedCandidate(i, request.Candidates[i], ranking.Losses[i]))];
    }

    /// <summary>Logits after the prompt and after every token of an answer: [tokens + 1, vocabulary], row by row. For
    /// comparing models.</summary>
    internal async Task<float[]> AnswerLogitsAsync(IReadOnlyList<SamImage> images, string prompt, string answer,
        CancellationToken cancellationToken)
    {
        var (input, _) = await PrepareAsync(images, prompt, Guidance.Auto, cancellationToken).ConfigureAwait(false);
        CheckLength(nameof(answer), answer);
        int[] ids = _promptTokenizer!.EncodeText(answer);
        int room = _weights.Config.Llm.MaxPositions - _engine.PromptRows(input) - 1;
        if (ids.Length > room)
        {
            throw new RequestException(nameof(answer), $"has {ids.Length} tokens, expected at most {room}");
        }
        CheckIds(nameof(answer), ids, _weights.Config.Llm.VocabularySize);
        var logits = new List<float>();
        // Ranking does not look at what follows the last id.
        var work = new RankingWork(input, [[.. ids, _weights.Config.Llm.EosTokenId]], cancellationToken)
        {
            Observer = (queue, stage, value) =>
            {
                if (stage == "llm_logits")
                {
                    float[] rows = new float[value.Count];
                    queue.ReadBack<float>(value, rows);
                    logits.AddRange(rows);
                }
            },
        };
        await RunAsync(work).ConfigureAwait(false);
        return [.. logits];
    }

    /// <summary>Ends running requests with an <see cref="ObjectDisposedException"/> and releases everything.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _engine.Dispose();
            _weights.Dispose();
            _backend.Dispose();
            _checkpoint.Dispose();
        }
    }

    /// <summary>As <see cref="Dispose"/>, without keeping the caller's thread while a running step ends.</summary>
    /// <returns>Ends when everything is released.</returns>
    public ValueTask DisposeAsync() => new(Task.Run(Dispose));

    /// <summary>Waits for the work, but not for the engine to notice that it was cancelled.</summary>
    private Task RunAsync(EngineWork work)
    {
        _engine.Submit(work);
        return work.Completion.WaitAsync(work.Cancellation);
    }

    /// <summary>Waits for work that also ends when its reader leaves; a cancellation is the caller's own.</summary>
    private static async Task CompleteAsync(EngineWork work, CancellationToken cancellation)
    {
        try
        {
            await work.Completion.ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(e.Message, e, cancellation);
        }
    }

    private async Task<(EngineInput Input, TimeSpan Took)> PrepareAsync(IReadOnlyList<SamImage> given, string prompt,
        Guidance guidance, CancellationToken cancellation)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        cancellation.ThrowIfCancellationRequested();
        if (given is not { Count: > 0 })
        {
            throw new RequestException("Images", "is empty, expected at least one picture");
        }
        long visual = (long)given.Count * _weights.Config.QFormer.QueryTokens;
        if (visual >= _weights.Config.Llm.MaxPositions)
        {
            throw new RequestException("Images", $"{given.Count} pictures make {visual} visual tokens, the model's context is " +
                $"{_weights.Config.Llm.MaxPositions}; use fewer pictures");
        }
        // The list is the caller's, who may change it while the pictures are read.
        SamImage[] images = [.. given];
        if (Array.IndexOf(images, null) is var missing and >= 0)
        {
            throw new RequestException("Images", $"picture {missing} is null");
        }
        if (prompt is null)
        {
            throw new RequestException("Prompt", "is null, expected a text (it may be empty)");
        }
        CheckChoice("Guidance", guidance);
        if (guidance == Guidance.On && !Info.HasGuidance)
        {
            throw new RequestException("Guidance", "is on, but the model has no SAM adapters; load them with " +
                $"{nameof(SamModelOptions)}.{nameof(SamModelOptions.Adapters)}");
        }
        if (_promptTokenizer is null || _instructionTokenizer is null)
        {
            string file = _promptTokenizer is null ? SamCheckpoint.TokenizerName : SamCheckpoint.VocabularyName;
            throw new CheckpointException(_checkpoint.Folder, $"has no {file}, which prompts need; copy it there");
        }
        CheckLength("Prompt", prompt);
        long start = Stopwatch.GetTimestamp();
        float[] pixels = new float[images.Length * _images.ImageLength];
        await Task.Run(() => _images.Load(images, pixels, cancellation), cancellation).ConfigureAwait(false);
        var took = Stopwatch.GetElapsedTime(start);
        int[] text = _instructionTokenizer.EncodeInstruction(prompt, _weights.Config.MaxTextLength);
        int[] ids = _promptTokenizer.EncodePrompt(prompt);
        CheckIds("Prompt", text, _weights.Config.QFormer.VocabularySize);
        CheckIds("Prompt", ids, _weights.Config.Llm.VocabularySize);
        var input = new EngineInput(images.Length, pixels, text, ids, guidance != Guidance.Off && Info.HasGuidance);
        _engine.CheckPrompt(input);
        return (input, took);
    }

    private GenerationSettings Settings(GenerationOptions? options, EngineInput input)
    {
        var llm = _weights.Config.Llm;
        var settings = GenerationSettings.Create(options ?? new GenerationOptions(), llm.VocabularySize,
            llm.BosTokenId, llm.EosTokenId, _defaults);
        // The last token is not fed; what the context can't hold ends with FinishReason.Length.
        int room = llm.MaxPositions - _engine.PromptRows(input) + 2;
        return settings.MaxLength <= room ? settings
            : settings with { MaxLength = Math.Max(2, room), MinLength = Math.Min(settings.MinLength, Math.Max(2, room)) };
    }

    private DescribeResult Result(GenerationWork work, GenerationSettings settings, TokenSearch search, TimeSpan preparing,
        long start)
    {
        var texts = search.Results().Select(h => new GeneratedText(
            StreamingDetokenizer.Decode(_promptTokenizer!, h.Tokens, settings.StopStrings), h.Score, h.Reason, h.Tokens))
            .ToList();
        var timings = work.Timings;
        return new DescribeResult
        {
            Texts = texts,
            Guided = work.Input.Guided,
            ImageWeights = work.ImageWeights,
            Seed = settings.DoSample ? settings.Seed : null,
            Usage = new RequestUsage
            {
                InputTokens = _engine.PromptRows(work.Input),
                VisualTokens = work.Input.Images * _weights.Config.QFormer.QueryTokens,
                OutputTokens = texts[0].TokenIds.Count,
                Images = preparing,
                Queued = timings.Queued,
                Vision = timings.Vision,
                QFormer = timings.QFormer,
                Prefill = timings.Prefill,
                Decode = timings.Decode,
                Total = Stopwatch.GetElapsedTime(start),
                QFormerLayerRuns = timings.QFormerLayerRuns,
            },
        };
    }

    /// <summary>A tokenizer that does not fit the embeddings is another model's; tokens behind the vocabulary are refused when
    /// a text holds them.</summary>
    private void CheckTokenizers(SamConfig config)
    {
        if (_promptTokenizer is { } prompt && (prompt.PieceCount > config.Llm.VocabularySize
            || prompt.VocabularySize < config.Llm.VocabularySize))
        {
            // More rows than pieces and [PAD] would be ids without a text.
            throw new CheckpointException(_checkpoint.TokenizerModelPath!, $"has {prompt.PieceCount} pieces, the language model " +
                $"{config.Llm.VocabularySize} rows, expected as many or one more ([PAD]): another model's tokenizer");
        }
        if (_instructionTokenizer is { } text && text.VocabularySize - 1 > config.QFormer.VocabularySize)
        {
            throw new CheckpointException(_checkpoint.VocabularyPath!, $"has {text.VocabularySize - 1} lines, the Q-Former " +
                $"{config.QFormer.VocabularySize} rows: another model's vocabulary");
        }
    }

    /// <summary>Refuses what can't fit before memory is spent on its tokens.</summary>
    private void CheckLength(string option, string text)
    {
        long most = (long)_weights.Config.Llm.MaxPositions * _promptTokenizer!.LongestPiece;
        if (text.Length > most)
        {
            throw new RequestException(option, $"has a text of {text.Length} characters; the model's context of " +
                $"{_weights.Config.Llm.MaxPositions} tokens holds at most {most}");
        }
    }

    private static void CheckChoice<T>(string option, T value)
        where T : struct, Enum
    {
        if (!Enum.IsDefined(value))
        {
            throw new RequestException(option, $"is {value}, expected {string.Join(", ", Enum.GetNames<T>())}");
        }
    }

    private static void CheckIds(string option, int[] ids, int rows)
    {
        foreach (int id in ids)
        {
            if (id >= rows)
            {
                throw new RequestException(option, $"holds a special token (id {id}) for which the checkpoint has no embedding " +
                    $"(it has {rows} rows); leave it out");
            }
        }
    }
}
