internal import MeshDNS
internal import MeshModel
internal import NIOCore
internal import Synchronization

/// One message on its way to the resolvers and back.
///
/// A resolver that refuses is passed over at once; one that is silent is left behind after a while, but its answer still
/// counts. What must not be done twice (an update, a transfer) is sent once: the next resolver is only tried when the one
/// before never got it.
///
/// `@unchecked`: everything happens on `loop`.
class DNSForwarding: @unchecked Sendable {
    struct Events {
        /// A message for the client. A transfer goes on when the future completes; nil goes on at once.
        var received: @Sendable ([UInt8]) -> EventLoopFuture<Void>?
        /// Exactly once; nil when all was received.
        var finished: @Sendable (DNSForwardFailure?) -> Void
    }

    /// The resolver that answered last: the next question begins there, so that one that is dead costs the wait only once.
    final class Favourite: Sendable {
        private let index = Atomic(0)
        var value: Int {
            get { self.index.load(ordering: .relaxed) }
            set { self.index.store(newValue, ordering: .relaxed) }
        }
    }

    final let exchange: DNSExchange
    final let loop: any EventLoop
    private let resolvers: [IPEndpoint]
    private let limits: DNSLimits
    private let vantage: DNSForwarder.Vantage
    private let favourite: Favourite
    private let events: Events

    private let start: Int
    private var attempts = 0
    private var current = 0
    /// Resolvers that cannot be reached.
    private var refused: Set<Int> = []
    private var trouble: DNSForwardFailure?
    private var channels: [any Channel] = []
    private var deadline, next: Scheduled<Void>?
    private(set) final var isDone = false
    private var isFirst = true

    init(
        _ exchange: DNSExchange, _ resolvers: [IPEndpoint], _ limits: DNSLimits, _ vantage: DNSForwarder.Vantage,
        _ loop: any EventLoop, _ favourite: Favourite, _ events: Events
    ) {
        self.exchange = exchange
        self.resolvers = resolvers
        self.limits = limits
        self.vantage = vantage
        self.loop = loop
        self.favourite = favourite
        self.start = favourite.value
        self.events = events
    }

    /// Sends the message to one resolver from one place; answers with ``opened(_:)``, ``received(_:from:)`` and
    /// ``failed(_:wasSent:_:)``.
    func send(to resolver: IPEndpoint, _ index: Int, from vantage: DNSForwarder.Vantage) {
        preconditionFailure("a subclass sends")
    }

    final func begin() {
        self.loop.preconditionInEventLoop()
        if self.resolvers.isEmpty { return self.finish(.noResolvers) }
        self.setDeadline()
        self.attempt()
    }

    /// The client is gone.
    final func cancel() { self.finish(.cancelled) }

    private func setDeadline() {
        self.deadline?.cancel()
        self.deadline = self.loop.scheduleTask(in: TimeAmount(self.limits.upstreamTimeout)) {
            // A transfer that is silent for so long has ended: servers need not close.
            self.finish(self.isFirst ? .timedOut(self.limits.upstreamTimeout) : nil)
        }
    }

    private func attempt() {
        if self.isDone { return }
        self.next?.cancel()
        let count = self.resolvers.count
        let candidates = (self.attempts..<self.attempts + count).map { (self.start + $0) % count }
        guard let index = candidates.first(where: { !self.refused.contains($0) }) else {
            return self.finish(self.trouble ?? .noResolvers)
        }
        self.attempts += 1
        self.current = index
        if self.exchange.isRepeatable, self.attempts < DNSLimits.attemptsMax {
            self.next = self.loop.scheduleTask(in: TimeAmount(self.limits.attemptTimeout)) { self.attempt() }
        }
        let resolver = self.resolvers[index]
        // A loopback resolver is our own namespace's; in the pod's there is another, or none.
        let vantage =
            resolver.address.isLoopback && self.vantage.namespace != nil
            ? DNSForwarder.Vantage(mark: self.vantage.mark) : self.vantage
        self.send(to: resolver, index, from: vantage)
    }

    // MARK: What the subclasses report

    /// - Returns: false when it came too late and was closed.
    final func opened(_ channel: any Channel) -> Bool {
        if self.isDone {
            channel.close(promise: nil)
            return false
        }
        self.channels.append(channel)
        return true
    }

    /// - Returns: whether the message was an answer to ours; a transfer goes on when the future completes.
    final func received(_ message: [UInt8], from index: Int) -> (isOurs: Bool, then: EventLoopFuture<Void>?) {
        if self.isDone { return (true, nil) }
        guard self.exchange.isAnswered(by: message, isFirst: self.isFirst) else { return (false, nil) }
        self.isFirst = false
        self.favourite.value = index
        let then = self.events.received(self.exchange.restored(message))
        if self.exchange.isTransfer, self.isStream {
            self.setDeadline()
        } else {
            self.finish(nil)
        }
        return (true, then)
    }

    /// Whether more than one message can come.
    var isStream: Bool { false }

    final func failed(_ index: Int, wasSent: Bool, _ reason: String) {
        if self.isDone { return }
        if !self.isFirst { return self.finish(nil) }
        let failure = DNSForwardFailure.unreachable(self.resolvers[index], reason: reason)
        self.refused.insert(index)
        self.trouble = failure
        if wasSent, !self.exchange.isRepeatable { return self.finish(failure) }
        if index == self.current { self.attempt() }
    }

    private func finish(_ failure: DNSForwardFailure?) {
        if self.isDone { return }
        self.isDone = true
        self.deadline?.cancel()
        self.next?.cancel()
        for channel in self.channels { channel.close(promise: nil) }
        self.channels = []
        self.events.finished(failure)
    }
}
