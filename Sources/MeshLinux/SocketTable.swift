/// The TCP sockets of the namespace of the calling thread, counted from `/proc/thread-self/net/tcp` and `tcp6`.
public enum SocketTable {
    public struct Socket: Hashable, Sendable {
        public let localPort, remotePort: UInt16
        /// The remote address is 127.0.0.0/8, ::1 or the mapped form of the former.
        public let isRemoteLoopback: Bool
        /// As in include/net/tcp_states.h: 1 established, 6 time-wait, 10 listening ...
        public let state: UInt8
        /// 0: no process holds it (not accepted yet, or closed and finishing).
        public let inode: UInt64

        /// A connection in which a process still takes part, or will.
        public var isLive: Bool {
            switch self.state {
            case 1, 3: true  // established, syn-received
            case 6, 7, 10, 12: false  // time-wait, closed, listening, the listener's request
            default: self.inode != 0
            }
        }
    }

    public static func sockets() throws(SystemError) -> [Socket] {
        var all = Self.parse(String(decoding: try Files.read("/proc/thread-self/net/tcp"), as: UTF8.self))
        do throws(SystemError) {
            all += Self.parse(String(decoding: try Files.read("/proc/thread-self/net/tcp6"), as: UTF8.self))
        } catch  where error.isNotFound {
            // No IPv6 in this kernel.
        }
        return all
    }

    /// Connections that end at one of these local ports.
    public static func liveConnections(toLocalPorts ports: Set<UInt16>) throws(SystemError) -> Int {
        try Self.sockets().count { ports.contains($0.localPort) && $0.isLive }
    }

    /// proc(5): a header, then lines `sl local_address rem_address st tx:rx tr:tm retr uid timeout inode ...`; addresses
    /// in hexadecimal words of host order, ports in hexadecimal.
    package static func parse(_ text: String) -> [Socket] {
        text.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count >= 10, let local = Self.endpoint(fields[1]), let remote = Self.endpoint(fields[2]),
                let state = UInt8(fields[3], radix: 16), let inode = UInt64(fields[9])
            else { return nil }
            return Socket(
                localPort: local.port, remotePort: remote.port, isRemoteLoopback: remote.isLoopback, state: state,
                inode: inode)
        }
    }

    private static func endpoint(_ text: Substring) -> (port: UInt16, isLoopback: Bool)? {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let port = UInt16(parts[1], radix: 16) else { return nil }
        let address = parts[0]
        // 127.a.b.c as a little-endian word ends in 7F; ::1 ends in 01000000 after zeros; ::ffff:127... as the first.
        let isLoopback =
            address.count == 8
            ? address.hasSuffix("7F")
            : address == "00000000000000000000000001000000"
                || (address.hasPrefix("0000000000000000FFFF0000") && address.hasSuffix("7F"))
        return (port, isLoopback)
    }
}
