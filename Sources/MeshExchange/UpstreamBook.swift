internal import MeshLoop
internal import MeshRoutes

/// How the endpoints do, as one loop sees it: requests under way, how long they take, and who fails.
///
/// Least request with a moving average of the latency: of two endpoints drawn by chance the one with the smaller
/// product of both is taken. That spreads load as well as looking at all of them, at a constant price.
///
/// What is known of a latency counts less as it gets older: else, of two endpoints, the one that once was slow would never
/// be asked again. Of whom nothing is known, one request finds out; until it is answered the endpoint counts as an
/// ordinary one, so that a pod that has just come does not get everything at once.
package final class UpstreamBook {
    struct State {
        var active = 0
        /// Of the time to the response's head, nanoseconds; 0: not known yet.
        var latency: Double = 0
        /// When ``latency`` was learned, nanoseconds of the loop's clock.
        var learned: UInt64 = 0
        /// One after the other.
        var failures: UInt32 = 0
        var gatewayFailures: UInt32 = 0
        /// Passed over until then, nanoseconds of the loop's clock.
        var ejectedUntil: UInt64 = 0
        var ejections = 0
    }

    enum Failure {
        /// Could not be made, broke, or was silent for too long.
        case connection
        /// 500 or more.
        case status(Int)

        var isOfGateway: Bool {
            switch self {
            case .connection, .status(502), .status(503), .status(504): true
            case .status: false
            }
        }
    }

    /// The time of an ejection grows up to so many times.
    static let ejectionsMax = 10
    /// Endpoints without requests are forgotten when there are more.
    static let statesMax = 100_000
    /// Weight of the newest latency.
    private static let alpha = 0.2
    /// In which a latency that is not learned anew loses half of its weight: who answered a hundred times as slowly as
    /// the others is asked again after 7 s.
    private static let halfLifeNanoseconds: UInt64 = 1_000_000_000
    private static let halvesMax: UInt64 = 60

    private var states: [UpstreamKey: State] = [:]
    /// The average of all endpoints, nanoseconds.
    private var typical: Double = 0
    private var generator: UInt64

    package init(seed: UInt64) { self.generator = seed | 1 }

    /// xorshift64*: for balancing, not for secrets.
    func random() -> UInt64 {
        self.generator ^= self.generator >> 12
        self.generator ^= self.generator << 25
        self.generator ^= self.generator >> 27
        return self.generator &* 2_685_821_657_736_338_717
    }

    package func began(_ key: UpstreamKey) {
        if self.states.count >= Self.statesMax { self.states = self.states.filter { $0.value.active > 0 } }
        self.states[key, default: State()].active += 1
    }

    package func ended(_ key: UpstreamKey) {
        guard let index = self.states.index(forKey: key) else { return }
        self.states.values[index].active = max(0, self.states.values[index].active - 1)
    }

    package func answered(_ key: UpstreamKey, after nanoseconds: UInt64, at now: UInt64) {
        guard let index = self.states.index(forKey: key) else { return }
        self.states.values[index].failures = 0
        self.states.values[index].gatewayFailures = 0
        self.states.values[index].ejections = 0
        let sample = Double(nanoseconds)
        let old = self.latency(self.states.values[index], at: now)
        self.states.values[index].latency = old == 0 ? sample : old + Self.alpha * (sample - old)
        self.states.values[index].learned = now
        self.typical = self.typical == 0 ? sample : self.typical + Self.alpha * (sample - self.typical)
    }

    /// - Parameter backend: for which the endpoint was asked; says what is too much.
    func failed(_ key: UpstreamKey, _ failure: Failure, of backend: Backend, at now: UInt64) {
        let policy = backend.ejection
        var state = self.states[key, default: State()]
        state.failures += 1
        state.gatewayFailures = failure.isOfGateway ? state.gatewayFailures + 1 : 0
        if policy.failures > 0 && state.failures >= policy.failures
            || policy.gatewayFailures > 0 && state.gatewayFailures >= policy.gatewayFailures
        {
            state.failures = 0
            state.gatewayFailures = 0
            if state.ejectedUntil > now || backend.mayEject(self, at: now) {
                state.ejections = min(state.ejections + 1, Self.ejectionsMax)
                state.ejectedUntil = now &+ policy.time.loopNanoseconds &* UInt64(state.ejections)
            }
        }
        self.states[key] = state
    }

    func isEjected(_ key: UpstreamKey, at now: UInt64) -> Bool {
        self.states[key].map { $0.ejectedUntil > now } ?? false
    }

    /// Of all endpoints together.
    var active: Int { self.states.values.reduce(0) { $0 + $1.active } }

    /// Smaller is better.
    package func load(_ key: UpstreamKey, at now: UInt64) -> Double {
        guard let state = self.states[key] else { return 0 }
        var latency = self.latency(state, at: now)
        // Somebody is finding out.
        if state.active > 0 {
            latency = max(latency, state.latency == 0 ? self.typical : min(state.latency, self.typical))
        }
        return Double(state.active + 1) * max(latency, 1)
    }

    /// Halved for each half-life; in between it falls evenly, which is near enough.
    private func latency(_ state: State, at now: UInt64) -> Double {
        let age = now > state.learned ? now - state.learned : 0
        let (halves, rest) = age.quotientAndRemainder(dividingBy: Self.halfLifeNanoseconds)
        let fraction = 1 - Double(rest) / Double(Self.halfLifeNanoseconds) / 2
        let power = Double(sign: .plus, exponent: -Int(min(halves, Self.halvesMax)), significand: 1)
        return state.latency * fraction * power
    }
}
