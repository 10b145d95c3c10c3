import CLabNode
import Foundation
import Synchronization

/// The process outside: makes the namespaces, starts pid 1 in them, waits, and cleans up after it.
struct NodeKeeper {
    let configuration: NodeConfiguration

    init(_ configuration: NodeConfiguration) { self.configuration = configuration }

    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    /// Returns when the node has died, whatever the cause; throws when it ended by itself with an error.
    func run() async throws {
        try FileManager.default.createDirectory(
            atPath: self.configuration.nodeRunDirectory, withIntermediateDirectories: true)
        await NodeRemains(self.configuration).remove()
        let host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)
        guard host >= 0 else { throw SystemError("opening our network namespace", code: errno) }
        let environment = ProcessInfo.processInfo.environment
            .merging([LabNodeProcess.stageVariable: "\(host)"]) { $1 }
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let signals = self.catchSignals()
        defer { for signal in signals.sources { signal.cancel() } }
        let (pid, exit) = try await self.startAndWait(program, environment, host, signals.pid)
        close(host)
        await NodeRemains(self.configuration).remove()
        let wasAsked = signals.pid.withLock { $0.isStopping }
        if !wasAsked, exit.signal == 0, exit.code != 0 {
            throw Failed(
                description: "node \(self.configuration.nodeName) (pid \(pid)) ended with exit code \(exit.code); "
                    + "its log says why")
        }
    }

    private final class Running: Sendable {
        struct State {
            var pid: pid_t = 0
            var isStopping = false
        }
        private let state = Mutex(State())
        func withLock<R: Sendable>(_ body: (inout sending State) -> sending R) -> R { self.state.withLock(body) }
    }

    private func catchSignals() -> (sources: [any DispatchSourceSignal], pid: Running) {
        let running = Running()
        let sources = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                let pid = running.withLock { state in
                    state.isStopping = true
                    return state.pid
                }
                if pid > 0 { kill(pid, SIGKILL) }
            }
            source.resume()
            return source
        }
        return (sources, running)
    }

    private func startAndWait(
        _ program: String, _ environment: [String: String], _ host: Int32, _ running: Running
    ) async throws -> (pid_t, ProcessExit) {
        let pidFile = self.configuration.pidFile
        return try await withCheckedThrowingContinuation { continuation in
            // The node lives as long as this thread: see clabnode_start_node.
            Thread.detachNewThread {
                let pid = withCStrings(CommandLine.arguments) { argv in
                    withCStrings(environment.map { "\($0)=\($1)" }) { envp in
                        clabnode_start_node(program, argv, envp, host)
                    }
                }
                guard pid > 0 else {
                    continuation.resume(
                        throwing: SystemError("making the node's namespaces (are you root?)", code: -pid))
                    return
                }
                let isStopping = running.withLock { state in
                    state.pid = pid
                    return state.isStopping
                }
                if isStopping { kill(pid, SIGKILL) }
                try? writeText("\(pid)\n", to: pidFile)
                var exit = ProcessExit(code: 255, signal: 0)
                _ = clabnode_wait(pid, &exit.code, &exit.signal)
                running.withLock { $0.pid = 0 }
                continuation.resume(returning: (pid, exit))
            }
        }
    }
}

/// What is left of a node when its processes and namespaces are gone: cgroup directories, its socket and pid file.
public struct NodeRemains: Sendable {
    let configuration: NodeConfiguration

    static let attemptsMax = 100
    static let attemptInterval = Duration.milliseconds(50)

    public init(_ configuration: NodeConfiguration) { self.configuration = configuration }

    /// Harmless when nothing is left. Must not be called for a node that runs.
    public func remove() async {
        unlink(self.configuration.kubeletSocket)
        unlink(self.configuration.pidFile)
        // Processes that were just killed hold theirs until they are reaped, which takes a busy machine a moment.
        for _ in 0..<Self.attemptsMax {
            Self.removeCgroups(self.configuration.cgroup)
            let isGone = Self.hierarchies().allSatisfy { access("\($0)\(self.configuration.cgroup)", F_OK) != 0 }
            if isGone { break }
            try? await Task.sleep(for: Self.attemptInterval)
        }
        // Those of the cluster and of the lab go with the last node; rmdir refuses earlier.
        for hierarchy in Self.hierarchies() {
            rmdir("\(hierarchy)/martlet-lab/\(self.configuration.clusterName)")
            rmdir("\(hierarchy)/martlet-lab")
        }
    }

    static func hierarchies() -> [String] {
        let root = "/sys/fs/cgroup"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        return [root] + names.map { "\(root)/\($0)" }.filter { access("\($0)/cgroup.procs", F_OK) == 0 }
    }

    static func removeCgroups(_ path: String) {
        for hierarchy in self.hierarchies() { self.removeTree("\(hierarchy)\(path)") }
    }

    private static func removeTree(_ path: String) {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else { return }
        for name in names {
            var isDirectory: ObjCBool = false
            if FileManager.default.fileExists(atPath: "\(path)/\(name)", isDirectory: &isDirectory),
                isDirectory.boolValue
            {
                self.removeTree("\(path)/\(name)")
            }
        }
        rmdir(path)
    }
}
