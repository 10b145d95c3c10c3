import Glibc
import MeshLinux
import MeshModel

/// A node with a bridge, a pod and a client on it, each a network namespace without a name: nothing is left behind.
struct Topology: Sendable {
    let node, pod, client: SharedNetworkNamespace

    static let nodeV4 = IPAddress("10.77.0.1")!
    static let podV4 = IPAddress("10.77.0.2")!
    static let clientV4 = IPAddress("10.77.0.3")!
    static let podV6 = IPAddress("fd77::2")!
    static let clientV6 = IPAddress("fd77::3")!

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    static func ip(_ namespace: SharedNetworkNamespace, _ commands: String) async throws {
        let output = try await namespace.perform { try Program.run(["ip", "-batch", "-"], input: commands + "\n") }
        if output.exitCode != 0 { throw Failure(description: "ip: \(output.standardError) in \(commands)") }
    }

    init() async throws {
        self.node = try await NetworkNamespace.create()
        self.pod = try await NetworkNamespace.create()
        self.client = try await NetworkNamespace.create()
        try await Self.ip(
            self.node,
            """
            link set lo up
            link add br0 type bridge
            link set br0 up
            addr add 10.77.0.1/24 dev br0
            addr add fd77::1/64 dev br0 nodad
            """)
        for (namespace, port, number) in [(self.pod, "pod", 2), (self.client, "client", 3)] {
            let path = namespace.namespace.withDescriptor { "/proc/\(getpid())/fd/\($0)" }
            try await Self.ip(
                self.node,
                """
                link add \(port) type veth peer name eth0 netns \(path)
                link set \(port) master br0 up
                """)
            try await Self.ip(
                namespace,
                """
                link set lo up
                link set eth0 up
                addr add 10.77.0.\(number)/24 dev eth0
                addr add fd77::\(number)/64 dev eth0 nodad
                route add default via 10.77.0.1
                """)
        }
    }
}

func endpoint(_ address: IPAddress, _ port: UInt16) -> IPEndpoint { IPEndpoint(address: address, port: port) }

/// Asks both ways once: a connection that works says so.
func talk(_ one: TCP, _ other: TCP) throws -> Bool {
    try one.send("ping")
    guard try other.receive() == "ping" else { return false }
    try other.send("pong")
    return try one.receive() == "pong"
}
