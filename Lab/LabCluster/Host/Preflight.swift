internal import Foundation

/// What has to be true of this machine before a cluster is made. Nothing is changed by looking.
package enum Preflight {
    /// Programs that the lab runs, and the Debian packages that bring them.
    static let programs: [(program: String, package: String)] = [
        ("ip", "iproute2"), ("nft", "nftables"), ("runc", "runc"), ("nsenter", "util-linux"), ("umount", "mount"),
        ("hostname", "hostname"),
    ]
    /// Where Debian's containernetworking-plugins are.
    static let plugins = "/usr/lib/cni/bridge"

    static func checkRoot(_ what: String) throws(LabError) {
        guard geteuid() == 0 else {
            throw LabError("\(what) needs root: it makes network namespaces and mounts; run it with sudo")
        }
    }

    /// - Throws: one error that names everything that is missing.
    package static func checkPrograms(
        find: (String) -> String? = Command.find, exists: (String) -> Bool = FileManager.default.fileExists
    ) throws(LabError) {
        var missing = self.programs.filter { find($0.program) == nil }.map { ($0.program, $0.package) }
        if !exists(self.plugins) { missing.append(("the CNI plugins", "containernetworking-plugins")) }
        guard !missing.isEmpty else { return }
        let packages = Set(missing.map(\.1)).sorted().joined(separator: " ")
        throw LabError(
            "missing on this machine: \(missing.map(\.0).joined(separator: ", ")); "
                + "install with: apt-get install \(packages)")
    }

    /// - Throws: when somebody listens there, or the address is none of this machine.
    static func checkPort(host: String, port: Int, option: String) throws(LabError) {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw LabError("cannot make a socket: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var one: CInt = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = (IPv4Network.address(host) ?? 0).bigEndian
        // SAFETY: sockaddr_in is a sockaddr of its own length, and bind reads it only during the call.
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let reason =
                errno == EADDRINUSE
                ? "is in use (see: ss -ltnp sport = :\(port))" : "cannot be used: \(String(cString: strerror(errno)))"
            throw LabError("port \(host):\(port) \(reason); choose another one with \(option)")
        }
    }

    /// The networks of this machine's routes, the default route aside.
    package static func routes(_ text: String) -> [(network: IPv4Network, device: String)] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            let types: Set = ["unicast", "broadcast", "local", "blackhole", "unreachable", "prohibit"]
            guard let destination = words.first(where: { !types.contains($0) }), destination != "default",
                let network = IPv4Network(destination)
            else { return nil }
            let device = words.firstIndex(of: "dev").flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
            return (network, device ?? "-")
        }
    }

    /// Nil when nothing on this machine uses a part of the network.
    package static func overlap(_ network: IPv4Network, with routes: [(network: IPv4Network, device: String)])
        -> String?
    {
        routes.first { network.overlaps($0.network) }.map { "the route to \($0.network) by \($0.device)" }
    }
}
