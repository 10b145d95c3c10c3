package import Glibc
package import MeshModel

/// Sockets and time without an operating system, for simulations: the product's own loops, tunnels and pools run on
/// it, one seed makes one history.
///
/// A descriptor from ``Simulation/firstDescriptor`` on belongs to it, as does everything listened for or dialled in a
/// network namespace with such a descriptor. The kernel never hands out numbers that large (`fs.nr_open` ends at
/// 2^30), so real sockets cannot be mistaken for simulated ones; they pay one comparison per call.
package protocol SimulatedKernel: AnyObject {
    func listen(_ options: Sockets.ListenOptions) throws(SystemError) -> Sockets.ListenResult
    func dial(_ options: Sockets.DialOptions) throws(SystemError) -> CInt
    /// A negative descriptor is `-errno`.
    func accept(_ listener: CInt) -> (descriptor: CInt, peer: IPEndpoint?)
    func localEndpoint(of descriptor: CInt) -> IPEndpoint?
    func originalDestination(of descriptor: CInt) -> IPEndpoint?
    func pendingError(of descriptor: CInt) -> CInt
    func resetOnClose(_ descriptor: CInt)
    func finishWriting(_ descriptor: CInt)
    func close(_ descriptor: CInt)
    func duplicate(_ descriptor: CInt) -> CInt
    func pair() -> (CInt, CInt)

    func read(_ descriptor: CInt, into vectors: UnsafeBufferPointer<iovec>) -> IOResult
    func write(_ descriptor: CInt, from vectors: UnsafeBufferPointer<iovec>) -> IOResult
    /// Whether the next read would answer "ended".
    func isAtEnd(_ descriptor: CInt) -> Bool

    /// The loop watches `source` until ``unwatch(_:)``; the kernel keeps it alive so long.
    func watch(_ source: EventSource, edgeTriggered: Bool)
    func unwatch(_ source: EventSource)
}

/// Where simulated descriptors lead.
package enum Simulation {
    package static let firstDescriptor: CInt = 1 << 30

    // SAFETY: set and used by one thread at a time, the one that runs a simulation; nobody else has a descriptor
    // that leads here.
    package nonisolated(unsafe) static var kernel: (any SimulatedKernel)?

    @inline(__always)
    static func owns(_ descriptor: CInt) -> Bool { descriptor >= self.firstDescriptor }

    @inline(never)
    static func owner() -> any SimulatedKernel {
        guard let kernel = self.kernel else { preconditionFailure("a simulated descriptor outlived its simulation") }
        return kernel
    }

    @inline(never)
    static func read(_ descriptor: CInt, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> IOResult {
        var vector = iovec(iov_base: bytes, iov_len: count)
        return withUnsafePointer(to: &vector) {
            self.owner().read(descriptor, into: UnsafeBufferPointer(start: $0, count: 1))
        }
    }

    @inline(never)
    static func write(_ descriptor: CInt, _ bytes: UnsafeRawPointer, _ count: Int) -> IOResult {
        // SAFETY: nobody writes through the pointer.
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes), iov_len: count)
        return withUnsafePointer(to: &vector) {
            self.owner().write(descriptor, from: UnsafeBufferPointer(start: $0, count: 1))
        }
    }
}

extension EventLoop {
    /// One round at the virtual time `now`: readiness, jobs, timers, turns, in the order of a real one.
    package func simulateRound(at now: UInt64, _ events: [(source: EventSource, readiness: Readiness)]) {
        precondition(self.isSimulated)
        self.setNow(now)
        for (source, readiness) in events where !source.isClosed && source.isRegistered { source.ready(readiness) }
        self.finishRound(hasJobs: true)
    }

    /// When the next timer fires; nil without timers.
    package var nextDeadline: UInt64? { self.timers.first?.deadline }
    package var timerCount: Int { self.timers.count }
    /// Whether a round would do something although nothing happened outside.
    package var hasWork: Bool { !self.turns.isEmpty || self.hasJobs }
}
