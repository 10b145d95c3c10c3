internal import MeshLoop
internal import MeshModel

/// One loop's memory of host names: what the resolver said, and who waits for what it will say.
final class HostCache {
    /// Names kept; beyond it what is known is forgotten, and beyond it in questions under way nothing is asked.
    static let hostsMax = 1024
    /// Connections that wait, all names together.
    static let waitersMax = WaitingRoom.waitersMax
    /// An answer is used at least and at most so long, whatever the resolver says.
    static let lifetimeMin = Duration.seconds(1)
    static let lifetimeMax = Duration.seconds(60)
    /// When the resolver does not say.
    static let lifetimeUsual = Duration.seconds(10)
    /// A name that led nowhere is not asked again before.
    static let failureLifetime = Duration.seconds(2)

    typealias Answer = Result<[IPAddress], HostUnresolved>
    typealias Waiter = (Answer) -> Void

    private enum Entry {
        case known(Answer, until: UInt64)
        case asked([Waiter])
    }

    private let resolver: (any HostResolver)?
    private let loop: EventLoop
    private var entries: [String: Entry] = [:]
    private var waiterCount = 0

    init(resolver: (any HostResolver)?, loop: EventLoop) {
        self.resolver = resolver
        self.loop = loop
    }

    func known(_ host: String) -> Answer? {
        guard case .known(let answer, let until) = self.entries[host], self.loop.now < until else { return nil }
        return answer
    }

    /// Calls `waiter` on the loop, once: at once when the answer is known.
    func get(_ host: String, _ waiter: @escaping Waiter) {
        if let known = self.known(host) { return waiter(known) }
        guard let resolver else {
            return waiter(.failure(HostUnresolved("this proxy resolves no host names, and \(host) is one")))
        }
        guard self.waiterCount < Self.waitersMax, self.makeRoom(for: host) else {
            return waiter(.failure(HostUnresolved("too many host names are being looked up; \(host) is not")))
        }
        self.waiterCount += 1
        if case .asked(let waiters) = self.entries[host] {
            self.entries[host] = .asked(waiters + [waiter])
            return
        }
        self.entries[host] = .asked([waiter])
        let bound = LoopBound(self, loop: self.loop)
        resolver.resolve(host) { result in bound.execute { $0.arrived(host, result) } }
    }

    private func makeRoom(for host: String) -> Bool {
        guard self.entries[host] == nil, self.entries.count >= Self.hostsMax else { return true }
        self.entries = self.entries.filter { if case .asked = $0.value { true } else { false } }
        return self.entries.count < Self.hostsMax
    }

    private func arrived(_ host: String, _ result: Result<ResolvedHost, HostUnresolved>) {
        guard case .asked(let waiters) = self.entries[host] else { return }
        self.waiterCount -= waiters.count
        let answer: Answer
        let lifetime: Duration
        switch result {
        case .success(let resolved) where !resolved.addresses.isEmpty:
            answer = .success(resolved.addresses)
            lifetime = min(max(resolved.lifetime ?? Self.lifetimeUsual, Self.lifetimeMin), Self.lifetimeMax)
        case .success:
            answer = .failure(HostUnresolved("\(host) has no addresses"))
            lifetime = Self.failureLifetime
        case .failure(let error):
            answer = .failure(error)
            lifetime = Self.failureLifetime
        }
        self.entries[host] = .known(
            answer, until: self.loop.now &+ UInt64(lifetime.components.seconds) &* 1_000_000_000)
        for waiter in waiters { waiter(answer) }
    }
}
