internal import Dispatch
internal import Glibc
internal import Synchronization

/// The wish that the process ends: SIGTERM, SIGINT, or `POST /quitquitquit`.
package final class ShutdownSignal: Sendable {
    private struct State {
        var reason: String?
        var waiting: [CheckedContinuation<String, Never>] = []
    }
    private let state = Mutex(State())

    package init() {}

    /// The first reason counts.
    package func request(_ reason: String) {
        let waiting = self.state.withLock { state in
            defer { state.waiting = [] }
            if state.reason == nil { state.reason = reason }
            return state.waiting
        }
        for waiter in waiting { waiter.resume(returning: reason) }
    }

    /// - Returns: the reason, when there is one.
    package func wait() async -> String {
        await withCheckedContinuation { waiter in
            let reason: String? = self.state.withLock { state in
                if state.reason == nil { state.waiting.append(waiter) }
                return state.reason
            }
            if let reason { waiter.resume(returning: reason) }
        }
    }

    /// Listens to SIGTERM and SIGINT for as long as the returned value lives. A second SIGINT ends the process at once.
    package func trapSignals() -> SignalTrap {
        SignalTrap(signals: [SIGTERM, SIGINT]) { signal, count in
            if signal == SIGINT, count > 1 { exit(0) }
            self.request(signal == SIGINT ? "SIGINT" : "SIGTERM")
        }
    }
}

/// `@unchecked`: the sources are made in the initialiser and touched again only when this is freed.
package final class SignalTrap: @unchecked Sendable {
    private let sources: [any DispatchSourceSignal]

    init(signals: [CInt], _ received: @escaping @Sendable (CInt, Int) -> Void) {
        let queue = DispatchQueue(label: "signals")
        let counts = Counts()
        self.sources = signals.map { number in
            // The default action would end the process before the source hears of it.
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { received(number, counts.next(number)) }
            source.resume()
            return source
        }
    }

    private final class Counts: Sendable {
        private let counts = Mutex<[CInt: Int]>([:])
        func next(_ signal: CInt) -> Int {
            self.counts.withLock { counts in
                counts[signal, default: 0] += 1
                return counts[signal]!
            }
        }
    }

    deinit { for source in self.sources { source.cancel() } }
}
