import MeshModel
import MeshTunnel
import Testing

@Suite("A SOCKS5 request")
struct SocksHandshakeTests {
    private static let request: [UInt8] = [5, 1, 0, 1, 10, 0, 0, 1, 0, 80]

    /// Feeds in as many bytes as are wanted, and collects what is not "read on".
    private func steps(_ bytes: [UInt8]) -> [SocksHandshake.Step] {
        var handshake = SocksHandshake()
        var rest = bytes[...]
        var steps: [SocksHandshake.Step] = []
        while handshake.wanted > 0, !rest.isEmpty {
            let part = rest.prefix(handshake.wanted)
            rest = rest.dropFirst(part.count)
            let step = handshake.receive(part)
            if step != .readOn { steps.append(step) }
        }
        return steps
    }

    @Test(
        "names an address or a host; an address as text is an address",
        arguments: [
            ([1, 10, 0, 0, 1, 0, 80], .address(IPEndpoint("10.0.0.1:80")!)),
            (
                [4] + [0x20, 1, 0x0D, 0xB8] + Array(repeating: 0, count: 11) + [1, 0x1F, 0x90],
                .address(IPEndpoint("[2001:db8::1]:8080")!)
            ),
            ([3, 3] + Array("web".utf8) + [0x01, 0xBB], .host("web", port: 443)),
            ([3, 9] + Array("127.1.2.3".utf8) + [0, 80], .address(IPEndpoint("127.1.2.3:80")!)),
        ] as [([UInt8], SocksHandshake.Target)])
    func targets(bytes: [UInt8], target: SocksHandshake.Target) {
        #expect(self.steps([5, 1, 0, 5, 1, 0] + bytes) == [.answer([5, 0]), .connect(target)])
    }

    @Test("no authentication is chosen wherever it stands among the methods")
    func methods() {
        #expect(self.steps([5, 3, 2, 1, 0] + Self.request).last == .connect(.address(IPEndpoint("10.0.0.1:80")!)))
    }

    @Test("asks for not one byte beyond the request: what follows is the application's")
    func noMore() {
        var handshake = SocksHandshake()
        var read = 0
        let bytes = [5, 1, 0] + Self.request + Array("GET /".utf8)
        while handshake.wanted > 0 {
            _ = handshake.receive(bytes[read..<(read + 1)])
            read += 1
        }
        #expect(read == 3 + Self.request.count)
    }

    @Test(
        "is refused with the code that says why",
        arguments: [
            ([4, 1, 0, 80, 10, 0, 0, 1, 0], []),
            ([5, 0], [5, 0xFF]), ([5, 1, 2], [5, 0xFF]),
            ([5, 1, 0, 4, 1, 0, 1, 10], SocksHandshake.Reply.generalFailure.bytes),
            ([5, 1, 0, 5, 2, 0, 1, 10], SocksHandshake.Reply.commandNotSupported.bytes),
            ([5, 1, 0, 5, 3, 0, 1, 10], SocksHandshake.Reply.commandNotSupported.bytes),
            ([5, 1, 0, 5, 1, 0, 9, 10], SocksHandshake.Reply.addressTypeNotSupported.bytes),
            ([5, 1, 0, 5, 1, 0, 3, 0], SocksHandshake.Reply.generalFailure.bytes),
            ([5, 1, 0, 5, 1, 0, 3, 2, 0x20, 0x61, 0, 80], SocksHandshake.Reply.generalFailure.bytes),
            ([5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 1, 0, 0], SocksHandshake.Reply.generalFailure.bytes),
        ] as [([UInt8], [UInt8])])
    func refused(bytes: [UInt8], answer: [UInt8]) {
        guard case .refuse(answer, let reason)? = self.steps(bytes).last else {
            Issue.record("\(self.steps(bytes))")
            return
        }
        #expect(!reason.isEmpty)
    }
}
