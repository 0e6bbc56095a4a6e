using System.Runtime.InteropServices;
using System.Text;

namespace SamEngine.Cli;

/// <summary>
/// Standard output and error as UTF-8. The console's own streams say nothing when the reader of a pipe has gone, so a long
/// generation would go on for nobody, and end the process when standard error is closed or full; these do neither.
/// </summary>
internal static partial class StandardStreams
{
    /// <summary>Standard output. A write throws <see cref="ReaderGoneException"/> once nobody can read it.</summary>
    public static Stream Output { get; } = Open(1);

    /// <summary>Puts the streams behind <see cref="Console.Out"/> and <see cref="Console.Error"/>.</summary>
    public static void Install()
    {
        var utf8 = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        Console.OutputEncoding = utf8;
        Console.SetOut(new StreamWriter(Output, utf8) { AutoFlush = true });
        Console.SetError(new StreamWriter(Open(2), utf8) { AutoFlush = true });
    }

    private static Stream Open(int descriptor) => OperatingSystem.IsWindows()
        ? descriptor == 1 ? Console.OpenStandardOutput() : Console.OpenStandardError()
        : new DescriptorStream(descriptor);

    private sealed unsafe partial class DescriptorStream(int descriptor) : Stream
    {
        private const int Interrupted = 4;
        private const int Again = 11;
        private const int BrokenPipe = 32;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> bytes)
        {
            while (bytes.Length > 0)
            {
                nint written;
                fixed (byte* pointer = bytes)
                {
                    written = WriteTo(descriptor, pointer, bytes.Length);
                }
                if (written >= 0)
                {
                    bytes = bytes[(int)written..];
                    continue;
                }
                int error = Marshal.GetLastPInvokeError();
                if (error == Again)
                {
                    // Whoever started the command made the pipe non-blocking.
                    Thread.Sleep(5);
                }
                else if (error != Interrupted)
                {
                    if (descriptor == 2)
                    {
                        // There is nowhere left to say so.
                        return;
                    }
                    throw error == BrokenPipe ? new ReaderGoneException()
                        : new IOException("standard output can't be written: " + Marshal.GetPInvokeErrorMessage(error));
                }
            }
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
        private static partial nint WriteTo(int descriptor, byte* bytes, nint count);
    }
}

/// <summary>Nobody reads standard output any more, as in <c>sam … | head -n 1</c>: the command ends quietly.</summary>
internal sealed class ReaderGoneException() : IOException("standard output is closed");
