using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// The Q-Former and the W-former: one set of BERT weights run as two streams (SAM <c>Qformer.py</c>, paper section 3).
/// Stream 1 of an image attends to that image's features and gives its visual tokens; stream 2 attends to the visual
/// context of the whole group. Before layer l <c>one_2_muliple</c> of stream 1 is added to stream 2 (initial visual tokens
/// steer what is selected from the context); between layer k of stream 2 and layer k of stream 1
/// <c>multiple_2_one</c> of stream 2 is added to stream 1 (contextual semantics steer extraction). Up to layer l stream 2 is
/// the same for every image of the group and is run once.
/// </summary>
internal sealed class QFormer
{
    private readonly QFormerConfig _config;
    private readonly TensorView _queryTokens;
    private readonly Weight _wordEmbeddings;
    private readonly TensorView _positionEmbeddings;
    private readonly TensorView _embeddingsGain;
    private readonly TensorView _embeddingsBias;
    private readonly Layer[] _layers;
    private readonly TensorView _attnWeight;
    private readonly TensorView _attnBias;
    private readonly Weight? _oneToMultiple;
    private readonly TensorView _oneToMultipleBias;
    private readonly Weight? _multipleToOne;
    private readonly TensorView _multipleToOneBias;
    private readonly Weight _llmProj;
    private readonly TensorView _llmProjBias;

    public QFormer(WeightLoader load)
    {
        _config = load.Config.QFormer;
        int width = _config.HiddenSize;
        _queryTokens = load.Table("query_tokens", _config.QueryTokens, width, 1, _config.QueryTokens, width);
        const string Bert = "Qformer.bert.";
        _wordEmbeddings = load.Matrix(Bert + "embeddings.word_embeddings.weight", _config.VocabularySize, width);
        _positionEmbeddings = load.Table(Bert + "embeddings.position_embeddings.weight", _config.MaxPositions, width,
            _config.MaxPositions, width);
        _embeddingsGain = load.Vector(Bert + "embeddings.LayerNorm.weight", width);
        _embeddingsBias = load.Vector(Bert + "embeddings.LayerNorm.bias", width);
        _layers = [.. Enumerable.Range(0, _config.Layers).Select(i => new Layer(load, i))];
        if (load.Has("attn.weight"))
        {
            _attnWeight = load.Table("attn.weight", 1, _config.EncoderWidth, 1, _config.EncoderWidth);
            _attnBias = load.Vector("attn.bias", 1);
            _oneToMultiple = load.Matrix(Bert + "encoder.one_2_muliple.0.weight", width, width);
            _oneToMultipleBias = load.Vector(Bert + "encoder.one_2_muliple.0.bias", width);
            _multipleToOne = load.Matrix(Bert + "encoder.multiple_2_one.0.weight", width, width);
            _multipleToOneBias = load.Vector(Bert + "encoder.multiple_2_one.0.bias", width);
        }
        _llmProj = load.Matrix("llm_proj.weight", load.Config.Llm.HiddenSize, width);
        _llmProjBias = load.Vector("llm_proj.bias", load.Config.Llm.HiddenSize);
    }

    /// <summary>Whether the checkpoint has the SAM adapters, without which there is no guidance.</summary>
    public bool HasGuidance => _oneToMultiple is not null;

