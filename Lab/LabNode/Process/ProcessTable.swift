import CLabNode
import Foundation
import Synchronization

/// How a child process ended.
package struct ProcessExit: Hashable, Sendable {
    /// As a shell says it: 128 + signal for a death by signal.
    package var code: Int32
    /// 0 when it exited by itself.
    package var signal: Int32
}

/// Every child process of this program: starts them and tells how they ended, each exactly once.
///
/// One thread waits for each child (about 20 µs and a few KB of stack). Orphans that the kernel gives to pid 1, such as
/// the processes of a container whose own pid 1 is gone, are collected every ``orphanSweep``.
package final class ProcessTable: Sendable {
    static let orphanSweep = Duration.seconds(5)

    private struct State {
        var known: Set<pid_t> = []
    }
    private let state = Mutex(State())

    /// - Parameter reapsOrphans: as pid 1 must. Otherwise orphans come to us too (containers have to), but whose
    ///   children the others are is not known.
    package init(reapsOrphans: Bool) {
        _ = clabnode_become_subreaper()
        if reapsOrphans {
            Thread.detachNewThread {
                while true {
                    Thread.sleep(forTimeInterval: 5)
                    self.sweep()
                }
            }
        }
    }

    /// A child and its end. `exit` may be awaited by any number of tasks.
    final class Child: Sendable {
        let pid: pid_t
        private let ended = Mutex<(exit: ProcessExit?, waiters: [CheckedContinuation<ProcessExit, Never>])>((nil, []))

        init(pid: pid_t) { self.pid = pid }

        /// Does not end early when the task is cancelled: kill the process, then its end comes.
        var exit: ProcessExit {
            get async {
                await withCheckedContinuation { continuation in
                    let known = self.ended.withLock { state in
                        if state.exit == nil { state.waiters.append(continuation) }
                        return state.exit
                    }
                    if let known { continuation.resume(returning: known) }
                }
            }
        }
        /// Nil while it runs.
        var exitIfEnded: ProcessExit? { self.ended.withLock { $0.exit } }

        /// Under the lock, so that the number is never another process's: it is reaped before `exit` is set.
        func signal(_ number: Int32) {
            self.ended.withLock { if $0.exit == nil { _ = kill(self.pid, number) } }
        }

        fileprivate func finish(_ exit: ProcessExit) {
            let waiters = self.ended.withLock { state in
                state.exit = exit
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume(returning: exit) }
        }
    }

    struct Streams {
        var input: Int32
        var output: Int32
        var error: Int32
        var isTerminal = false
    }

    /// - Throws: ``SystemError`` when the system has no room for another process; a program that is missing exits 127.
    func spawn(
        _ arguments: [String], environment: [String: String], streams: Streams, networkNamespace: Int32?
    ) throws -> Child {
        let pid = self.state.withLock { state in
            let pid = withCStrings(arguments) { argv in
                withCStrings(environment.map { "\($0)=\($1)" }) { envp in
                    var spawn = clabnode_spawn(
                        argv: argv, envp: envp, standard_input: streams.input, standard_output: streams.output,
                        standard_error: streams.error, network_namespace: networkNamespace ?? -1,
                        terminal: streams.isTerminal ? 1 : 0)
                    return clabnode_spawn(&spawn)
                }
            }
            if pid > 0 { state.known.insert(pid) }
            return pid
        }
        guard pid > 0 else { throw SystemError("starting \(arguments.first ?? "")", code: -pid) }
        return self.watch(pid)
    }

    /// A process that became our child in another way: the first process of a container, left to us by `runc create`.
    func adopt(_ pid: pid_t) -> Child {
        self.state.withLock { _ = $0.known.insert(pid) }
        return self.watch(pid)
    }

    private func watch(_ pid: pid_t) -> Child {
        let child = Child(pid: pid)
        let thread = Thread {
            var exit = ProcessExit(code: 255, signal: 0)
            _ = clabnode_wait(pid, &exit.code, &exit.signal)
            self.state.withLock { _ = $0.known.remove(pid) }
            child.finish(exit)
        }
        thread.stackSize = 128 * 1024
        thread.start()
        return child
    }

    private func sweep() {
        for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let pid = pid_t(entry), let stat = readText("/proc/\(pid)/stat"),
                let close = stat.lastIndex(of: ")")
            else { continue }
            let fields = stat[close...].dropFirst(2).split(separator: " ")
            guard fields.count > 2, fields[0] == "Z", fields[1] == "1" else { continue }
            self.state.withLock { state in
                if !state.known.contains(pid) { _ = clabnode_reap(pid) }
            }
        }
    }
}

/// A system call that failed.
struct SystemError: Error, CustomStringConvertible {
    var what: String
    var code: Int32
    init(_ what: String, code: Int32) {
        self.what = what
        self.code = code
    }
    var description: String { "\(self.what): \(String(cString: strerror(self.code)))" }
}

/// Calls `body` with a null-terminated array of C strings that lives until it returns.
func withCStrings<R>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R
) -> R {
    // SAFETY: every pointer comes from strdup, is freed exactly once below, and does not leave `body`.
    let pointers = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeBufferPointer { body($0.baseAddress!) }
}

/// Nil when the file is missing or no UTF-8.
func readText(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
