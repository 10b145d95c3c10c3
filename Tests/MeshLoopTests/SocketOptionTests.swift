import Glibc
import MeshLoop
import MeshModel
import Testing

@Suite("A dialled socket")
struct SocketOptionTests {
    private func option(_ descriptor: CInt, _ level: CInt, _ name: CInt) -> CInt {
        var value: CInt = -1
        var length = socklen_t(MemoryLayout<CInt>.size)
        getsockopt(descriptor, level, name, &value, &length)
        return value
    }

    @Test(
        "USER_TIMEOUT_ENABLED: waits for acknowledgements as long as keepalive does, and otherwise as the kernel likes")
    func userTimeout() throws {
        let listener = try Sockets.listen(Sockets.ListenOptions(local: IPEndpoint("127.0.0.1:0")!))
        defer { Sockets.closeDescriptor(listener.descriptor) }
        for (isLimited, milliseconds) in [(true, CInt(1_800_000)), (false, 0)] {
            var options = Sockets.DialOptions(
                target: IPEndpoint(address: IPAddress(v4: 0x7F00_0001), port: listener.port))
            let keepalive = Sockets.Keepalive(idle: 180, interval: 180, count: 9, limitsUnacknowledged: isLimited)
            options.keepalive = keepalive
            let dialled = try Sockets.dial(options)
            defer { Sockets.closeDescriptor(dialled) }
            #expect(self.option(dialled, CInt(IPPROTO_TCP), CInt(TCP_USER_TIMEOUT)) == milliseconds)
            #expect(self.option(dialled, CInt(IPPROTO_TCP), CInt(TCP_KEEPCNT)) == 9)
            // As for an accepted one.
            let plain = try Sockets.dial(Sockets.DialOptions(target: options.target))
            defer { Sockets.closeDescriptor(plain) }
            Sockets.setKeepalive(plain, keepalive)
            #expect(self.option(plain, CInt(IPPROTO_TCP), CInt(TCP_USER_TIMEOUT)) == milliseconds)
        }
    }

    @Test(
        "from another's address has no port that clients have, also when there are many",
        .enabled(if: geteuid() == 0, "other addresses need CAP_NET_ADMIN"))
    func spoofedPort() throws {
        let listener = try Sockets.listen(Sockets.ListenOptions(local: IPEndpoint("127.0.0.1:0")!))
        defer { Sockets.closeDescriptor(listener.descriptor) }
        var options = Sockets.DialOptions(
            target: IPEndpoint(address: IPAddress(v4: 0x7F00_0001), port: listener.port))
        options.source = IPAddress(v4: 0x7F00_0909)
        var dialled: [CInt] = []
        defer { for descriptor in dialled { Sockets.closeDescriptor(descriptor) } }
        var ports: Set<UInt16> = []
        for _ in 0..<500 {
            dialled.append(try Sockets.dial(options))
            let local = try #require(Sockets.localEndpoint(of: dialled.last!))
            #expect(local.address == options.source)
            #expect((16_384..<32_768).contains(local.port), "Linux's clients begin at 32768, the mesh ends at 15090")
            ports.insert(local.port)
        }
        #expect(ports.count == 500)
    }
}
