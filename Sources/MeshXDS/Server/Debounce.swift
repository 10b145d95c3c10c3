/// When to publish. The first change after a quiet time goes out at once; those that follow wait until nothing has
/// changed for ``quiet``, but never longer than ``longest``; and all wait while the last publication is being digested.
package struct Debounce {
    package var quiet: Duration
    package var longest: Duration

    private var firstPending: ContinuousClock.Instant?
    private var lastChange: ContinuousClock.Instant?
    /// Of the change or the publication before the first pending change.
    private var lastActivity: ContinuousClock.Instant?
    private var restUntil: ContinuousClock.Instant?

    package init(quiet: Duration = .milliseconds(100), longest: Duration = .seconds(10)) {
        self.quiet = quiet
        self.longest = longest
    }

    package mutating func changed(at now: ContinuousClock.Instant) {
        if self.firstPending == nil {
            self.firstPending = now
            self.lastActivity = self.lastChange
        }
        self.lastChange = now
    }

    /// - Parameter rest: until the next publication, at least.
    package mutating func published(at now: ContinuousClock.Instant, rest: Duration = .zero) {
        self.firstPending = nil
        self.restUntil = now + rest
    }

    /// Nil while nothing waits.
    package var deadline: ContinuousClock.Instant? {
        guard let first = self.firstPending, let last = self.lastChange else { return nil }
        var deadline = first
        if let before = self.lastActivity, first - before < self.quiet {
            deadline = min(last + self.quiet, first + self.longest)
        }
        return self.restUntil.map { max(deadline, $0) } ?? deadline
    }
}
