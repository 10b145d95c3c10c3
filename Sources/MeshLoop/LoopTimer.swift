/// A deadline on an event loop: armed, cancelled and re-armed many times, allocated once with its owner.
///
/// Belongs to its loop's thread. An armed timer is kept alive by the loop; the action must hold its owner weakly or
/// unowned, or the owner must cancel when it closes.
public final class LoopTimer {
    /// More armed timers than this on one loop is a leak, not a load.
    public static let armedMax = 4_000_000

    private let action: () -> Void
    private unowned let loop: EventLoop
    fileprivate(set) var deadline: UInt64 = 0
    fileprivate var index = -1

    public init(loop: EventLoop, action: @escaping () -> Void) {
        self.loop = loop
        self.action = action
    }

    public var isArmed: Bool { self.index >= 0 }

    /// Fires once, `delay` from now, rounded up to whole milliseconds; an armed timer is moved.
    public func arm(after delay: Duration) {
        self.cancel()
        precondition(self.loop.timers.count < Self.armedMax, "too many timers")
        self.deadline = self.loop.now &+ delay.loopNanoseconds
        self.loop.timers.insert(self)
    }

    public func cancel() {
        if self.index >= 0 { self.loop.timers.remove(self) }
    }

    func fire() { self.action() }
}

extension Duration {
    /// For sums with a loop's clock: whole nanoseconds, none below zero, and at most 31 years, so that some of them added
    /// up still fit.
    public var loopNanoseconds: UInt64 {
        let (seconds, attoseconds) = self.components
        return UInt64(clamping: min(seconds, 1_000_000_000)) * 1_000_000_000
            + UInt64(clamping: attoseconds / 1_000_000_000)
    }
}

/// A binary heap of timers that knows each one's place, so that cancelling costs a logarithm.
struct TimerHeap {
    private var heap: [LoopTimer] = []

    var count: Int { self.heap.count }
    var first: LoopTimer? { self.heap.first }

    mutating func insert(_ timer: LoopTimer) {
        timer.index = self.heap.count
        self.heap.append(timer)
        self.siftUp(timer.index)
    }

    mutating func remove(_ timer: LoopTimer) {
        let index = timer.index
        timer.index = -1
        let last = self.heap.removeLast()
        guard last !== timer else { return }
        self.heap[index] = last
        last.index = index
        self.siftUp(index)
        self.siftDown(last.index)
    }

    mutating func popExpired(now: UInt64) -> LoopTimer? {
        guard let first = self.heap.first, first.deadline <= now else { return nil }
        self.remove(first)
        return first
    }

    /// For epoll: -1 without timers, else rounded up, so that a wake-up never comes too early.
    func millisecondsToNext(now: UInt64) -> CInt {
        guard let first = self.heap.first else { return -1 }
        guard first.deadline > now else { return 0 }
        return CInt(clamping: (first.deadline - now + 999_999) / 1_000_000)
    }

    private mutating func siftUp(_ start: Int) {
        var i = start
        while i > 0, self.heap[i].deadline < self.heap[(i - 1) / 2].deadline {
            self.exchange(i, (i - 1) / 2)
            i = (i - 1) / 2
        }
    }

    private mutating func siftDown(_ start: Int) {
        var i = start
        while true {
            var least = i
            let left = 2 * i + 1
            let right = left + 1
            if left < self.heap.count, self.heap[left].deadline < self.heap[least].deadline { least = left }
            if right < self.heap.count, self.heap[right].deadline < self.heap[least].deadline { least = right }
            guard least != i else { return }
            self.exchange(i, least)
            i = least
        }
    }

    private mutating func exchange(_ a: Int, _ b: Int) {
        self.heap.swapAt(a, b)
        self.heap[a].index = a
        self.heap[b].index = b
    }
}
