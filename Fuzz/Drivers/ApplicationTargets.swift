internal import MeshDNS
internal import MeshIdentity
internal import MeshModel
internal import MeshProxy
internal import MeshTunnel

/// What applications say to us, and what we say to them.
extension FuzzTarget {
    static let applications = [dns, socks, proxyProtocol]

    private static let dns = FuzzTarget(
        "dns", tokens: ["web", "svc", "cluster", "local", "shop"],
        bytes: [[0xC0, 0x0C], [0, 1, 0, 1], [0, 0x1C, 0, 1], [0, 0, 0x29], [0x81, 0x80]]
    ) { fuzzDNSMessage($0) }

    /// The first octet says into pieces of which size the rest is cut.
    private static let socks = FuzzTarget(
        "socks5", tokens: ["web.shop", "10.0.0.1", "::1"],
        bytes: [[5, 1, 0], [5, 1, 0, 1], [5, 1, 0, 3], [5, 1, 0, 4], [5, 2, 0, 2]]
    ) { bytes in
        guard let first = bytes.first else { return }
        let input = bytes.dropFirst()
        let whole = Self.converse(input, piecesOf: .max)
        promise(Self.converse(input, piecesOf: Int(first) + 1) == whole, "the network's cuts change the outcome")
        promise(whole.read <= 2 + 255 + 5 + 255 + 2, "more was read than a request has")
        if case .connect(.host(let host, let port))? = whole.steps.last {
            promise(!host.isEmpty && host.utf8.count <= 255 && port != 0, "connects to \(host):\(port)")
        }
    }

    private struct Conversation: Equatable {
        var steps: [SocksHandshake.Step] = []
        var read = 0
    }

    private static func converse(_ input: ArraySlice<UInt8>, piecesOf size: Int) -> Conversation {
        var handshake = SocksHandshake()
        var outcome = Conversation()
        var rest = input
        while handshake.wanted > 0, !rest.isEmpty {
            let piece = rest.prefix(min(handshake.wanted, size))
            rest = rest.dropFirst(piece.count)
            outcome.read += piece.count
            let step = handshake.receive(piece)
            if step != .readOn { outcome.steps.append(step) }
        }
        return outcome
    }

    /// Flags, two addresses of 16 octets of which the first 4 may count, two ports, and a text.
    private static let proxyProtocol = FuzzTarget(
        "proxy-protocol", tokens: ["spiffe://", "cluster.local", "/ns/a/sa/b", "web.shop.svc.cluster.local"]
    ) { bytes in
        guard bytes.count >= 37 else { return }
        func end(_ offset: Int, isV6: Bool, port: Int) -> IPEndpoint? {
            IPAddress(bytes: bytes[offset..<(offset + (isV6 ? 16 : 4))]).map {
                IPEndpoint(address: $0, port: UInt16(bytes[port]) << 8 | UInt16(bytes[port + 1]))
            }
        }
        let flags = bytes[0]
        guard let source = end(1, isV6: flags & 1 != 0, port: 33),
            let destination = end(17, isV6: flags & 2 != 0, port: 35)
        else { return }
        let text = String(decoding: bytes[37...], as: UTF8.self)
        let header = ProxyHeader(
            source: source, destination: destination,
            identity: flags & 4 != 0 ? try? WorkloadIdentity(spiffe: text) : nil,
            serviceHost: flags & 8 != 0 ? text : nil)
        promise(Self.isFaithful(header), "\(header) is not what was written")
    }

    /// Reads a header by haproxy's `proxy-protocol.txt`, section 2.2, and compares.
    private static func isFaithful(_ header: ProxyHeader) -> Bool {
        let bytes = header.bytes
        guard bytes.count >= 16, bytes[..<12] == [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10], bytes[12] == 0x21,
            bytes.count == 16 + Int(bytes[14]) << 8 + Int(bytes[15])
        else { return false }
        let isV6 = header.source.address.isV6 || header.destination.address.isV6
        let width = isV6 ? 16 : 4
        guard bytes[13] == (isV6 ? 0x21 : 0x11), bytes.count >= 16 + 2 * width + 4 else { return false }
        func matches(_ address: IPAddress, at offset: Int) -> Bool {
            let mapped: [UInt8] = Array(repeating: 0, count: 10) + [0xFF, 0xFF] + address.bytes
            return bytes[offset..<(offset + width)].elementsEqual(isV6 && !address.isV6 ? mapped : address.bytes)
        }
        func number(_ offset: Int) -> Int { Int(bytes[offset]) << 8 | Int(bytes[offset + 1]) }
        var offset = 16 + 2 * width + 4
        guard matches(header.source.address, at: 16), matches(header.destination.address, at: 16 + width),
            number(offset - 4) == Int(header.source.port), number(offset - 2) == Int(header.destination.port)
        else { return false }
        let texts = [(UInt8(0xD0), header.identity?.description), (0xD1, header.serviceHost)]
        for (type, text) in texts {
            guard let text, text.utf8.count <= ProxyHeader.textBytesMax else { continue }
            guard bytes.count >= offset + 3 + text.utf8.count, bytes[offset] == type,
                number(offset + 1) == text.utf8.count,
                bytes[(offset + 3)..<(offset + 3 + text.utf8.count)].elementsEqual(text.utf8)
            else { return false }
            offset += 3 + text.utf8.count
        }
        return offset == bytes.count
    }
}
