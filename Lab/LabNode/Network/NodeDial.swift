internal import CLabNode
internal import Foundation

/// TCP connections from inside a node's network, for processes outside of it.
public enum NodeDial {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// Connects from inside a network namespace.
    ///
    /// - Parameters:
    ///   - namespace: its file, e.g. `/proc/PID/ns/net`.
    ///   - host: a numeric IPv4 or IPv6 address.
    /// - Returns: a connected socket that blocks; the caller closes it.
    public static func connect(namespace: String, host: String, port: Int, timeout: Duration) async throws -> Int32 {
        guard let port = UInt16(exactly: port) else { throw Failure(description: "\(port) is no port") }
        let descriptor = open(namespace, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 {
            throw Failure(description: "cannot open \(namespace): \(String(cString: strerror(errno)))")
        }
        let milliseconds = Int32(
            clamping: timeout.components.seconds * 1000 + timeout.components.attoseconds / 1_000_000_000_000_000)
        let socket = await CommandRunner.blocking { () -> Int32 in
            defer { close(descriptor) }
            return clabnode_connect(descriptor, host, port, milliseconds)
        }
        if socket < 0 { throw Failure(description: String(cString: strerror(-socket)).lowercased()) }
        return socket
    }
}
