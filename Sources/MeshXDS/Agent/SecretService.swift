package import GRPCCore
package import MeshProto
import Synchronization

/// Serves secrets to the one Envoy beside us, over a socket that only it can reach, and the next ones as soon as they are
/// there (envoy.service.secret.v3.SecretDiscoveryService, in its delta form).
///
/// A name that has no secret yet is answered when it has one.
package final class SecretService: Envoy_Service_Secret_V3_SecretDiscoveryService.ServiceProtocol {
    private struct State {
        var set = EnvoyResourceSet()
        var nextStream = 0
        var streams: [Int: XDSConnection] = [:]
    }
    private let state = Mutex(State())
    /// An Envoy has one stream for each use of a secret; twice as many as a thousand identities need.
    static let streamsMax = 4096

    package init() {}

    package typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    package typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    /// - Parameter secrets: encoded, by name.
    package func publish(_ secrets: [(name: String, bytes: [UInt8])]) {
        let streams = self.state.withLock { state in
            var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
            for (name, bytes) in secrets {
                let resource = EncodedResource(type: XDSType.secret, name: name, bytes: bytes)
                guard state.set.resource(XDSType.secret, name)?.version != resource.version else { continue }
                changes.updateValue(resource, forKey: EnvoyResourceSet.Name(type: XDSType.secret, name: name))
            }
            if !changes.isEmpty { state.set.advance(changes) }
            return Array(state.streams.values)
        }
        for stream in streams { stream.signal() }
    }

    private var set: EnvoyResourceSet { self.state.withLock { $0.set } }

    package func deltaSecrets(
        request: StreamingServerRequest<Request>, context: ServerContext
    ) async throws -> StreamingServerResponse<Response> {
        let connection = XDSConnection()
        let number: Int? = self.state.withLock { state in
            guard state.streams.count < Self.streamsMax else { return nil }
            defer { state.nextStream += 1 }
            state.streams[state.nextStream] = connection
            return state.nextStream
        }
        guard let number else { throw RPCError(code: .resourceExhausted, message: "too many streams") }
        return StreamingServerResponse { writer in
            defer { self.state.withLock { $0.streams[number] = nil } }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    defer { connection.end() }
                    for try await request in request.messages { connection.deliver(request) }
                }
                group.addTask {
                    var count = 0
                    var session = EnvoySession(types: [XDSType.secret], answersAbsence: false) {
                        count += 1
                        return "\(number)-\(count)"
                    }
                    for await event in connection.events {
                        switch event {
                        case .request(let request):
                            for response in try session.receive(request, self.set).responses {
                                try await writer.write(response)
                            }
                        case .published:
                            connection.takeSignal()
                            for response in session.push(self.set) { try await writer.write(response) }
                        case .ended: return
                        }
                    }
                }
                try await group.next()
                group.cancelAll()
            }
            return [:]
        }
    }
}
