/// How long to wait before the next stream, from how the last one ended. A control plane that restarts ends its
/// streams cleanly and is asked again at once; one that refuses is asked ever less often.
package struct ReconnectBackoff {
    package enum StreamEnd: Hashable, Sendable {
        /// No stream came about: unreachable, untrusted, unauthenticated before a first answer.
        case notOpened
        /// The stream broke as streams do: connection lost, server going away.
        case interrupted
        /// The server ended it with another status.
        case refused
        /// The server ended it without a complaint.
        case clean
    }

    static let waitMin = Duration.milliseconds(10)
    static let waitMax = Duration.seconds(15)

    private var last = ReconnectBackoff.waitMin

    package init() {}

    package mutating func wait(after end: StreamEnd) -> Duration {
        switch end {
        case .notOpened, .refused:
            let wait = self.last
            self.last = min(self.last * 2, Self.waitMax)
            return wait
        case .interrupted:
            self.last = Self.waitMin
            return Self.waitMin
        case .clean:
            self.last = Self.waitMin
            return .zero
        }
    }
}
