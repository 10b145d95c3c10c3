internal import CMeshLoop
internal import Glibc
internal import Synchronization

/// One thread that watches descriptors, fires timers and runs jobs: an epoll loop.
///
/// Everything but ``execute(_:)``, ``start()`` and ``stop()`` belongs to the loop's own thread; what lives on a loop
/// is not `Sendable` and reaches other threads only inside a ``LoopBound``.
///
/// One round: wait → deliver readiness → run jobs → fire timers → give turns. Turns are where a connection sends what
/// the whole batch produced, so many small events become few system calls.
// @unchecked: `jobs` and `state` are locked; every other mutable property is touched only on the loop's own thread.
public final class EventLoop: @unchecked Sendable {
    /// Events taken from the kernel at once.
    static let eventsMax = 256

    public let name: String
    /// Shared by all connections of this loop, which never nest: see ``ScratchBuffers``.
    public let scratch = ScratchBuffers()
    /// Monotonic nanoseconds, read once per round.
    public private(set) var now: UInt64 = EventLoop.clock()

    private let poll: CInt
    private let waker: CInt
    /// Instead of epoll, in a simulation.
    private let kernel: (any SimulatedKernel)?
    private let jobs = Mutex<[@Sendable () -> Void]>([])
    private let state = Mutex(State())
    private var thread: pthread_t = 0
    private var running: [@Sendable () -> Void] = []
    var turns: [EventSource] = []
    private var taking: [EventSource] = []
    private var closed: [EventSource] = []
    var timers = TimerHeap()

    private struct State {
        var isStarted = false
        var shouldStop = false
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// - Throws: ``SystemError`` when the process is out of descriptors.
    public init(name: String) throws(SystemError) {
        self.name = name
        self.kernel = nil
        self.poll = try SystemError.check("epoll_create1", cml_poll_create())
        let waker = cml_waker_create()
        guard waker >= 0 else {
            Glibc.close(self.poll)
            throw SystemError(call: "eventfd", code: -waker)
        }
        self.waker = waker
        let added = cml_poll_add(self.poll, waker, nil, false)
        guard added >= 0 else {
            Glibc.close(self.poll)
            Glibc.close(waker)
            throw SystemError(call: "epoll_ctl", code: -added)
        }
    }

    /// A loop without a thread, driven by ``simulateRound(at:_:)``.
    package init(name: String, simulated kernel: any SimulatedKernel, now: UInt64) {
        self.name = name
        self.kernel = kernel
        self.poll = -1
        self.waker = -1
        self.now = now
    }

    var isSimulated: Bool { self.kernel != nil }
    func setNow(_ now: UInt64) { self.now = now }
    var hasJobs: Bool { !self.jobs.withLock(\.isEmpty) }

    deinit {
        guard self.kernel == nil else { return }
        Glibc.close(self.poll)
        Glibc.close(self.waker)
    }

    /// Starts the thread. Once.
    public func start() {
        guard self.kernel == nil else { return }
        self.state.withLock { state in
            precondition(!state.isStarted, "a loop is started once")
            state.isStarted = true
        }
        var thread = pthread_t()
        // SAFETY: the retained loop is released by the thread itself when it takes it over.
        let argument = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(&thread, nil, { EventLoop.enter($0) }, argument)
        precondition(result == 0, "pthread_create failed: \(result)")
        pthread_detach(thread)
    }

    private static func enter(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        guard let argument else { return nil }
        let loop = Unmanaged<EventLoop>.fromOpaque(argument).takeRetainedValue()
        loop.run()
        return nil
    }

    /// Ends the loop after the current round and returns when its thread has left. Descriptors still watched stay
    /// open: whoever registered them closes them first.
    public func stop() async {
        await withCheckedContinuation { continuation in
            let isOver = self.state.withLock { state in
                state.shouldStop = true
                if state.hasEnded || !state.isStarted { return true }
                state.waiters.append(continuation)
                return false
            }
            if isOver { continuation.resume() } else { cml_waker_wake(self.waker) }
        }
    }

    /// Runs `job` on the loop's thread, in order of arrival. Callable from any thread. After the loop has ended the
    /// job is dropped.
    public func execute(_ job: @escaping @Sendable () -> Void) {
        let isFirst = self.jobs.withLock { jobs in
            jobs.append(job)
            return jobs.count == 1
        }
        if isFirst, self.kernel == nil { cml_waker_wake(self.waker) }
    }

