import Foundation

/// What this machine is, for the Node object. All nodes of a lab are the same machine.
struct Machine: Hashable, Sendable {
    var cpus: Int64
    var memoryBytes: Int64
    var kernel: String
    var osImage: String
    var architecture: String
    var machineID: String
    var bootID: String

    static func current() -> Machine {
        let architecture: String
        #if arch(arm64)
            architecture = "arm64"
        #else
            architecture = "amd64"
        #endif
        let release = readText("/etc/os-release") ?? ""
        let pretty = release.split(separator: "\n").first { $0.hasPrefix("PRETTY_NAME=") }?
            .dropFirst("PRETTY_NAME=".count).trimmingCharacters(in: ["\""])
        func line(_ path: String) -> String {
            (readText(path) ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        return Machine(
            cpus: Int64(ProcessInfo.processInfo.processorCount),
            memoryBytes: Int64(ProcessInfo.processInfo.physicalMemory),
            kernel: line("/proc/sys/kernel/osrelease"), osImage: pretty ?? "Linux", architecture: architecture,
            machineID: line("/etc/machine-id"), bootID: line("/proc/sys/kernel/random/boot_id"))
    }
}
