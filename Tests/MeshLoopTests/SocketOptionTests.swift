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
}
