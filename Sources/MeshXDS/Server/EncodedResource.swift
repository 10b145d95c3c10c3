import Crypto
package import MeshModel
package import MeshProto
package import MeshRoutes
import SwiftProtobuf

/// A resource as it goes over the wire: encoded once when it changes, shared by every client and every snapshot.
package final class EncodedResource: Sendable {
    package let message: Envoy_Service_Discovery_V3_Resource
    /// What an on-demand client may call it, besides its name: `<network>/<ip>`, and for a workload the keys of
    /// its services.
    let aliases: [String]
    let serviceKeys: [String]
    /// A workload's node; empty otherwise.
    let node: String
    let isService: Bool
    /// Waypoints that get it (`<namespace>/<name>` of the Gateway); empty for types that every client gets.
    let audience: Set<String>

    package var name: String { self.message.name }
    package var version: String { self.message.version }

    /// In bytes of SHA-256. A hash that anyone could collide would let an update be taken for its predecessor.
    static let versionBytes = 12
    /// Fifteen digits of these say twelve bytes (85^15 > 2^96), and fifteen bytes are what a `String` holds without
    /// memory of its own: client and server keep one for each of a hundred thousand resources. (RFC 1924, section 4.2.)
    static let versionDigits = Array(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~".utf8)
    static let versionLength = 15

    package init(_ address: MeshAddress) {
        self.audience = []
        self.message = Self.encode(address.proto, address.resourceName, XDSType.address)
        switch address {
        case .workload(let workload):
            self.aliases =
                workload.networkMode == .hostNetwork
                ? [] : workload.addresses.map { NetworkAddress(network: workload.network, address: $0).description }
            self.serviceKeys = workload.services.keys.map(\.description).sorted()
            self.node = workload.node
            self.isService = false
        case .service(let service):
            self.aliases =
                service.addresses.map(\.description) + service.blocks.map { "\($0.network)/\($0.cidr)" }
            self.serviceKeys = []
            self.node = ""
            self.isService = true
        }
    }

    package convenience init(_ policy: AuthorizationPolicy) {
        self.init(Self.encode(policy.proto, policy.key.description, XDSType.authorization), audience: [])
    }

    /// - Parameter waypoints: that stand before the service, also as canary.
    package convenience init(_ rules: ServiceRules, for waypoints: Set<NamespacedName>) {
        self.init(
            Self.encode(rules.proto, rules.key.description, XDSType.serviceRules),
            audience: Set(waypoints.map(\.description)))
    }

    package convenience init(_ rules: WaypointRules) {
        let name = rules.key.description
        self.init(Self.encode(rules.proto, name, XDSType.waypointRules), audience: [name])
    }

    /// A resource of Envoy's own types, encoded elsewhere.
    package convenience init(type: String, name: String, bytes: [UInt8]) {
        self.init(Self.resource(bytes, name, type), audience: [])
    }

    private init(_ message: Envoy_Service_Discovery_V3_Resource, audience: Set<String>) {
        self.message = message
        self.aliases = []
        self.serviceKeys = []
        self.node = ""
        self.isService = false
        self.audience = audience
    }

    /// Nothing about it would be told to anybody that was not told of `other`.
    func says(theSameAs other: EncodedResource?) -> Bool {
        self.version == other?.version && self.audience == other?.audience
    }

    private static func encode(
        _ content: some Message, _ name: String, _ type: String
    ) -> Envoy_Service_Discovery_V3_Resource {
        var options = BinaryEncodingOptions()
        options.useDeterministicOrdering = true  // maps in key order, so that equal content has an equal version
        guard let bytes: [UInt8] = try? content.serializedBytes(options: options) else {
            preconditionFailure("\(name): a proto3 message without required fields always encodes")
        }
        return Self.resource(bytes, name, type)
    }

    private static func resource(
        _ bytes: [UInt8], _ name: String, _ type: String
    ) -> Envoy_Service_Discovery_V3_Resource {
        let hash = SHA256.hash(data: bytes).prefix(Self.versionBytes)
        return .with {
            $0.name = name
            $0.version = Self.version(hash)
            $0.resource = Google_Protobuf_Any.with {
                $0.typeURL = type
                $0.value = .init(bytes)
            }
        }
    }

    private static func version(_ hash: some Sequence<UInt8>) -> String {
        var rest = hash.reduce(UInt128(0)) { $0 << 8 | UInt128($1) }
        var digits: [UInt8] = []
        for _ in 0..<Self.versionLength {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 85)
            digits.append(Self.versionDigits[Int(digit)])
            rest = quotient
        }
        return String(decoding: digits, as: UTF8.self)
    }
}
