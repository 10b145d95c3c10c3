internal import Foundation
internal import MeshLinux
internal import Synchronization

/// Envoy as our child. Ends with us, and we with it.
package final class EnvoyProcess: Sendable {
    package struct NotStarted: Error, CustomStringConvertible {
        package let description: String
    }

    private struct State {
        /// Nil while it runs.
        var ending: String?
        var waiting: [CheckedContinuation<String, Never>] = []
    }
    private let pid: Int32
    private let state = Mutex(State())

    /// - Parameters:
    ///   - path: of the program; it writes to our own output.
    ///   - directory: where it runs.
    ///   - environment: in addition to our own.
    package init(
        _ path: String, _ arguments: [String], in directory: String, environment added: [String: String] = [:]
    ) throws {
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw NotStarted(
                description: "there is no Envoy at \(path); does the image hold it? ENVOY_PATH says where it is")
        }
        let environment = ProcessInfo.processInfo.environment.merging(added) { $1 }.map { "\($0.key)=\($0.value)" }
        do throws(SystemError) {
            self.pid = try Program.start([path] + arguments, environment: environment, in: directory, isQuiet: false)
        } catch {
            throw NotStarted(description: "\(path) cannot be started: \(error)")
        }
        // One thread for the child's whole life: nothing else hears of its end without polling.
        let thread = Thread { self.await() }
        thread.name = "envoy"
        thread.start()
    }

    private func await() {
        var info = siginfo_t()
        // Looks without reaping, so that its number stays its own until nobody can send it a signal any more.
        while waitid(P_PID, id_t(self.pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        let waiting = self.state.withLock { state in
            var status: CInt = 0
            while waitpid(self.pid, &status, 0) < 0, errno == EINTR {}
            let signal = status & 0x7f
            let how =
                signal == 0
                ? "Envoy ended with status \(status >> 8 & 0xff)" : "Envoy was ended by signal \(signal)"
            state.ending = how
            defer { state.waiting = [] }
            return (how, state.waiting)
        }
        for waiter in waiting.1 { waiter.resume(returning: waiting.0) }
    }

    package var isRunning: Bool { self.state.withLock { $0.ending == nil } }

    /// Returns when it has ended: how.
    package func wait() async -> String {
        await withCheckedContinuation { waiter in
            let ending = self.state.withLock { state in
                if state.ending == nil { state.waiting.append(waiter) }
                return state.ending
            }
            if let ending { waiter.resume(returning: ending) }
        }
    }

    package func signal(_ number: CInt) {
        self.state.withLock { state in if state.ending == nil { kill(self.pid, number) } }
    }

    /// What it needs to end in order after it was asked to.
    private static let endMax = Duration.seconds(5)

    /// Returns when it has ended, which nobody can hurry.
    package func stop() async {
        self.signal(SIGTERM)
        let cut = Task {
            try await Task.sleep(for: Self.endMax)
            self.signal(SIGKILL)
        }
        _ = await self.wait()
        cut.cancel()
    }
}
