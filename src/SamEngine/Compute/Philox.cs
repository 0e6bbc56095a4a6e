namespace SamEngine.Compute;

/// <summary>Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"): a counter-based generator, so
/// every backend draws the same numbers for the same seed, step, row and token, in any order.</summary>
internal static class Philox
{
    /// <summary>The four 32-bit words for a key (the seed) and a counter.</summary>
    public static (uint X0, uint X1, uint X2, uint X3) Draw(
        uint keyLow, uint keyHigh, uint c0, uint c1, uint c2, uint c3)
    {
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = 0xD2511F53UL * c0;
            ulong p1 = 0xCD9E8D57UL * c2;
            (c0, c1, c2, c3) = (
                (uint)(p1 >> 32) ^ c1 ^ keyLow, (uint)p1,
                (uint)(p0 >> 32) ^ c3 ^ keyHigh, (uint)p0);
            keyLow += 0x9E3779B9;
            keyHigh += 0xBB67AE85;
        }
        return (c0, c1, c2, c3);
    }

    /// <summary>
    /// Standard Gumbel noise for one token of one row: -log(-log u) with u = (x0 + 0.5) / 2^32, counter
    /// (token, row, step, 0). Adding it to log-weights and taking the largest n draws n without replacement.
    /// </summary>
    public static float Gumbel(uint seedLow, uint seedHigh, uint step, uint row, uint token)
    {
        uint x = Draw(seedLow, seedHigh, token, row, step, 0).X0;
        double u = (x + 0.5) / 4294967296.0;
        return (float)-Math.Log(-Math.Log(u));
    }
}