    /// Whether the caller runs on this loop's thread.
    public var isCurrent: Bool {
        self.thread != 0 ? pthread_equal(self.thread, pthread_self()) != 0 : self.kernel != nil
    }

    // MARK: On the loop's thread

    /// Starts watching `source`, edge-triggered in both directions; readiness that exists already is reported too.
    /// - Throws: ``SystemError`` when the kernel refuses; the source is then still the caller's to close.
    public func register(_ source: EventSource) throws(SystemError) {
        try self.register(source, edgeTriggered: true)
    }

    func register(_ source: EventSource, edgeTriggered: Bool) throws(SystemError) {
        precondition(!source.isRegistered && !source.isClosed)
        if let kernel {
            source.isRegistered = true
            return kernel.watch(source, edgeTriggered: edgeTriggered)
        }
        // SAFETY: the kernel keeps the pointer; the retain taken here is given back in `forget`, after which the
        // object lives in `closed` to the end of the round, when no event of the batch can name it any more.
        let pointer = Unmanaged.passRetained(source).toOpaque()
        let result = cml_poll_add(self.poll, source.descriptor, pointer, edgeTriggered)
        guard result >= 0 else {
            Unmanaged<EventSource>.fromOpaque(pointer).release()
            throw SystemError(call: "epoll_ctl", code: -result)
        }
        source.isRegistered = true
    }

    /// Stops watching without closing.
    func pause(_ source: EventSource) {
        guard source.isRegistered else { return }
        source.isRegistered = false
        if let kernel {
            self.closed.append(source)
            return kernel.unwatch(source)
        }
        _ = cml_poll_remove(self.poll, source.descriptor)
        self.closed.append(source)
        Unmanaged.passUnretained(source).release()
    }

    func forget(_ source: EventSource) {
        self.pause(source)
        // A source without one stands in for a socket.
        if source.descriptor >= 0 { Sockets.closeDescriptor(source.descriptor) }
    }

    private func run() {
        self.thread = pthread_self()
        cml_name_thread(self.name)
        let events = UnsafeMutablePointer<cml_event>.allocate(capacity: Self.eventsMax)
        defer { events.deallocate() }
        while !self.state.withLock({ $0.shouldStop }) { self.round(events) }
        self.closed.removeAll()
        let waiters = self.state.withLock { state in
            state.hasEnded = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private func round(_ events: UnsafeMutablePointer<cml_event>) {
        let timeout = self.turns.isEmpty ? self.timers.millisecondsToNext(now: Self.clock()) : 0
        let count = cml_poll_wait(self.poll, events, CInt(Self.eventsMax), timeout)
        precondition(count >= 0, "epoll_wait failed: \(-count)")
        self.now = Self.clock()
        var hasJobs = false
        for i in 0..<Int(count) {
            guard let pointer = events[i].source else {
                hasJobs = true
                continue
            }
            // SAFETY: registered objects are retained; those forgotten in this round are still in `closed`.
            let source = Unmanaged<EventSource>.fromOpaque(pointer).takeUnretainedValue()
            if !source.isClosed, source.isRegistered { source.ready(Readiness(rawValue: events[i].readiness)) }
        }
        self.finishRound(hasJobs: hasJobs)
    }

    func finishRound(hasJobs: Bool) {
        if hasJobs { self.runJobs() }
        while let timer = self.timers.popExpired(now: self.now) { timer.fire() }
        self.giveTurns()
        self.closed.removeAll(keepingCapacity: true)
    }

    private func runJobs() {
        if self.kernel == nil { cml_waker_clear(self.waker) }
        self.jobs.withLock { swap(&$0, &self.running) }
        for job in self.running { job() }
        self.running.removeAll(keepingCapacity: true)
    }

    /// One pass: a source that asks again during its turn gets the next one after another look at the kernel.
    private func giveTurns() {
        guard !self.turns.isEmpty else { return }
        swap(&self.turns, &self.taking)
        for source in self.taking {
            source.awaitsTurn = false
            if !source.isClosed { source.turn() }
        }
        self.taking.removeAll(keepingCapacity: true)
    }

    /// Monotonic nanoseconds.
    public static func clock() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