    /// <summary>Extracts the visual tokens of a group.</summary>
    /// <param name="queue">Where the work is enqueued.</param>
    /// <param name="workspace">Scratch memory; the result is <c>qformer.visual_tokens</c> in it.</param>
    /// <param name="features">[images, positions, encoder width].</param>
    /// <param name="textIds">I32 [1, 1, n]: the instruction with [CLS] and [SEP], ids inside the vocabulary.</param>
    /// <param name="guided">Whether the images of the group guide each other; off is plain InstructBLIP.</param>
    /// <param name="trace">Receives the adaptive adjustment and every layer of both streams.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    /// <returns>Visual tokens [images, query tokens, llm width]; the number of layer runs (one layer on one sequence)
    /// it took: images * L + l + images * (k - l + 1) guided, images * L otherwise; guided, the weight of every image at every
    /// position, F32 [1, images, positions].</returns>
    public (TensorView VisualTokens, int LayerRuns, TensorView ImageWeights) Encode(ComputeQueue queue, Workspace workspace, TensorView features,
        TensorView textIds, bool guided, StageTrace? trace, CancellationToken cancellation)
    {
        if (guided && !HasGuidance)
        {
            throw new InvalidOperationException("guidance was asked for, but the checkpoint has no SAM adapters");
        }
        int images = features.Batch;
        int width = _config.HiddenSize;
        int length = _config.QueryTokens + textIds.Columns;
        var (context, imageWeights) = guided ? AdaptiveAdjustment(queue, workspace, features, trace) : default;
        var embeddings = Embed(queue, workspace, textIds, trace);

        var stream1 = workspace.Rent("qformer.stream1", images, length, width);
        queue.Copy(embeddings.RepeatBatch(images), stream1);
        var stream2 = embeddings;
        int runs = 0;
        for (int i = 0; i < _layers.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (guided && i <= _config.MultipleToOneLayer)
            {
                if (i == _config.OneToMultipleLayer)
                {
                    var each = workspace.Rent("qformer.stream2", images, length, width);
                    queue.Copy(stream2.RepeatBatch(images), each);
                    queue.Linear(stream1, _oneToMultiple!, each, _oneToMultipleBias, residual: each);
                    stream2 = each;
                    trace?.Invoke($"qformer.layer.{i}.stream2_in", stream2);
                }
                _layers[i].Run(queue, workspace, stream2, context, trace, 2);
                runs += stream2.Batch;
                trace?.Invoke($"qformer.layer.{i}.stream2", stream2);
                if (i == _config.MultipleToOneLayer)
                {
                    queue.Linear(stream2, _multipleToOne!, stream1, _multipleToOneBias, residual: stream1);
                    trace?.Invoke($"qformer.layer.{i}.stream1_in", stream1);
                }
            }
            _layers[i].Run(queue, workspace, stream1, features, trace, 1);
            runs += images;
            trace?.Invoke($"qformer.layer.{i}.stream1", stream1);
        }
        trace?.Invoke("qformer.last_hidden_state", stream1);
        var tokens = workspace.Rent("qformer.visual_tokens", images, _config.QueryTokens, _llmProj.Rows);
        queue.Linear(stream1.SliceRows(0, _config.QueryTokens), _llmProj, tokens, _llmProjBias);
        trace?.Invoke("llm_proj", tokens);
        return (tokens, runs, imageWeights);
    }

    /// <summary>Part B of the paper: the visual context of the group, [1, positions, encoder width], and the weights that made
    /// it, [1, images, positions].</summary>
    private (TensorView Context, TensorView Weights) AdaptiveAdjustment(ComputeQueue queue, Workspace workspace, TensorView features, StageTrace? trace)
    {
        var context = workspace.Rent("qformer.context", 1, features.Rows, features.Columns);
        var weights = workspace.Rent("qformer.attn_weights", ElementType.F32, 1, features.Batch, features.Rows);
        queue.GroupPool(features, _attnWeight, _attnBias, context, weights);
        trace?.Invoke("attn_weights", weights);
        trace?.Invoke("avg_image_embeds", context);
        return (context, weights);
    }

    /// <summary>LayerNorm([queries; words + positions]), the same start for both streams and every image.</summary>
    private TensorView Embed(ComputeQueue queue, Workspace workspace, TensorView textIds, StageTrace? trace)
    {
        int queries = _config.QueryTokens;
        int words = textIds.Columns;
        var embeddings = workspace.Rent("qformer.embeddings", 1, queries + words, _config.HiddenSize);
        var text = embeddings.SliceRows(queries, words);
        queue.Copy(_queryTokens, embeddings.SliceRows(0, queries));
        queue.Embedding(_wordEmbeddings, textIds, text);
        queue.Add(text, _positionEmbeddings.SliceRows(0, words), text);
        queue.LayerNorm(embeddings, _embeddingsGain, _embeddingsBias, _config.LayerNormEps, embeddings);
        trace?.Invoke("qformer.embeddings", embeddings);
        return embeddings;
    }

    /// <summary>One BERT layer, post-norm: self-attention over queries and text, cross-attention for the queries where the
    /// layer has it, separate feed-forward parts for queries and text.</summary>
    private sealed class Layer
    {
        private readonly int _index;
        private readonly QFormerConfig _config;
        private readonly AttentionPart _self;
        private readonly AttentionPart? _cross;
        private readonly FeedForward _text;
        private readonly FeedForward _query;

        public Layer(WeightLoader load, int index)
        {
            _index = index;
            _config = load.Config.QFormer;
            string name = $"Qformer.bert.encoder.layer.{index}.";
            _self = new AttentionPart(load, name + "attention.", _config.HiddenSize);
            if (_config.HasCrossAttention(index))
            {
                _cross = new AttentionPart(load, name + "crossattention.", _config.EncoderWidth);
            }
            _text = new FeedForward(load, name + "intermediate.", name + "output.");
            _query = new FeedForward(load, name + "intermediate_query.", name + "output_query.");
        }

