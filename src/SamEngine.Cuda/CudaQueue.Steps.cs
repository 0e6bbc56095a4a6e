using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>
/// Steps recorded as graphs. The first step of a shape runs as it is and lets every buffer grow to its size; the second is
/// recorded while it is enqueued; from then on the recording is launched. Memory that was freed since makes a recording
/// void.
/// </summary>
internal sealed unsafe partial class CudaQueue
{
    /// <summary>Shapes kept; more than the decode steps of one model can have at a time.</summary>
    private const int MostRecordings = 64;

    private readonly Dictionary<StepKey, Recording> _recordings = [];
    private bool _isRecording;
    private bool _isBroken;

    /// <summary>Steps that were launched from a recording; for tests.</summary>
    internal long Replays { get; private set; }

    /// <summary>Gives up the recording that this thread makes, if it makes one; only under the backend's gate.</summary>
    internal void BreakRecording()
    {
        if (_isRecording)
        {
            StopCapture(out nint graph);
            Discard(graph);
            _isBroken = true;
        }
    }

    protected override bool ReplayCore(StepKey key)
    {
        Enter();
        if (_recordings.TryGetValue(key, out var recording))
        {
            if (recording.Graph is { } graph && recording.Frees == _backend.Frees)
            {
                _backend.Check(CudaDriver.cuGraphLaunch(graph.Value, _stream));
                Replays++;
                return true;
            }
            if (recording.Frees == _backend.Frees)
            {
                _backend.Gate.Enter();
                _isBroken = false;
                var status = CudaDriver.cuStreamBeginCapture_v2(_stream, CudaDriver.CaptureThreadLocal);
                _isRecording = status == CudaStatus.Success;
                if (!_isRecording)
                {
                    _backend.Gate.Exit();
                    throw _backend.Fail(status, nameof(CudaDriver.cuStreamBeginCapture_v2));
                }
                return false;
            }
            recording.Graph?.Dispose();
            _recordings.Remove(key);
        }
        return false;
    }

    protected override bool EndStepCore(StepKey key)
    {
        if (_isBroken)
        {
            _isBroken = false;
            _recordings.Remove(key);
            return false;
        }
        if (!_isRecording)
        {
            if (_recordings.Count >= MostRecordings)
            {
                DropRecordings();
            }
            _recordings[key] = new Recording(null, _backend.Frees);
            return true;
        }
        var status = StopCapture(out nint captured);
        if (status != CudaStatus.Success)
        {
            throw _backend.Fail(status, nameof(CudaDriver.cuStreamEndCapture));
        }
        var graph = new CudaGraph(_backend.Context, captured);
        _recordings[key] = new Recording(graph, _backend.Frees);
        _backend.Check(CudaDriver.cuGraphLaunch(graph.Value, _stream));
        return true;
    }

    protected override void AbandonStepCore()
    {
        if (_isRecording)
        {
            StopCapture(out nint graph);
            Discard(graph);
        }
        _isBroken = false;
    }

    private CudaStatus StopCapture(out nint graph)
    {
        nint captured = 0;
        var status = CudaDriver.cuStreamEndCapture(_stream, &captured);
        _isRecording = false;
        _backend.Gate.Exit();
        graph = captured;
        return status;
    }

    private static void Discard(nint graph)
    {
        if (graph != 0)
        {
            _ = CudaDriver.cuGraphDestroy(graph);
        }
    }

    private void DropRecordings()
    {
        foreach (var recording in _recordings.Values)
        {
            recording.Graph?.Dispose();
        }
        _recordings.Clear();
    }

    /// <summary>A shape that was seen, and its graph once there is one.</summary>
    private sealed record Recording(CudaGraph? Graph, int Frees);
}
