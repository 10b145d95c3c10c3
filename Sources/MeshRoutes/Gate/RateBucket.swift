import MeshModel
import Synchronization

/// The state of one ``RateLimit``, for all event loops of a process: one number, changed without a lock.
///
/// The number is when the bucket will be full again, in nanoseconds of the caller's clock (the "theoretical arrival time"
/// of the generic cell rate algorithm, ITU-T I.371).
package final class RateBucket: Sendable {
    package let limit: RateLimit
    private let fullAt = Atomic<UInt64>(0)
    /// Between two requests, at an even rate.
    private let step: UInt64
    /// How far ``fullAt`` may be ahead.
    private let room: UInt64

    package init(_ limit: RateLimit) {
        self.limit = limit
        let (seconds, attoseconds) = limit.interval.components
        // A century of seconds is as good as never, and leaves room for the sums below.
        let whole =
            UInt64(clamping: min(seconds, 3_200_000_000)) * 1_000_000_000
            + UInt64(clamping: attoseconds / 1_000_000_000)
        self.step = limit.requests == 0 ? 0 : max(1, whole / UInt64(limit.requests))
        let room = self.step.multipliedReportingOverflow(by: UInt64(max(1, limit.burst) - 1))
        self.room = room.overflow ? .max / 2 : min(.max / 2, room.partialValue)
    }

    /// Takes one request out.
    /// - Parameter now: of a clock that never goes back, in nanoseconds.
    /// - Returns: nil, or after how many nanoseconds to come again.
    package func take(now: UInt64) -> UInt64? {
        guard self.limit.requests > 0 else { return .max }
        var fullAt = self.fullAt.load(ordering: .relaxed)
        while true {
            let start = max(fullAt, now)
            if start - now > self.room { return start - now - self.room }
            let (exchanged, original) = self.fullAt.compareExchange(
                expected: fullAt, desired: start &+ self.step, ordering: .relaxed)
            if exchanged { return nil }
            fullAt = original
        }
    }
}

/// The buckets of a process: one for each limit, whatever gates it is part of, and the same one when a configuration is
/// replaced and the limit stays. Used when gates are made, not for requests.
package final class RateBuckets: Sendable {
    private struct Weak: Sendable { weak var bucket: RateBucket? }
    private let known = Mutex<[RateLimit: Weak]>([:])

    package init() {}

    package func bucket(for limit: RateLimit) -> RateBucket {
        self.known.withLock { known in
            if let bucket = known[limit]?.bucket { return bucket }
            known = known.filter { $0.value.bucket != nil }
            let bucket = RateBucket(limit)
            known[limit] = Weak(bucket: bucket)
            return bucket
        }
    }
}
