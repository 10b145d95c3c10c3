internal import Glibc

/// Asks the system's resolver (`/etc/hosts`, `/etc/resolv.conf`) for the addresses of a host name.
public enum HostLookup {
    /// Addresses taken of one answer.
    public static let addressesMax = 64

    /// Blocks the calling thread, at worst for as long as `/etc/resolv.conf` says (10 seconds as a rule).
    ///
    /// - Parameter onlyIPv4: asks for A records only.
    /// - Returns: the addresses as text, in the resolver's order, each once; never empty.
    public static func addresses(of host: String, onlyIPv4: Bool) throws(HostLookupFailed) -> [String] {
        var hints = addrinfo()
        hints.ai_family = onlyIPv4 ? AF_INET : AF_UNSPEC
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        guard code == 0 else {
            let reason = code == EAI_SYSTEM ? String(cString: strerror(errno)) : String(cString: gai_strerror(code))
            throw HostLookupFailed(host: host, reason: reason)
        }
        defer { freeaddrinfo(list) }
        var found: [String] = []
        var next = list
        // SAFETY: the list is getaddrinfo's and lives until the defer; `text` has room for every numeric address.
        while let entry = next, found.count < Self.addressesMax {
            next = entry.pointee.ai_next
            withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { text in
                let named = getnameinfo(
                    entry.pointee.ai_addr, entry.pointee.ai_addrlen, text.baseAddress, socklen_t(text.count), nil, 0,
                    NI_NUMERICHOST)
                guard named == 0, let start = text.baseAddress else { return }
                let address = String(cString: start)
                if !found.contains(address) { found.append(address) }
            }
        }
        guard !found.isEmpty else { throw HostLookupFailed(host: host, reason: "no addresses") }
        return found
    }
}

public struct HostLookupFailed: Error, Hashable, CustomStringConvertible {
    public let host, reason: String
    public var description: String {
        "\(self.host) cannot be resolved: \(self.reason); does the name exist, and does the node's name server answer?"
    }
}
