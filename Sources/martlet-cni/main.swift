internal import Glibc
internal import MeshCNI
internal import MeshLinux

// Started by the container runtime for each pod. Nothing but the CNI result may go to standard output.
signal(SIGPIPE, SIG_IGN)

var environment: [String: String] = [:]
for name: String in ["CNI_COMMAND", "CNI_NETNS", "CNI_ARGS"] {
    environment[name] = getenv(name).map { String(cString: $0) }
}
let input = StandardStreams.readInput(bytesMax: 1 << 20)
let outcome = CNIPlugin().run(environment: environment, input: input)
if let note = outcome.note {
    StandardStreams.writeError("istio-cni: \(note)\n")
    PluginLog.append(note, input: input)
}
StandardStreams.writeOutput(outcome.standardOutput)
exit(outcome.exitCode)
