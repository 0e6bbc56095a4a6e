using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary><see cref="Linear"/> for GPUs. A row's result depends on which of the two kernels takes it, not on the rows beside
/// it.</summary>
internal static class GroupLinear
{
    /// <summary>Rows that a launch of <see cref="FewRows"/> reads the weights for at once.</summary>
    public const int RowBlock = 4;

    private const int MostTile = 4 * 16;

    /// <summary>Columns of a tile in shared memory: the stretch that is summed by itself.</summary>
    private const int Depth = 32;

    /// <summary>Tiles have a padding column: threads that store down a column must not meet in one bank.</summary>
    private const int Pitch = MostTile + 1;

    /// <summary>Rows, and outputs, of the tile that one group computes.</summary>
    /// <param name="groupSize">Its threads.</param>
    public static int Tile(int groupSize) => groupSize >= 256 ? 64 : groupSize >= 64 ? 32 : 16;

    /// <summary>A group computes a square tile: it brings 32 columns of its rows and outputs to shared memory, widened, and each
    /// thread adds up four outputs of four rows in registers.</summary>
    public static void Tiles<TFormat>(LinearArguments a)
        where TFormat : struct, IWeightFormat
    {
        var format = default(TFormat);
        var xs = SharedMemory.Allocate<float>(Depth * Pitch);
        var ws = SharedMemory.Allocate<float>(Depth * Pitch);
        var scales = SharedMemory.Allocate<float>(MostTile);
        var rowAt = SharedMemory.Allocate<long>(MostTile);
        int side = GroupReduction.Side;
        int tile = 4 * side;
        int columns = a.X.Columns;
        int across = (a.Y.Columns + tile - 1) / tile;
        int firstRow = Grid.IdxX / across * tile;
        int firstOutput = Grid.IdxX % across * tile;
        int lastOutput = a.Y.Columns - 1;
        int thread = Group.IdxX;
        if (thread < tile)
        {
            // Past the end the last row comes again; its results are not stored.
            rowAt[thread] = a.X.RowAt(XMath.Min(firstRow + thread, a.Rows - 1));
        }
        Group.Barrier();
        int r = thread / side;
        int n = thread % side;
        float s00 = 0, s01 = 0, s02 = 0, s03 = 0;
        float s10 = 0, s11 = 0, s12 = 0, s13 = 0;
        float s20 = 0, s21 = 0, s22 = 0, s23 = 0;
        float s30 = 0, s31 = 0, s32 = 0, s33 = 0;
        for (int start = 0; start < columns; start += Depth)
        {
            for (int i = thread; i < tile * Depth; i += Group.DimX)
            {
                int k = i % Depth;
                int line = i / Depth;
                bool inside = start + k < columns;
                int output = XMath.Min(firstOutput + line, lastOutput);
                xs[k * Pitch + line] = inside ? a.X.Data[rowAt[line] + start + k] : 0;
                ws[k * Pitch + line] = inside ? format.Value(a.W, (long)output * a.W.RowStride + start + k) : 0;
            }
            if (thread < tile)
            {
                scales[thread] = format.Scale(a.W, XMath.Min(firstOutput + thread, lastOutput), start);
            }
            Group.Barrier();
            float p00 = 0, p01 = 0, p02 = 0, p03 = 0;
            float p10 = 0, p11 = 0, p12 = 0, p13 = 0;
            float p20 = 0, p21 = 0, p22 = 0, p23 = 0;
            float p30 = 0, p31 = 0, p32 = 0, p33 = 0;
            for (int k = 0; k < Depth; k++)
            {
                int at = k * Pitch;
                float b0 = ws[at + n];
                float b1 = ws[at + n + side];
                float b2 = ws[at + n + 2 * side];
                float b3 = ws[at + n + 3 * side];
                float v = xs[at + r];
                p00 += v * b0;
                p01 += v * b1;
                p02 += v * b2;
                p03 += v * b3;
                v = xs[at + r + side];
                p10 += v * b0;
                p11 += v * b1;
                p12 += v * b2;
                p13 += v * b3;
                v = xs[at + r + 2 * side];
                p20 += v * b0;
                p21 += v * b1;
                p22 += v * b2;
                p23 += v * b3;
                v = xs[at + r + 3 * side];
                p30 += v * b0;
                p31 += v * b1;
                p32 += v * b2;
                p33 += v * b3;
            }
            float c = scales[n];
            s00 += p00 * c;
            s10 += p10 * c;
            s20 += p20 * c;
            s30 += p30 * c;
            c = scales[n + side];
            s01 += p01 * c;
            s11 += p11 * c;
            s21 += p21 * c;
            s31 += p31 * c;
            c = scales[n + 2 * side];
            s02 += p02 * c;
            s12 += p12 * c;
            s22 += p22 * c;
            s32 += p32 * c;
            c = scales[n + 3 * side];
            s03 += p03 * c;
            s13 += p13 * c;
            s23 += p23 * c;
            s33 += p33 * c;
            Group.Barrier();
        }
        StoreFour(a, firstRow + r, firstOutput + n, side, s00, s01, s02, s03);
        StoreFour(a, firstRow + r + side, firstOutput + n, side, s10, s11, s12, s13);
        StoreFour(a, firstRow + r + 2 * side, firstOutput + n, side, s20, s21, s22, s23);
        StoreFour(a, firstRow + r + 3 * side, firstOutput + n, side, s30, s31, s32, s33);
    }

