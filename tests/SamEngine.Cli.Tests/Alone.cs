using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>Tests that measure what the machine does: none run beside them.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
