/// How long a container that keeps ending waits before it is started again: nothing the first time, then 10 s,
/// doubling to 5 min; ten minutes of running forget it.
package struct RestartBackoff: Hashable, Sendable {
    package static let first = Duration.seconds(10)
    package static let max = Duration.seconds(300)
    package static let forgiveness = Duration.seconds(600)

    package init() {}

    private var wait = Duration.zero

    /// Records that the container ended after running for `duration`.
    package mutating func ended(after duration: Duration) -> Duration {
        if duration >= Self.forgiveness { self.wait = .zero }
        defer { self.wait = self.wait == .zero ? Self.first : Swift.min(self.wait * 2, Self.max) }
        return self.wait
    }
}
