/// Counts the frames that cost a peer nothing and us work, and says when there are too many in a span of time:
/// SETTINGS and PING floods, rapid reset (CVE-2023-44487), resets it provokes (CVE-2025-8671), empty DATA.
///
/// A value without a clock. The span restarts with the first frame after it ended, so a peer can reach twice a limit
/// across the border of two spans; the limits leave room for that.
package struct HTTP2FloodGuard: Sendable {
    package enum Kind: Int, CaseIterable, Hashable, Sendable, CustomStringConvertible {
        case settings, ping
        /// The peer reset a stream that we had not answered yet. Resets of answered streams are ordinary: each tunnel
        /// whose application dies ends with one.
        case unansweredReset
        /// The peer made us reset a stream by breaking a rule on it.
        case provokedReset
        /// A request beyond the stream limit, or after the last GOAWAY. A client that does not know yet makes some.
        case refusedStream
        /// DATA without payload that does not end its stream.
        case emptyData
        /// PRIORITY, unknown types, and WINDOW_UPDATE or RST_STREAM for streams that are gone.
        case useless

        package var description: String {
            switch self {
            case .settings: "SETTINGS frames"
            case .ping: "PING frames"
            case .unansweredReset: "resets of unanswered streams"
            case .provokedReset: "stream errors"
            case .refusedStream: "requests that had to be refused"
            case .emptyData: "empty DATA frames"
            case .useless: "frames without effect"
            }
        }
    }

    package struct Limits: Hashable, Sendable {
        package var spanSeconds = 10
        package var settingsMax = 100
        package var pingMax = 500
        package var unansweredResetMax = 2_000
        package var provokedResetMax = 500
        package var refusedStreamMax = 2_000
        package var emptyDataMax = 1_000
        package var uselessMax = 10_000

        package init() {}

        package subscript(kind: Kind) -> Int {
            switch kind {
            case .settings: self.settingsMax
            case .ping: self.pingMax
            case .unansweredReset: self.unansweredResetMax
            case .provokedReset: self.provokedResetMax
            case .refusedStream: self.refusedStreamMax
            case .emptyData: self.emptyDataMax
            case .useless: self.uselessMax
            }
        }
    }

    /// For every connection the same, so that none has them with it.
    package static let limits = Limits()
    private var spanStart: UInt64 = 0
    private var settings: UInt32 = 0, ping: UInt32 = 0, unansweredReset: UInt32 = 0, provokedReset: UInt32 = 0
    private var refusedStream: UInt32 = 0, emptyData: UInt32 = 0, useless: UInt32 = 0

    package init() {}

    /// - Parameter nanoseconds: a monotonic clock; any start will do.
    /// - Throws: `flood` when the frame is one too many in this span.
    package mutating func record(_ kind: Kind, at nanoseconds: UInt64) throws(HTTP2ConnectionError) {
        // A clock that stepped back restarts the span too: the subtraction wraps to something huge.
        if nanoseconds &- self.spanStart >= UInt64(Self.limits.spanSeconds) * 1_000_000_000 {
            self = Self()
            self.spanStart = nanoseconds
        }
        let count: Int
        switch kind {
        case .settings: count = Self.increment(&self.settings)
        case .ping: count = Self.increment(&self.ping)
        case .unansweredReset: count = Self.increment(&self.unansweredReset)
        case .provokedReset: count = Self.increment(&self.provokedReset)
        case .refusedStream: count = Self.increment(&self.refusedStream)
        case .emptyData: count = Self.increment(&self.emptyData)
        case .useless: count = Self.increment(&self.useless)
        }
        if count > Self.limits[kind] { throw .flood(kind, count: count, seconds: Self.limits.spanSeconds) }
    }

    private static func increment(_ counter: inout UInt32) -> Int {
        counter += 1
        return Int(counter)
    }
}
