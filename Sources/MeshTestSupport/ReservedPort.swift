internal import Glibc

/// A port of 127.0.0.1 that nobody gets by chance for as long as this value lives: neither as a free port nor as the
/// local port of a connection.
///
/// The socket is bound with SO_REUSEPORT and does not listen. Who connects is refused; a program that binds with
/// SO_REUSEPORT too (Envoy does, and our engine) can listen there and gets every connection.
public final class ReservedPort: Sendable {
    public let port: UInt16
    private let descriptor: CInt

    public init() throws {
        self.descriptor = socket(AF_INET, BlockingSocket.streamType, 0)
        var shared: CInt = 1
        setsockopt(self.descriptor, SOL_SOCKET, SO_REUSEPORT, &shared, socklen_t(MemoryLayout<CInt>.size))
        var address = BlockingSocket.endpoint(BlockingSocket.loopbackAddress, 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = self.descriptor
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
            }
        }
        self.port = UInt16(bigEndian: address.sin_port)
        guard isBound else { throw BlockingSocket.Failure(call: "reserve a port", code: errno) }
    }

    deinit { close(self.descriptor) }
}
