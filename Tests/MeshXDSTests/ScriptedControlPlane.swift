import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshCA
import MeshChannel
import MeshModel
import MeshProto
import MeshXDS
import Synchronization
import Testing

/// A control plane that says what the test says, over real gRPC and TLS. Streams come one after the other.
final class ScriptedControlPlane: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.ServiceProtocol {
    typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    /// One delta stream, as the server sees it.
    final class Stream: Sendable {
        private let requests = Mutex<[Request]>([])
        fileprivate let responses: AsyncThrowingStream<Response, any Error>
        private let answer: AsyncThrowingStream<Response, any Error>.Continuation

        fileprivate init() {
            (self.responses, self.answer) = AsyncThrowingStream.makeStream(of: Response.self)
        }

        fileprivate func received(_ request: Request) { self.requests.withLock { $0.append(request) } }
        fileprivate func clientEnded() { self.answer.finish() }

        func send(_ change: (inout Response) -> Void) { self.answer.yield(.with(change)) }

        func send(_ type: String, nonce: String, _ resources: [EncodedResource], removed: [String] = []) {
            self.send {
                $0.typeURL = type
                $0.nonce = nonce
                $0.resources = resources.map(\.message)
                $0.removedResources = removed
            }
        }

        /// Ends the stream with an error, or cleanly.
        func end(_ error: RPCError? = nil) { self.answer.finish(throwing: error) }

        /// The first request that has not been taken and fits; those that do not fit stay.
        func request(where fits: (Request) -> Bool) async throws -> Request {
            while true {
                let found = self.requests.withLock { requests in
                    requests.firstIndex(where: fits).map { requests.remove(at: $0) }
                }
                if let found { return found }
                try await Task.sleep(for: .milliseconds(2))
            }
        }

        func first(_ type: String) async throws -> Request {
            try await self.request { $0.typeURL == type && $0.hasNode }
        }
        func answer(to nonce: String) async throws -> Request {
            try await self.request { $0.responseNonce == nonce }
        }
        /// All that has arrived and was not taken.
        var untaken: [Request] { self.requests.withLock { $0 } }
    }

    private let streams = Mutex<[Stream]>([])

    func deltaAggregatedResources(
        request: StreamingServerRequest<Request>, context: ServerContext
    ) async throws -> StreamingServerResponse<Response> {
        let stream = Stream()
        self.streams.withLock { $0.append(stream) }
        return StreamingServerResponse { writer in
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask {
                    do { for try await request in request.messages { stream.received(request) } } catch {}
                    stream.clientEnded()
                }
                for try await response in stream.responses { try await writer.write(response) }
                tasks.cancelAll()
            }
            return [:]
        }
    }

    /// The next stream that a client opens.
    func nextStream() async throws -> Stream {
        while true {
            if let next = self.streams.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return next }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Serves, and runs a client against it, for as long as the body takes.
    static func withClient(
        sink: any MeshStateSink, demands: MeshDemands? = nil, metadata: [String: MetadataValue] = [:],
        _ body: @escaping @Sendable (ScriptedControlPlane) async throws -> Void
    ) async throws {
        try await Self.with(metadata: metadata) { configuration in
            await MeshXDSClient(
                configuration, sink: sink, logger: LoopbackTests.logger(.critical), demands: demands
            ).run()
        } body: {
            try await body($0)
        }
    }

    /// The same with any client, which runs until it is cancelled.
    static func with(
        metadata: [String: MetadataValue] = [:],
        client: @escaping @Sendable (XDSClientConfiguration) async -> Void,
        body: @escaping @Sendable (ScriptedControlPlane) async throws -> Void
    ) async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let certificate = try authority.serverCertificate(dnsNames: ["istiod.istio-system.svc"])
        let plane = ScriptedControlPlane()
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)))
        let server = GRPCServer(transport: transport, services: [plane])
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.serve() }
            let port = try #require(try await transport.listeningAddress.ipv4?.port)
            var configuration = LoopbackTests.configuration(
                ControlPlaneEndpoint(
                    host: "127.0.0.1", port: port, alternativeHost: "istiod.istio-system.svc",
                    roots: .pem(authority.rootsPEM), token: .none))
            configuration.metadata.merge(metadata, uniquingKeysWith: { $1 })
            let complete = configuration
            let running = Task { await client(complete) }
            defer { running.cancel() }
            try await body(plane)
            running.cancel()
            await running.value
            server.beginGracefulShutdown()
        }
    }
}