    /// <summary>A team of 32 threads (16 in a smaller group) computes one output of up to four rows: each thread reads eight
    /// neighbouring weights at a time and uses them for every row; the partial sums meet in shared memory.</summary>
    public static void FewRows<TFormat, TRows>(LinearArguments a)
        where TFormat : struct, IWeightFormat
        where TRows : struct, IRowBlock
    {
        var format = default(TFormat);
        var shared = SharedMemory.Allocate<float>(RowBlock * GroupReduction.Most);
        int lanes = Lanes(Group.DimX);
        int teams = Group.DimX / lanes;
        int thread = Group.IdxX;
        int lane = thread % lanes;
        int across = (a.Y.Columns + teams - 1) / teams;
        int row = Grid.IdxX / across * default(TRows).Count;
        int output = Grid.IdxX % across * teams + thread / lanes;
        // Every thread must come to the barriers; what is past the end is computed again and not stored.
        int n = XMath.Min(output, a.Y.Columns - 1);
        int columns = a.X.Columns;
        int whole = columns / 8 * 8;
        long w = (long)n * a.W.RowStride;
        int last = a.Rows - 1;
        long x0 = a.X.RowAt(row);
        long x1 = a.X.RowAt(XMath.Min(row + 1, last));
        long x2 = a.X.RowAt(XMath.Min(row + 2, last));
        long x3 = a.X.RowAt(XMath.Min(row + 3, last));
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (int k = 8 * lane; k < whole; k += 8 * lanes)
        {
            var weights = format.Eight(a.W, w + k);
            float scale = format.Scale(a.W, n, k);
            s0 += weights.Dot(a.X.Data, x0 + k) * scale;
            if (default(TRows).Count > 1)
            {
                s1 += weights.Dot(a.X.Data, x1 + k) * scale;
                s2 += weights.Dot(a.X.Data, x2 + k) * scale;
                s3 += weights.Dot(a.X.Data, x3 + k) * scale;
            }
        }
        for (int k = whole + lane; k < columns; k += lanes)
        {
            float weight = format.Value(a.W, w + k) * format.Scale(a.W, n, k);
            s0 += weight * a.X.Data[x0 + k];
            if (default(TRows).Count > 1)
            {
                s1 += weight * a.X.Data[x1 + k];
                s2 += weight * a.X.Data[x2 + k];
                s3 += weight * a.X.Data[x3 + k];
            }
        }
        shared[thread] = s0;
        shared[thread + GroupReduction.Most] = s1;
        shared[thread + 2 * GroupReduction.Most] = s2;
        shared[thread + 3 * GroupReduction.Most] = s3;
        Group.Barrier();
        for (int count = lanes / 2; count > 0; count /= 2)
        {
            for (int i = 0; i < default(TRows).Count && lane < count; i++)
            {
                shared[thread + i * GroupReduction.Most] += shared[thread + count + i * GroupReduction.Most];
            }
            Group.Barrier();
        }
        if (lane < default(TRows).Count)
        {
            // Thread i of a team stores row i; all sums lie with its first thread.
            Linear.Store(a, row + lane, output, shared[thread - lane + lane * GroupReduction.Most]);
        }
    }

    /// <summary>Outputs of a group of <see cref="FewRows"/>.</summary>
    public static int Teams(int groupSize) => groupSize / Lanes(groupSize);

    private static int Lanes(int groupSize) => XMath.Min(32, groupSize);

    private static void StoreFour(LinearArguments a, int row, int n, int side, float s0, float s1, float s2, float s3)
    {
        Linear.Store(a, row, n, s0);
        Linear.Store(a, row, n + side, s1);
        Linear.Store(a, row, n + 2 * side, s2);
        Linear.Store(a, row, n + 3 * side, s3);
    }
}

/// <summary>How many rows <see cref="GroupLinear.FewRows"/> takes at once; known when it is compiled.</summary>
internal interface IRowBlock
{
    int Count { get; }
}

internal readonly struct OneRow : IRowBlock
{
    public int Count => 1;
}

internal readonly struct FourRows : IRowBlock
{
    public int Count => GroupLinear.RowBlock;
}
