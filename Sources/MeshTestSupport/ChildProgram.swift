internal import Foundation
internal import MeshLinux
internal import Synchronization

/// A program of another project that runs beside a test; it is killed with its owner.
///
/// Not Foundation's `Process`: its start reads `/proc/self/fd` and now and then crashes in a process with many
/// descriptors. Nothing that a test has open is open in the program.
public final class ChildProgram: Sendable {
    private let pid: pid_t
    /// The wait status, once it has ended.
    private let status = Mutex<CInt?>(nil)

    /// - Parameters:
    ///   - arguments: the program's path first.
    ///   - folder: where it runs.
    ///   - isQuiet: its output goes nowhere instead of to ours. Its input is empty.
    public init(_ arguments: [String], in folder: String = "/", isQuiet: Bool = false) throws {
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        self.pid = try Program.start(arguments, environment: environment, in: folder, isQuiet: isQuiet)
    }

    public var isRunning: Bool {
        self.status.withLock { status in
            var ended: CInt = 0
            if status == nil, waitpid(self.pid, &ended, WNOHANG) == self.pid { status = ended }
            return status == nil
        }
    }

    /// The wait status of a program that has ended; 127 · 256 when it could not be started.
    public var waitStatus: CInt? { self.isRunning ? nil : self.status.withLock { $0 } }

    /// Kills it and waits for its end.
    public func stop() {
        self.status.withLock { status in
            guard status == nil else { return }
            kill(self.pid, SIGKILL)
            var ended: CInt = 0
            while waitpid(self.pid, &ended, 0) < 0, errno == EINTR {}
            status = ended
        }
    }

    deinit { self.stop() }
}
