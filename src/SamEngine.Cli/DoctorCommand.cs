using System.CommandLine;
using System.Runtime.InteropServices;
using SamEngine.Compute.Cpu;
using SamEngine.Cuda;
using SamEngine.Ilgpu;

namespace SamEngine.Cli;

/// <summary><c>sam doctor</c>: what would run here, every library tried, and what to do about what failed.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var command = new Command("doctor", "Print every library tried, the instruction set found, and what is wrong");
        command.SetAction(_ =>
        {
            Console.Out.WriteLine($"system: {RuntimeInformation.OSDescription} {RuntimeInformation.RuntimeIdentifier}, " +
                $".NET {Environment.Version}, {Environment.ProcessorCount} processors");
            Console.Out.WriteLine($"memory: {Units.Bytes(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes)} available to the process");
            int code = ExitCodes.Success;
            try
            {
                using var backend = new CpuBackend();
                Console.Out.WriteLine($"backend cpu: {backend.Info.InstructionSet} kernels on {backend.Info.Device}, " +
                    $"{backend.Info.Threads} threads; possible here: {string.Join(", ", CpuBackend.InstructionSets)}");
            }
            catch (Exception e) when (e is BackendException or RequestException)
            {
                Console.Out.WriteLine("backend cpu: not usable: " + e.Message);
                code = ExitCodes.Backend;
            }
            foreach (var probe in NativeLibraryLoader.Probes)
            {
                Console.Out.WriteLine($"  tried {probe.Path}: {probe.Outcome}");
            }
            WriteCuda();
            var drivers = IlgpuProvider.Drivers;
            foreach (var device in IlgpuProvider.Devices)
            {
                string memory = device.MemoryBytes > 0 ? ", " + Units.Bytes(device.MemoryBytes) : "";
                Console.Out.WriteLine($"backend ilgpu, device {device.Number}: {device.Kind.ToString().ToLowerInvariant()}, {device.Name}{memory}" +
                    (device.Refusal is { } refusal ? $": not usable: {refusal}" : ""));
            }
            foreach (var driver in drivers)
            {
                Console.Out.WriteLine($"  tried {driver.Library}: {driver.Problem ?? "started"}");
            }
            var auto = BackendSelection.Auto();
            Console.Out.WriteLine($"backend auto: {auto.Provider switch { null => "cpu", CudaProvider => "cuda", _ => "ilgpu" }}{auto.Reason}");
            Console.Out.WriteLine($"default model: {BundledModel.Name}, {BundledModel.Folder}" +
                (BundledModel.IsThere ? "" : ": not there; commands need --model DIR"));
            return code;
        });
        return command;
    }

    private static void WriteCuda()
    {
        Console.Out.WriteLine(CudaProvider.DriverFailure is { } failure ? $"backend cuda: not usable: {failure}"
            : $"backend cuda: the driver is for CUDA {CudaProvider.DriverVersion}; kernels embedded: " +
                (CudaProvider.Kernels.Count > 0 ? string.Join(", ", CudaProvider.Kernels) : "none"));
        foreach (var probe in CudaProvider.DriverProbes)
        {
            Console.Out.WriteLine($"  tried {probe.Path}: {probe.Outcome}");
        }
        if (CudaProvider.DriverFailure is not null)
        {
            return;
        }
        foreach (var device in CudaProvider.Devices)
        {
            Console.Out.WriteLine($"backend cuda, device {device.Number}: {device.Name}, compute capability " +
                $"{device.ComputeCapability / 10}.{device.ComputeCapability % 10}, {Units.Bytes(device.MemoryBytes)}" +
                (device.Refusal is { } refusal ? $": not usable: {refusal}" : $", kernels: {device.Kernels}"));
        }
    }
}
