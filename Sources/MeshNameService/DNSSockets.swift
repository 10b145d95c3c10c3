internal import Glibc
internal import MeshDNS
internal import MeshLoop
internal import MeshModel

/// The sockets of one name service, bound inside its namespace: all or none. They listen from here on, before
/// anybody reads them; what arrives waits in the kernel.
struct DNSSockets {
    struct Bound {
        let descriptor: CInt
        let local: IPEndpoint
        let transport: DNSTransport
    }

    let all: [Bound]
    let port: UInt16

    /// - Parameter namespace: borrowed; nil is the process's own.
    init(_ settings: DNSListening, namespace: CInt?) throws(SystemError) {
        var all: [Bound] = []
        var port = settings.port
        do throws(SystemError) {
            for address in Self.addresses(settings) {
                do throws(SystemError) {
                    for transport in [DNSTransport.tcp, .udp] {
                        let bound = try Self.bind(
                            transport, IPEndpoint(address: address, port: port), settings, namespace: namespace)
                        all.append(bound)
                        port = bound.local.port
                    }
                } catch {
                    // A pod without IPv6 has no ::1; nobody asks there then.
                    guard settings.address == nil, address.isV6, [EADDRNOTAVAIL, EAFNOSUPPORT].contains(error.code)
                    else { throw error }
                }
            }
        } catch {
            for bound in all { Sockets.closeDescriptor(bound.descriptor) }
            throw error
        }
        self.all = all
        self.port = port
    }

    private static func addresses(_ settings: DNSListening) -> [IPAddress] {
        if let address = settings.address { return [address] }
        let v4 = IPAddress(v4: 0x7f00_0001)
        return settings.isIPv6Enabled ? [v4, IPAddress(v6High: 0, low: 1)] : [v4]
    }

    /// One socket; port 0 takes a free one.
    static func bind(
        _ transport: DNSTransport, _ local: IPEndpoint, _ settings: DNSListening, namespace: CInt?
    ) throws(SystemError) -> Bound {
        switch transport {
        case .tcp:
            var options = Sockets.ListenOptions(namespace: namespace, local: local)
            options.reusesPort = settings.reusesPort
            options.mark = settings.mark
            options.backlog = 128  // as the reference; a pod with more connects at once is answered a little later
            let made = try Sockets.listen(options)
            return Bound(
                descriptor: made.descriptor, local: IPEndpoint(address: local.address, port: made.port),
                transport: transport)
        case .udp:
            var options = Sockets.DatagramOptions(namespace: namespace, local: local)
            options.isDualStack = true
            options.reusesPort = settings.reusesPort
            options.mark = settings.mark
            let made = try Sockets.datagram(options)
            return Bound(
                descriptor: made.descriptor, local: IPEndpoint(address: local.address, port: made.port),
                transport: transport)
        }
    }
}