        /// <summary>Runs the layer in place on x [b, queries + words, width] against features [b or 1, positions,
        /// encoder width]. The trace receives the cross-attention, F32 [b * heads, queries, positions].</summary>
        public void Run(ComputeQueue queue, Workspace workspace, TensorView x, TensorView features, StageTrace? trace,
            int stream)
        {
            int queries = _config.QueryTokens;
            _self.RunSelf(queue, workspace, x);
            var queryRows = x.SliceRows(0, queries);
            if (_cross is not null)
            {
                var probabilities = trace is null ? default : workspace.Rent("qformer.cross_attention", ElementType.F32,
                    x.Batch * _config.Heads, queries, features.Rows);
                _cross.RunCross(queue, workspace, queryRows, features, probabilities);
                trace?.Invoke($"qformer.layer.{_index}.stream{stream}.cross_attention", probabilities);
            }
            _query.Run(queue, workspace, queryRows);
            _text.Run(queue, workspace, x.SliceRows(queries, x.Rows - queries));
        }
    }

    private sealed class AttentionPart
    {
        private readonly QFormerConfig _config;
        private readonly Weight _query;
        private readonly TensorView _queryBias;
        private readonly Weight _keyValue;
        private readonly TensorView _keyValueBias;
        private readonly Weight _dense;
        private readonly TensorView _denseBias;
        private readonly TensorView _gain;
        private readonly TensorView _bias;

        public AttentionPart(WeightLoader load, string name, int keyWidth)
        {
            _config = load.Config.QFormer;
            int width = _config.HiddenSize;
            _query = load.Matrix(name + "self.query.weight", width, width);
            _queryBias = load.Vector(name + "self.query.bias", width);
            _keyValue = load.Stack([(name + "self.key.weight", width), (name + "self.value.weight", width)], keyWidth);
            _keyValueBias = load.Vectors([(name + "self.key.bias", width), (name + "self.value.bias", width)]);
            _dense = load.Matrix(name + "output.dense.weight", width, width);
            _denseBias = load.Vector(name + "output.dense.bias", width);
            _gain = load.Vector(name + "output.LayerNorm.weight", width);
            _bias = load.Vector(name + "output.LayerNorm.bias", width);
        }

        public void RunSelf(ComputeQueue queue, Workspace workspace, TensorView x)
        {
            var keyValue = workspace.Rent("qformer.kv", x.Batch, x.Rows, 2 * x.Columns);
            queue.Linear(x, _keyValue, keyValue, _keyValueBias);
            Attend(queue, workspace, x, keyValue);
        }

        public void RunCross(ComputeQueue queue, Workspace workspace, TensorView x, TensorView features,
            TensorView probabilities)
        {
            var keyValue = workspace.Rent("qformer.cross_kv", features.Batch, features.Rows, 2 * x.Columns);
            queue.Linear(features, _keyValue, keyValue, _keyValueBias);
            Attend(queue, workspace, x, features.Batch == x.Batch ? keyValue : keyValue.RepeatBatch(x.Batch), probabilities);
        }

        private void Attend(ComputeQueue queue, Workspace workspace, TensorView x, TensorView keyValue,
            TensorView probabilities = default)
        {
            int width = x.Columns;
            var q = workspace.Rent("qformer.q", x.Batch, x.Rows, width);
            var attended = workspace.Rent("qformer.attended", x.Batch, x.Rows, width);
            queue.Linear(x, _query, q, _queryBias);
            queue.Attention(q, keyValue.SliceColumns(0, width), keyValue.SliceColumns(width, width), _config.Heads,
                1 / MathF.Sqrt(_config.HeadDim), attended, probabilities);
            queue.Linear(attended, _dense, x, _denseBias, residual: x);
            queue.LayerNorm(x, _gain, _bias, _config.LayerNormEps, x);
        }
    }

    private sealed class FeedForward
    {
        private readonly QFormerConfig _config;
        private readonly Weight _intermediate;
        private readonly TensorView _intermediateBias;
        private readonly Weight _output;
        private readonly TensorView _outputBias;
        private readonly TensorView _gain;
        private readonly TensorView _bias;

        public FeedForward(WeightLoader load, string intermediate, string output)
        {
            _config = load.Config.QFormer;
            int width = _config.HiddenSize;
            _intermediate = load.Matrix(intermediate + "dense.weight", _config.IntermediateSize, width);
            _intermediateBias = load.Vector(intermediate + "dense.bias", _config.IntermediateSize);
            _output = load.Matrix(output + "dense.weight", width, _config.IntermediateSize);
            _outputBias = load.Vector(output + "dense.bias", width);
            _gain = load.Vector(output + "LayerNorm.weight", width);
            _bias = load.Vector(output + "LayerNorm.bias", width);
        }

        public void Run(ComputeQueue queue, Workspace workspace, TensorView x)
        {
            var hidden = workspace.Rent("qformer.hidden", x.Batch, x.Rows, _config.IntermediateSize);
            queue.Linear(x, _intermediate, hidden, _intermediateBias, Activation.Gelu);
            queue.Linear(hidden, _output, x, _outputBias, residual: x);
            queue.LayerNorm(x, _gain, _bias, _config.LayerNormEps, x);
        }
    }
}
