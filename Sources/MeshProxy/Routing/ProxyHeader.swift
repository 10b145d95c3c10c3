package import MeshIdentity
package import MeshModel

/// The header of the PROXY protocol, version 2, that tells an application behind a tunnel who called and what for
/// (haproxy's `proxy-protocol.txt`, section 2.2; the two types of ours are in Istio's `workload.proto`).
package struct ProxyHeader: Hashable, Sendable {
    package var source, destination: IPEndpoint
    /// Proven by the caller: its SPIFFE URI becomes type 0xD0.
    package var identity: WorkloadIdentity?
    /// The service that was asked for: type 0xD1.
    package var serviceHost: String?

    package init(source: IPEndpoint, destination: IPEndpoint, identity: WorkloadIdentity?, serviceHost: String?) {
        self.source = source
        self.destination = destination
        self.identity = identity
        self.serviceHost = serviceHost
    }

    private static let signature: [UInt8] = [
        0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
    ]
    /// A SPIFFE ID is at most 2048 bytes long (SPIFFE-ID, section 2.3); longer texts are left out.
    package static let textBytesMax = 2048

    /// Version 2, command PROXY, stream transport. Addresses of two families are both written as IPv6, the IPv4 one
    /// mapped, so that neither is lost.
    package var bytes: [UInt8] {
        let isV6 = self.source.address.isV6 || self.destination.address.isV6
        var body: [UInt8] = []
        for address in [self.source.address, self.destination.address] { Self.append(address, isV6: isV6, to: &body) }
        for port in [self.source.port, self.destination.port] { Self.append(port, to: &body) }
        if let identity { Self.append(type: 0xD0, identity.description, to: &body) }
        if let serviceHost { Self.append(type: 0xD1, serviceHost, to: &body) }
        var bytes = Self.signature
        bytes += [0x21, isV6 ? 0x21 : 0x11]
        Self.append(UInt16(body.count), to: &bytes)
        return bytes + body
    }

    private static func append(_ address: IPAddress, isV6: Bool, to bytes: inout [UInt8]) {
        if isV6 {
            let high = address.isV6 ? address.high : 0
            let low = address.isV6 ? address.low : 0xFFFF << 32 | (address.low & 0xFFFF_FFFF)
            for word in [high, low] {
                for shift in (0..<8).reversed() { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * UInt64(shift)))) }
            }
        } else {
            for shift in (0..<4).reversed() {
                bytes.append(UInt8(truncatingIfNeeded: address.low >> (8 * UInt64(shift))))
            }
        }
    }

    private static func append(_ number: UInt16, to bytes: inout [UInt8]) {
        bytes.append(UInt8(number >> 8))
        bytes.append(UInt8(truncatingIfNeeded: number))
    }

    private static func append(type: UInt8, _ text: String, to bytes: inout [UInt8]) {
        guard text.utf8.count <= Self.textBytesMax else { return }
        bytes.append(type)
        Self.append(UInt16(text.utf8.count), to: &bytes)
        bytes += text.utf8
    }
}
