package import MeshDNS
package import MeshModel
package import NIOCore
internal import Synchronization

/// Passes questions on to resolvers: one for a whole process, for all pods that it serves and for itself.
///
/// Every question gets a socket of its own with a port that the kernel chose, and an id that we drew: who wants to forge
/// an answer has to guess both. Answers are not kept: they would have to be changed to age, a resolver may answer each
/// client differently, and the cluster's resolver keeps them already.
package final class DNSForwarder: Sendable {
    /// Where questions are asked from.
    package struct Vantage: Sendable {
        /// Borrowed; nil is the process's own namespace.
        package var namespace: CInt?
        package var mark: UInt32

        package init(namespace: CInt? = nil, mark: UInt32 = 0) {
            self.namespace = namespace
            self.mark = mark
        }
    }

    package let resolvers: [IPEndpoint]
    let limits: DNSLimits
    private let group: any EventLoopGroup
    private let waiting = Atomic(0)
    private let favourite = DNSForwarding.Favourite()

    /// - Parameter resolvers: asked in this order, from the one that answered last.
    package init(resolvers: [IPEndpoint], limits: DNSLimits, group: any EventLoopGroup) {
        self.resolvers = Array(resolvers.prefix(DNSLimits.resolversMax))
        self.limits = limits
        self.group = group
    }

    /// Takes one of the node's places; give it back with ``leave()``.
    func enter() -> Bool {
        let before = self.waiting.add(1, ordering: .relaxed).oldValue
        if before < self.limits.queriesMax { return true }
        self.leave()
        return false
    }

    func leave() { self.waiting.subtract(1, ordering: .relaxed) }

    /// How many questions wait for a resolver.
    package var waitingCount: Int { self.waiting.load(ordering: .relaxed) }

    func makeForwarding(
        _ exchange: DNSExchange, over transport: DNSTransport, datagramBytesMax: Int, from vantage: Vantage,
        on loop: any EventLoop, _ events: DNSForwarding.Events
    ) -> DNSForwarding {
        switch transport {
        case .udp:
            DNSDatagramForwarding(
                exchange, self.resolvers, self.limits, vantage, loop, self.favourite, events,
                datagramBytesMax: datagramBytesMax)
        case .tcp:
            DNSStreamForwarding(exchange, self.resolvers, self.limits, vantage, loop, self.favourite, events)
        }
    }

    // MARK: Questions of our own

    /// What we tell resolvers to send at most over UDP: no path fragments it (DNS flag day 2020).
    private static let ownPayloadBytes: UInt16 = 1232

    /// Asks for the addresses of a name, over UDP, and over TCP when the answer is cut.
    ///
    /// The caller keeps the answer for as long as it says; here nothing is kept.
    /// - Parameters:
    ///   - name: as it is, no search domain is tried.
    ///   - type: ``DNSRecordType/a`` or ``DNSRecordType/aaaa``.
    /// - Returns: no addresses when the name or the type does not exist, with the time for which that may be believed.
    package func resolve(
        _ name: String, _ type: DNSRecordType, from vantage: Vantage = Vantage()
    ) async throws(DNSLookupFailure) -> DNSAddresses {
        guard let asked = DNSName(name), asked != .root else { throw .noName(name) }
        let question = DNSQuery.Question(asked, type)
        var response = try await self.ask(question, .udp, vantage)
        if DNSHeader(response)?.isTruncated == true { response = try await self.ask(question, .tcp, vantage) }
        let code = DNSHeader(response)?.code
        guard code == .noError || code == .nameError else { throw .refused(name, code: code?.rawValue ?? 0) }
        guard let addresses = DNSAddresses(response, for: question) else { throw .unreadable(name) }
        return addresses
    }

    private func ask(
        _ question: DNSQuery.Question, _ transport: DNSTransport, _ vantage: Vantage
    ) async throws(DNSLookupFailure) -> [UInt8] {
        let id = UInt16.random(in: .min ... .max)
        let bytes = DNSWriter.query(id: id, question, payloadBytes: Self.ownPayloadBytes)
        guard self.enter() else { throw .overloaded(waiting: self.limits.queriesMax) }
        defer { self.leave() }
        let loop = self.group.next()
        let promise = loop.makePromise(of: [UInt8].self)
        loop.execute {
            guard let query = try? DNSQuery(bytes) else {
                preconditionFailure("a question that we wrote ourselves cannot be read")
            }
            let forwarding = self.makeForwarding(
                DNSExchange(bytes, query, id: id), over: transport, datagramBytesMax: Int(Self.ownPayloadBytes),
                from: vantage, on: loop,
                DNSForwarding.Events(
                    received: { answer in
                        promise.succeed(answer)
                        return nil
                    },
                    finished: { failure in
                        if let failure { promise.fail(DNSLookupFailure.unanswered("\(question.name)", failure)) }
                    }))
            forwarding.begin()
        }
        do {
            return try await promise.futureResult.get()
        } catch let failure as DNSLookupFailure {
            throw failure
        } catch {
            preconditionFailure("fails only with its own error: \(error)")
        }
    }
}

/// Why no resolver answered.
package enum DNSForwardFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case noResolvers
    case timedOut(Duration)
    /// The last resolver's trouble.
    case unreachable(IPEndpoint, reason: String)
    case overloaded
    case cancelled

    package var description: String {
        switch self {
        case .noResolvers: "no resolver is known; does the proxy's /etc/resolv.conf list a nameserver?"
        case .timedOut(let limit):
            "no resolver answered within \(limit); does a NetworkPolicy block port 53?"
        case .unreachable(let resolver, let reason): "resolver \(resolver) cannot be reached: \(reason)"
        case .overloaded: "too many questions wait for resolvers already"
        case .cancelled: "the pod left"
        }
    }
}

/// Why a name of our own interest has no addresses.
package enum DNSLookupFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case noName(String)
    case overloaded(waiting: Int)
    case unanswered(String, DNSForwardFailure)
    case refused(String, code: UInt8)
    case unreadable(String)

    package var description: String {
        switch self {
        case .noName(let text): "\"\(text)\" is no domain name"
        case .overloaded(let waiting): "\(waiting) questions wait for resolvers already"
        case .unanswered(let name, let failure): "cannot resolve \(name): \(failure)"
        case .refused(let name, let code): "the resolver refused \(name) with code \(code)"
        case .unreadable(let name): "the resolver's answer for \(name) cannot be read"
        }
    }
}
