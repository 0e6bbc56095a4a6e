using SamEngine.Training;

TorchLibrary.Ensure();
return MiniTraining.Command().Parse(args).Invoke();
