using SamEngine.Compute;

namespace SamEngine;

/// <summary>Makes a backend that comes in a package of its own, such as SamEngine.Ilgpu; for
/// <see cref="SamModelOptions.BackendProvider"/>.</summary>
public abstract class BackendProvider
{
    /// <summary>Backends know the engine's inside: they come with it.</summary>
    internal BackendProvider()
    {
    }

    /// <summary>Opens the device.</summary>
    /// <exception cref="BackendException">It can't be used here.</exception>
    /// <exception cref="RequestException">An option is of another backend.</exception>
    internal abstract Backend Create(SamModelOptions options);
}
