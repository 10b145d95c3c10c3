import LabCluster

await LabCommand.start(Array(CommandLine.arguments.dropFirst()))
