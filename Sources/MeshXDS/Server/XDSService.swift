package import GRPCCore
import MeshChannel
package import MeshProto

/// The gRPC face of the ``XDSServer``.
package struct XDSService: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.ServiceProtocol {
    private let server: XDSServer

    package init(_ server: XDSServer) { self.server = server }

    package typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    package typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    package func deltaAggregatedResources(
        request: StreamingServerRequest<Request>, context: ServerContext
    ) async throws -> StreamingServerResponse<Response> {
        let caller: AuthenticatedCaller
        do {
            caller = try await self.server.authenticator.authenticate(request.metadata)
        } catch {
            self.server.record(.unauthenticated)
            self.server.logger.warning(
                "xDS: caller not authenticated", metadata: ["peer": "\(context.readablePeer)", "why": "\(error)"])
            throw RPCError(
                code: .unauthenticated, message: "authentication failure; wanted \(self.server.authenticator.wanted)")
        }
        // Before the stream takes a place that a node proxy may need.
        _ = try self.admit(caller, node: "", [:])
        let connection = XDSConnection()
        let id: UInt64
        switch self.server.add(connection) {
        case .admitted(let number): id = number
        case .notReady: throw RPCError(code: .unavailable, message: "server is not ready to serve discovery")
        case .full: throw RPCError(code: .resourceExhausted, message: "too many connected clients")
        }
        return StreamingServerResponse { writer in
            self.server.record(.connected)
            defer {
                self.server.remove(id)
                self.server.record(.disconnected)
            }
            try await self.serve(connection, id, caller, request.messages, writer, peer: context.readablePeer)
            return [:]
        }
    }

    private func serve(
        _ connection: XDSConnection, _ id: UInt64, _ caller: AuthenticatedCaller,
        _ requests: RPCAsyncSequence<Request, any Error>, _ writer: RPCWriter<Response>, peer: String
    ) async throws {
        let (processed, tick) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { connection.end() }
                var turn = processed.makeAsyncIterator()
                for try await request in requests {
                    connection.deliver(request)
                    // One at a time: a client that asks faster than it is answered is slowed by its own stream.
                    guard await turn.next() != nil else { return }
                }
            }
            group.addTask {
                var session: ClientSession?
                events: for await event in connection.events {
                    switch event {
                    case .request(let request):
                        if session == nil { session = try self.session(request, id, caller) }
                        try await self.answer(request, &session, writer, peer: peer)
                        tick.yield()
                    case .published:
                        connection.takeSignal()
                        try await self.write(
                            try self.ending { () throws(XDSSession.Ending) in
                                try session?.push(self.server) ?? []
                            }, writer)
                    case .ended: break events
                    }
                    if let session { connection.show(session, peer: peer, account: caller.account) }
                }
                tick.finish()
            }
            // Whoever ends first ends the stream: the client by closing, we by draining.
            try await group.next()
            group.cancelAll()
        }
    }

    /// The first request says who the client is, which decides what it is served.
    private func session(_ request: Request, _ id: UInt64, _ caller: AuthenticatedCaller) throws -> ClientSession {
        let metadata = request.node.metadata.fields.compactMapValues { value -> String? in
            if case .stringValue(let text)? = value.kind { text } else { nil }
        }
        let nonces = Self.nonces(client: id)
        switch try self.admit(caller, node: request.node.id, metadata) {
        case .nodeProxy: return .mesh(XDSSession(for: .nodeProxy, nonces: nonces))
        case .waypoint(let gateway): return .mesh(XDSSession(for: .waypoint(gateway), nonces: nonces))
        case .envoy(let gateway): return .envoy(EnvoySession(nonces: nonces), parts: [gateway])
        case .sidecar(let pod):
            // With less than all of it Envoy would call itself ready, and take nothing.
            guard self.server.hasEnvoyResources(SidecarLayer.pod(pod)) else {
                throw RPCError(code: .unavailable, message: "the configuration of pod \(pod) is not there yet")
            }
            return .envoy(EnvoySession(types: EnvoySession.sidecar, nonces: nonces), parts: SidecarLayer.all(pod))
        // `admit` throws for these.
        case .refused(let why): throw RPCError(code: .permissionDenied, message: why)
        }
    }

    private func answer(
        _ request: Request, _ session: inout ClientSession?, _ writer: RPCWriter<Response>, peer: String
    ) async throws {
        let result: (responses: [Response], note: XDSSession.Note?)
        do throws(XDSSession.Ending) {
            result = try session?.receive(request, self.server) ?? ([], nil)
        } catch {
            throw self.rpcError(error)
        }
        switch result.note {
        case .refused(let type, let reason):
            self.server.record(.refused(type: type))
            self.server.logger.error(
                "xDS: client refused resources",
                metadata: ["node": "\(session?.node?.id ?? "")", "type": "\(type)", "why": "\(reason)"])
        case .staleNonce(let type): self.server.record(.staleNonce(type: type))
        case .unknownType(let type):
            self.server.logger.debug("xDS: unknown type asked for", metadata: ["type": "\(type)", "peer": "\(peer)"])
        case .acknowledged, nil: break
        }
        try await self.write(result.responses, writer)
    }

    private func admit(_ caller: AuthenticatedCaller, node: String, _ metadata: [String: String]) throws
        -> XDSAdmission
    {
        let admission = self.server.admission(caller, node, metadata)
        guard case .refused(let reason) = admission else { return admission }
        self.server.record(.notAdmitted)
        self.server.logger.warning(
            "xDS: client refused", metadata: ["caller": "\(caller.account)", "node": "\(node)", "why": "\(reason)"])
        throw RPCError(code: .permissionDenied, message: reason)
    }

    private func write(_ responses: [Response], _ writer: RPCWriter<Response>) async throws {
        for response in responses {
            try await writer.write(response)
            self.server.record(.pushed(type: response.typeURL, resources: response.resources.count))
        }
    }

    private func ending<R>(_ body: () throws(XDSSession.Ending) -> R) throws -> R {
        do throws(XDSSession.Ending) { return try body() } catch { throw self.rpcError(error) }
    }

    private func rpcError(_ ending: XDSSession.Ending) -> RPCError {
        switch ending {
        case .missingNode: RPCError(code: .invalidArgument, message: "missing node information")
        case .tooManySubscriptions:
            RPCError(code: .resourceExhausted, message: "more than \(XDSSession.subscriptionsMax) names subscribed")
        case .tooFarBehind: RPCError(code: .unavailable, message: "too far behind; connect again")
        }
    }

    private static func nonces(client: UInt64) -> () -> String {
        var count: UInt64 = 0
        let salt = String(UInt64.random(in: .min ... .max), radix: 16)
        return {
            count += 1
            return "\(salt)-\(client)-\(count)"
        }
    }
}

