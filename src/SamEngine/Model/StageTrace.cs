using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>Receives intermediate results by name, for tests and explanations. The view is valid during the call only.</summary>
internal delegate void StageTrace(string stage, TensorView value);
