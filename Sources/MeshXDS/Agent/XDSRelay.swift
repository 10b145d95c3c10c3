package import GRPCCore
package import Logging
package import MeshChannel
import MeshProto

/// Passes Envoy's discovery stream on to the control plane, with the credentials that only we have: Envoy keeps to the
/// socket beside us, and the token is read anew for each stream. Messages go through as they are.
package struct XDSRelay: RegistrableRPCService {
    private let endpoint: ControlPlaneEndpoint
    private let logger: Logger

    private static let method =
        Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method.DeltaAggregatedResources.descriptor

    package init(_ endpoint: ControlPlaneEndpoint, logger: Logger) {
        self.endpoint = endpoint
        self.logger = logger
    }

    package func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: Self.method, deserializer: RawMessages(), serializer: RawMessages()
        ) { request, _ in
            StreamingServerResponse { writer in
                try await self.relay(request.messages, writer)
                return [:]
            }
        }
    }

    private func relay(_ requests: RPCAsyncSequence<[UInt8], any Error>, _ writer: RPCWriter<[UInt8]>) async throws {
        var last: any Error = RPCError(code: .unavailable, message: "the control plane has no name")
        for name in self.endpoint.serverNames {
            let isTaken = Flag()
            do {
                return try await self.endpoint.withChannel(
                    serverName: name,
                    keptRoots: {
                        self.logger.warning(
                            "the control plane's root file cannot be used; the roots it had before are",
                            metadata: ["why": "\($0)"])
                    }
                ) { channel in
                    try await self.relay(requests, writer, channel, isTaken)
                }
            } catch {
                last = error
                // Requests that were read are gone: another name would not get them.
                if await isTaken.isSet { break }
            }
        }
        if last is CancellationError { throw last }
        self.logger.warning(
            "xDS stream failed",
            metadata: ["server": "\(self.endpoint.host):\(self.endpoint.port)", "error": "\(last)"])
        throw RPCError(code: .unavailable, message: "the control plane cannot be reached: \(last)")
    }

    private func relay(
        _ requests: RPCAsyncSequence<[UInt8], any Error>, _ writer: RPCWriter<[UInt8]>,
        _ channel: GRPCClient<ControlPlaneEndpoint.Transport>, _ isTaken: Flag
    ) async throws {
        var options = CallOptions.defaults
        options.waitForReady = false
        options.maxRequestMessageBytes = MeshXDSClient.messageBytesMax
        options.maxResponseMessageBytes = MeshXDSClient.messageBytesMax
        let request = StreamingClientRequest<[UInt8]>(metadata: try self.endpoint.metadata()) { upstream in
            await isTaken.set()
            for try await message in requests { try await upstream.write(message) }
        }
        try await channel.bidirectionalStreaming(
            request: request, descriptor: Self.method, serializer: RawMessages(), deserializer: RawMessages(),
            options: options
        ) { response in
            for try await message in response.messages {
                try await writer.write(message)
            }
        }
    }

    private actor Flag {
        private(set) var isSet = false
        func set() { self.isSet = true }
    }
}

/// Messages that nobody looks into.
private struct RawMessages: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }

    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { Array($0) }
    }
}
