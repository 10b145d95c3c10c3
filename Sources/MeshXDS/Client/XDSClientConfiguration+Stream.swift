import GRPCCore
import Logging
import MeshChannel
import MeshProto
import SwiftProtobuf

// What every client of the control plane does: who it says it is, how its stream is opened, and what its end means.

extension XDSClientConfiguration {
    var node: Envoy_Service_Discovery_V3_Node {
        .with {
            $0.id = self.nodeID
            $0.metadata = Google_Protobuf_Struct(fields: self.metadata.mapValues(\.proto))
        }
    }

    static var options: CallOptions {
        var options = CallOptions.defaults
        options.waitForReady = false
        options.maxResponseMessageBytes = MeshXDSClient.messageBytesMax
        // The transport (2.x) judges responses by the bound of requests, 4 MiB unless set.
        options.maxRequestMessageBytes = MeshXDSClient.messageBytesMax
        return options
    }

    /// Runs one stream on a channel of its own.
    /// - Parameter body: sets the flag with the first answer.
    /// - Returns: how it ended.
    func withStream(
        serverName: String, _ logger: Logger,
        _ body: @Sendable (GRPCClient<ControlPlaneEndpoint.Transport>, Metadata, XDSStreamFlag) async throws -> Void
    ) async -> ReconnectBackoff.StreamEnd {
        let opened = XDSStreamFlag()
        do {
            let metadata = try self.endpoint.metadata()
            try await self.endpoint.withChannel(
                serverName: serverName,
                keptRoots: {
                    logger.warning(
                        "the control plane's root file cannot be used; the roots it had before are",
                        metadata: ["why": "\($0)"])
                }
            ) { channel in
                try await body(channel, metadata, opened)
            }
            // An end before the first answer is no clean one: asking again at once could go on for ever.
            return await opened.isSet ? .clean : .notOpened
        } catch {
            logger.warning(
                "xDS stream failed",
                metadata: ["server": "\(self.endpoint.host):\(self.endpoint.port)", "error": "\(error)"])
            if await !opened.isSet { return .notOpened }
            switch (error as? RPCError)?.code {
            case .unknown, .cancelled, .deadlineExceeded, .unavailable: return .interrupted
            case .some: return .refused
            case nil: return .clean
            }
        }
    }
}

/// Whether a stream has led to an answer.
actor XDSStreamFlag {
    private(set) var isSet = false
    func set() { self.isSet = true }
}

extension MetadataValue {
    var proto: Google_Protobuf_Value {
        switch self {
        case .null: .with { $0.nullValue = .nullValue }
        case .bool(let value): Google_Protobuf_Value(boolValue: value)
        case .number(let value): Google_Protobuf_Value(numberValue: value)
        case .string(let value): Google_Protobuf_Value(stringValue: value)
        case .list(let values):
            Google_Protobuf_Value(listValue: Google_Protobuf_ListValue(values: values.map(\.proto)))
        case .object(let members):
            Google_Protobuf_Value(structValue: Google_Protobuf_Struct(fields: members.mapValues(\.proto)))
        }
    }
}