/// A client's stream, whatever kind of client it is.
///
/// Two optionals and no enum: what a session remembers of thousands of resources has to change in place, and taken out of a
/// case it would be copied with every push and every acknowledgement.
struct ClientSession {
    private var ofMesh: XDSSession?
    private var ofEnvoy: EnvoySession?
    /// Of an Envoy's configuration, as the server calls them.
    private let parts: [String]

    static func mesh(_ session: XDSSession) -> ClientSession { ClientSession(ofMesh: session, parts: []) }

    static func envoy(_ session: EnvoySession, parts: [String]) -> ClientSession {
        ClientSession(ofEnvoy: session, parts: parts)
    }

    var node: Envoy_Service_Discovery_V3_Node? { self.ofMesh?.node ?? self.ofEnvoy?.node }

    var types: [String: XDSSession.TypeState] { self.ofMesh?.types ?? self.ofEnvoy?.types ?? [:] }

    mutating func receive(
        _ request: XDSSession.Request, _ server: XDSServer
    ) throws(XDSSession.Ending) -> (responses: [XDSSession.Response], note: XDSSession.Note?) {
        if let answer = try self.ofMesh?.receive(request, server.snapshot) { return answer }
        return try self.ofEnvoy?.receive(request, server.envoyResources(self.parts)) ?? ([], nil)
    }

    mutating func push(_ server: XDSServer) throws(XDSSession.Ending) -> [XDSSession.Response] {
        if let responses = try self.ofMesh?.push(server.snapshot) { return responses }
        return self.ofEnvoy?.push(server.envoyResources(self.parts)) ?? []
    }
}
