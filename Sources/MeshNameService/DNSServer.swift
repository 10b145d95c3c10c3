package import Logging
internal import MeshDNS
internal import MeshModel
package import NIOCore
internal import NIOPosix

internal import enum MeshLoop.Sockets
internal import struct MeshLoop.SystemError

/// The name service inside one network namespace: its listeners, their connections, and the questions that wait for a
/// resolver.
///
///     serving ─drain─▶ draining (no new connections; what waits is answered) ─▶ closed
///     any of them ─close─▶ closed
///
/// `@unchecked`: everything but the constants happens on `loop`.
package final class DNSServer: @unchecked Sendable {
    /// Before a broken socket is bound again.
    private static let rebindDelay = TimeAmount.milliseconds(100)

    private enum State { case serving, draining(EventLoopPromise<Void>), closed }

    /// `<namespace>/<name>`, for people.
    private let pod: String
    private let answers: any NameAnswers
    let listening: DNSListening
    private let forwarder: DNSForwarder
    private let log: Logger
    package let loop: any EventLoop
    /// Ours; nil is the process's own namespace.
    private let namespace: CInt?
    private var state = State.serving
    private var listeners: [ObjectIdentifier: (channel: any Channel, transport: DNSTransport)] = [:]
    private var connections: [ObjectIdentifier: DNSConnection] = [:]
    private var waiting: [ObjectIdentifier: DNSForwarding] = [:]
    /// Answers on their way to a client, from whomever.
    private var unfinished = 0

    /// Returns once the ports are bound and take questions.
    /// - Parameters:
    ///   - pod: whose names they are, `<namespace>/<name>`, for people.
    ///   - namespace: the network namespace, borrowed; nil is the process's own.
    /// - Returns: the server and its port.
    package static func start(
        pod: String, _ answers: any NameAnswers, _ listening: DNSListening, forwarder: DNSForwarder, log: Logger,
        namespace: CInt?, loop: any EventLoop
    ) throws(DNSStartError) -> (server: DNSServer, port: UInt16) {
        do throws(SystemError) {
            var own: CInt?
            if let namespace { own = try Sockets.duplicate(namespace) }
            // Owns the copy from here on.
            let server = DNSServer(pod, answers, listening, forwarder, log, namespace: own, loop)
            let sockets = try DNSSockets(listening, namespace: own)
            loop.execute { for bound in sockets.all { server.serve(bound) } }
            return (server, sockets.port)
        } catch {
            throw DNSStartError(pod: pod, reason: "\(error)")
        }
    }

    private init(
        _ pod: String, _ answers: any NameAnswers, _ listening: DNSListening, _ forwarder: DNSForwarder, _ log: Logger,
        namespace: CInt?, _ loop: any EventLoop
    ) {
        self.pod = pod
        self.answers = answers
        self.listening = listening
        self.forwarder = forwarder
        self.log = log
        self.namespace = namespace
        self.loop = loop
    }

    deinit { if let namespace { Sockets.closeDescriptor(namespace) } }

    // MARK: Life

    private func serve(_ bound: DNSSockets.Bound) {
        switch bound.transport {
        case .udp:
            DatagramBootstrap(group: self.loop)
                .channelOption(
                    .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: DNSReader.messageBytesMax)
                )
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(DNSDatagramHandler(self))
                    }
                }
                .withBoundSocket(bound.descriptor)
                .whenComplete { self.adopted($0, bound.transport, bound.local) }
        case .tcp:
            ServerBootstrap(group: self.loop)
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(DNSConnection(self))
                    }
                }
                .withBoundSocket(bound.descriptor)
                .whenComplete { self.adopted($0, bound.transport, bound.local) }
        }
    }

    private func adopted(_ result: Result<any Channel, any Error>, _ transport: DNSTransport, _ local: IPEndpoint) {
        switch result {
        case .success(let channel):
            guard case .serving = self.state else { return channel.close(promise: nil) }
            self.listeners[ObjectIdentifier(channel)] = (channel, transport)
            channel.closeFuture.whenComplete { _ in
                self.listeners[ObjectIdentifier(channel)] = nil
                self.lost(transport, local, "the socket broke")
            }
        case .failure(let error): self.lost(transport, local, "\(error)")
        }
    }

    /// A write or an accept that the kernel refuses (a full connection tracking table, for one) closes the whole socket:
    /// the pod would have no names for the rest of its life.
    private func lost(_ transport: DNSTransport, _ local: IPEndpoint, _ reason: String) {
        guard case .serving = self.state else { return }
        self.log.warning(
            "a pod's name socket was lost; binding it again",
            metadata: [
                "pod": "\(self.pod)", "local": "\(transport.rawValue) \(local)",
                "reason": "\(reason)",
            ])
        self.loop.scheduleTask(in: Self.rebindDelay) {
            guard case .serving = self.state else { return }
            do throws(SystemError) {
                self.serve(try DNSSockets.bind(transport, local, self.listening, namespace: self.namespace))
            } catch {
                self.lost(transport, local, "\(error)")
            }
        }
    }

    /// - Returns: when nothing is left to be answered.
    package func drain() -> EventLoopFuture<Void> {
        let promise = self.loop.makePromise(of: Void.self)
        self.loop.execute {
            guard case .serving = self.state else { return promise.succeed() }
            self.state = .draining(promise)
            for (channel, transport) in self.listeners.values where transport == .tcp { channel.close(promise: nil) }
            for connection in self.connections.values { connection.drain() }
            self.finishDrain()
        }
        return promise.futureResult
    }

    private func finishDrain() {
        guard case .draining(let promise) = self.state, self.unfinished == 0, self.connections.isEmpty else { return }
        self.close()
        promise.succeed()
    }

    /// On the loop: what waits for a resolver is dropped.
    package func close() {
        self.loop.preconditionInEventLoop()
        if case .closed = self.state { return }
        let promise: EventLoopPromise<Void>? = if case .draining(let promise) = self.state { promise } else { nil }
        self.state = .closed
        for forwarding in self.waiting.values { forwarding.cancel() }
        for (channel, _) in self.listeners.values { channel.close(promise: nil) }
        for connection in self.connections.values { connection.close() }
        promise?.succeed()
    }

    // MARK: Connections

    /// - Returns: false when there are too many.
    func arrived(_ connection: DNSConnection) -> Bool {
        guard case .serving = self.state, self.connections.count < self.listening.limits.connectionsPerPodMax
        else { return false }
        self.connections[ObjectIdentifier(connection)] = connection
        return true
    }

    func left(_ connection: DNSConnection) {
        self.connections[ObjectIdentifier(connection)] = nil
        self.finishDrain()
    }

    // MARK: Questions

    /// Answers one message.
    /// - Parameters:
    ///   - reply: called for each message for the client: one, as a rule; completes when it is on its way.
    ///   - done: called once, when no more follows.
    func received(
        _ bytes: [UInt8], over transport: DNSTransport, reply: @escaping @Sendable ([UInt8]) -> EventLoopFuture<Void>,
        done: @escaping @Sendable () -> Void
    ) {
        if case .closed = self.state { return done() }
        self.unfinished += 1
        let finish: @Sendable () -> Void = {
            self.unfinished -= 1
            done()
            self.finishDrain()
        }
        switch self.answers.decide(bytes, over: transport) {
        case .ignore: finish()
        case .reply(let message): reply(message).whenComplete { _ in finish() }
        case .forward(let request): self.forward(request, reply, finish)
        }
    }

    private func forward(
        _ request: DNSForwardRequest, _ reply: @escaping @Sendable ([UInt8]) -> EventLoopFuture<Void>,
        _ finish: @escaping @Sendable () -> Void
    ) {
        let (answers, forwarder) = (self.answers, self.forwarder)
        let started = NIODeadline.now()
        answers.forwarding(request)
        @Sendable func refuse(_ failure: DNSForwardFailure) {
            answers.failed(request, failure)
            guard failure != .cancelled, let message = DNSWriter.refusal(of: request.bytes, .serverFailure) else {
                return finish()
            }
            reply(message).whenComplete { _ in finish() }
        }
        guard self.waiting.count < self.listening.limits.queriesPerPodMax, forwarder.enter() else {
            return refuse(.overloaded)
        }
        let bytesMax = request.query.answerBytesMax(over: request.transport)
        let isFitted = request.transport == .udp && request.query.header.opcode == 0
        let written = DNSWrites(self.loop)
        let handle = DNSForwardingHandle()
        let forwarding = forwarder.makeForwarding(
            DNSExchange(request.bytes, request.query, id: .random(in: .min ... .max)), over: request.transport,
            datagramBytesMax: bytesMax, from: .init(namespace: self.namespace, mark: self.listening.mark),
            on: self.loop,
            DNSForwarding.Events(
                received: { message in
                    let write = reply(isFitted ? DNSTruncation.fitted(message, bytesMax: bytesMax) : message)
                    written.last = write
                    return write
                },
                finished: { failure in
                    forwarder.leave()
                    handle.forwarding.map { self.waiting[ObjectIdentifier($0)] = nil }
                    handle.forwarding = nil
                    if let failure { return refuse(failure) }
                    let seconds = Double((NIODeadline.now() - started).nanoseconds) / 1e9
                    answers.forwarded(request, seconds: seconds)
                    if let last = written.last { last.whenComplete { _ in finish() } } else { finish() }
                }))
        handle.forwarding = forwarding
        self.waiting[ObjectIdentifier(forwarding)] = forwarding
        forwarding.begin()
    }
}

/// The last answer on its way. `@unchecked`: on the server's loop.
private final class DNSWrites: @unchecked Sendable {
    var last: EventLoopFuture<Void>?
    init(_ loop: any EventLoop) { loop.preconditionInEventLoop() }
}

/// For the closures that are made before the forwarding is. `@unchecked`: on the server's loop.
private final class DNSForwardingHandle: @unchecked Sendable {
    var forwarding: DNSForwarding?
}

/// The name ports of a pod cannot be bound.
package struct DNSStartError: Error, Hashable, Sendable, CustomStringConvertible {
    package let pod, reason: String

    package var description: String {
        "cannot serve names of pod \(self.pod): \(self.reason); does a container of the pod listen there?"
    }
}
