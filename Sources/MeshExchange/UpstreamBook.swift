/// How the endpoints do, as one loop sees it: requests under way, how long they take, and who fails.
///
/// Least request with a moving average of the latency: of two endpoints drawn by chance the one with the smaller
/// product of both is taken. That spreads load as well as looking at all of them, at a constant price.
package final class UpstreamBook {
    struct State {
        var active = 0
        /// Of the time to the response's head, nanoseconds; 0: not known yet.
        var latency: Double = 0
        var failures = 0
        /// Passed over until then, nanoseconds of the loop's clock.
        var ejectedUntil: UInt64 = 0
        var ejections = 0
    }

    /// Failures one after the other before an endpoint is passed over.
    static let failuresMax = 5
    static let ejectionNanoseconds: UInt64 = 30_000_000_000
    static let ejectionsMax = 10
    /// Endpoints without requests are forgotten when there are more.
    static let statesMax = 100_000
    /// Weight of the newest latency.
    private static let alpha = 0.2

    private var states: [UpstreamKey: State] = [:]
    private var generator: UInt64

    init(seed: UInt64) { self.generator = seed | 1 }

    /// xorshift64*: for balancing, not for secrets.
    func random() -> UInt64 {
        self.generator ^= self.generator >> 12
        self.generator ^= self.generator << 25
        self.generator ^= self.generator >> 27
        return self.generator &* 2_685_821_657_736_338_717
    }

    func began(_ key: UpstreamKey) {
        if self.states.count >= Self.statesMax { self.states = self.states.filter { $0.value.active > 0 } }
        self.states[key, default: State()].active += 1
    }

    func ended(_ key: UpstreamKey) {
        guard let index = self.states.index(forKey: key) else { return }
        self.states.values[index].active = max(0, self.states.values[index].active - 1)
    }

    func answered(_ key: UpstreamKey, after nanoseconds: UInt64) {
        guard let index = self.states.index(forKey: key) else { return }
        self.states.values[index].failures = 0
        self.states.values[index].ejections = 0
        let sample = Double(nanoseconds)
        let old = self.states.values[index].latency
        self.states.values[index].latency = old == 0 ? sample : old + Self.alpha * (sample - old)
    }

    func failed(_ key: UpstreamKey, at now: UInt64) {
        var state = self.states[key, default: State()]
        state.failures += 1
        if state.failures >= Self.failuresMax {
            state.failures = 0
            state.ejections = min(state.ejections + 1, Self.ejectionsMax)
            state.ejectedUntil = now &+ Self.ejectionNanoseconds &* UInt64(state.ejections)
        }
        self.states[key] = state
    }

    func isEjected(_ key: UpstreamKey, at now: UInt64) -> Bool {
        self.states[key].map { $0.ejectedUntil > now } ?? false
    }

    /// Of all endpoints together.
    var active: Int { self.states.values.reduce(0) { $0 + $1.active } }

    /// Smaller is better.
    func load(_ key: UpstreamKey) -> Double {
        guard let state = self.states[key] else { return 0 }
        return Double(state.active + 1) * max(state.latency, 1)
    }
}
