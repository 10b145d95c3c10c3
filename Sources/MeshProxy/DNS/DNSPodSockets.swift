internal import Glibc
internal import MeshLoop
internal import MeshModel

/// The sockets of one pod's name service, bound inside its namespace: all or none. They listen from here on, before
/// anybody reads them; what arrives waits in the kernel.
struct DNSPodSockets {
    let streams: [CInt]
    let datagrams: [CInt]
    let port: UInt16

    /// - Parameter namespace: borrowed; nil is the process's own.
    init(_ settings: DNSSettings, namespace: CInt?) throws(SystemError) {
        var streams: [CInt] = []
        var datagrams: [CInt] = []
        var port = settings.port
        do throws(SystemError) {
            for address in Self.addresses(settings) {
                do throws(SystemError) {
                    let stream = try Self.stream(IPEndpoint(address: address, port: port), settings, namespace)
                    streams.append(stream.descriptor)
                    port = stream.port
                    datagrams.append(
                        try Self.datagram(IPEndpoint(address: address, port: port), settings, namespace))
                } catch {
                    // A pod without IPv6 has no ::1; nobody asks there then.
                    guard settings.address == nil, address.isV6, [EADDRNOTAVAIL, EAFNOSUPPORT].contains(error.code)
                    else { throw error }
                }
            }
        } catch {
            for descriptor in streams + datagrams { Sockets.closeDescriptor(descriptor) }
            throw error
        }
        self.streams = streams
        self.datagrams = datagrams
        self.port = port
    }

    private static func addresses(_ settings: DNSSettings) -> [IPAddress] {
        if let address = settings.address { return [address] }
        let v4 = IPAddress(v4: 0x7f00_0001)
        return settings.isIPv6Enabled ? [v4, IPAddress(v6High: 0, low: 1)] : [v4]
    }

    private static func stream(
        _ local: IPEndpoint, _ settings: DNSSettings, _ namespace: CInt?
    ) throws(SystemError) -> Sockets.ListenResult {
        var options = Sockets.ListenOptions(namespace: namespace, local: local)
        options.reusesPort = settings.reusesPort
        options.mark = settings.mark
        options.backlog = 128  // as the reference; a pod with more connects at once is answered a little later
        return try Sockets.listen(options)
    }

    private static func datagram(
        _ local: IPEndpoint, _ settings: DNSSettings, _ namespace: CInt?
    ) throws(SystemError) -> CInt {
        var options = Sockets.DatagramOptions(namespace: namespace, local: local)
        options.isDualStack = true
        options.reusesPort = settings.reusesPort
        options.mark = settings.mark
        return try Sockets.datagram(options).descriptor
    }
}
