internal import MeshIdentity
internal import MeshModel
internal import MeshProto
internal import SwiftProtobuf

// Parts of messages in one line.

extension EnvoyFilter {
    init(_ name: String, _ config: some EnvoyMessage) {
        self.init()
        self.name = name
        self.typedConfig = config.packed
    }
}

extension EnvoyListenerFilter {
    init(_ name: String, _ config: Google_Protobuf_Any) {
        self.init()
        self.name = name
        self.typedConfig = config
    }
}

extension EnvoyHTTPFilter {
    init(_ name: String, _ config: some EnvoyMessage) {
        self.init()
        self.name = name
        self.typedConfig = config.packed
    }
}

extension EnvoyHTTPFilter {
    /// Whose configuration is a resource of its own, of the filter's name, on the stream that brought the listener.
    init(discovered name: String, _ type: (some EnvoyMessage).Type) {
        self.init()
        self.name = name
        self.configDiscovery = .with {
            $0.configSource = .sameStream
            $0.typeUrls = [type.typeURL]
        }
    }
}

extension EnvoyTransportSocket {
    init(_ name: String, _ config: Google_Protobuf_Any) {
        self.init()
        self.name = name
        self.typedConfig = config
    }

    static var raw: EnvoyTransportSocket {
        EnvoyTransportSocket("raw_buffer", .standard("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))
    }
}

extension EnvoyExtension {
    init(_ name: String, _ config: Google_Protobuf_Any) {
        self.init()
        self.name = name
        self.typedConfig = config
    }
}

extension EnvoyStringMatcher {
    static func exact(_ text: String) -> Self { .with { $0.exact = text } }
    static func prefix(_ text: String) -> Self { .with { $0.prefix = text } }
    static func suffix(_ text: String) -> Self { .with { $0.suffix = text } }
    /// Of RE2; the whole text has to match.
    static func regex(_ pattern: String) -> Self { .with { $0.safeRegex = .with { $0.regex = pattern } } }
}

extension EnvoyDataSource {
    static func inline(_ text: String) -> Self { .with { $0.inlineString = text } }
}

extension EnvoyFormatString {
    static func inline(_ text: String) -> Self { .with { $0.textFormatSource = .inline(text) } }
}

extension EnvoyConfigSource {
    /// On the stream that brought what refers to it. Without a limit in time: what is half known is not served.
    static var sameStream: Self {
        .with {
            $0.ads = EnvoyAggregatedConfigSource()
            $0.initialFetchTimeout = .of(seconds: 0)
            $0.resourceApiVersion = .v3
        }
    }

    /// From the agent beside Envoy.
    static var agent: Self {
        .with {
            $0.apiConfigSource = .with {
                $0.apiType = .deltaGrpc
                $0.transportApiVersion = .v3
                $0.grpcServices = [.with { $0.envoyGrpc = .with { $0.clusterName = EnvoyNames.secretsCluster } }]
                $0.setNodeOnFirstMessageOnly = true
            }
            $0.initialFetchTimeout = .of(seconds: 0)
            $0.resourceApiVersion = .v3
        }
    }
}

extension EnvoyCidrRange {
    init(_ address: IPAddress, bits: Int) {
        self.init()
        self.addressPrefix = address.description
        self.prefixLen = Google_Protobuf_UInt32Value(UInt32(bits))
    }

    /// One address.
    init(_ address: IPAddress) { self.init(address, bits: address.bitWidth) }

    init(_ block: CIDR) { self.init(block.base, bits: block.prefixLength) }
}

extension Google_Protobuf_Duration {
    static func of(seconds: Int64) -> Self { Google_Protobuf_Duration(seconds: seconds) }
}

extension Duration {
    var proto: Google_Protobuf_Duration {
        let parts = self.components
        return Google_Protobuf_Duration(seconds: parts.seconds, nanos: Int32(parts.attoseconds / 1_000_000_000))
    }
}
