internal import Glibc

/// The addresses of all interfaces in the namespace of the calling thread.
public enum InterfaceAddresses {
    /// - Returns: 4 or 16 bytes each, in network order.
    public static func all() throws(SystemError) -> Set<[UInt8]> {
        var list: UnsafeMutablePointer<ifaddrs>?
        if getifaddrs(&list) < 0 { throw SystemError("list interface addresses", code: errno) }
        defer { freeifaddrs(list) }
        var found: Set<[UInt8]> = []
        // SAFETY: the list is ours until freeifaddrs; an address has the size that its family says.
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr else { continue }
            let raw = UnsafeRawPointer(address)
            switch CInt(address.pointee.sa_family) {
            case AF_INET:
                var bits = raw.loadUnaligned(as: sockaddr_in.self).sin_addr
                found.insert(withUnsafeBytes(of: &bits) { Array($0) })
            case AF_INET6:
                var bits = raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr
                found.insert(withUnsafeBytes(of: &bits) { Array($0) })
            default: continue
            }
        }
        return found
    }
}
