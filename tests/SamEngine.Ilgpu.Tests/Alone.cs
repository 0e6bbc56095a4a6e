using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>Tests that measure what the process does: none run beside them.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
