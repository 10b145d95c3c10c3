internal import Foundation
internal import Synchronization

/// A program of another project that runs beside a test; it is killed with its owner.
///
/// Not Foundation's `Process`: its start reads `/proc/self/fd` and now and then crashes in a process with many
/// descriptors.
public final class ChildProgram: Sendable {
    public struct CannotStart: Error, CustomStringConvertible { public var description: String }

    private let pid: pid_t
    /// The wait status, once it has ended.
    private let status = Mutex<CInt?>(nil)

    /// - Parameters:
    ///   - arguments: the program's path first.
    ///   - folder: where it runs.
    ///   - isQuiet: its output goes nowhere instead of to ours. Its input is empty.
    public init(_ arguments: [String], in folder: String = "/", isQuiet: Bool = false) throws {
        let arguments = ["/usr/bin/env", "--chdir=\(folder)"] + arguments
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        if isQuiet {
            posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
            posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        }
        var pid: pid_t = 0
        // SAFETY: both vectors end in nil and live until the call returns; the strings are freed after it.
        var vector = arguments.map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        let code = posix_spawn(&pid, arguments[0], &actions, nil, &vector, &variables)
        for text in vector + variables { free(text) }
        guard code == 0 else {
            throw CannotStart(description: "\(arguments.joined(separator: " ")): \(String(cString: strerror(code)))")
        }
        self.pid = pid
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
