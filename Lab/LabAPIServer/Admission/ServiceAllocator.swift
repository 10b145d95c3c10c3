internal import KubeAPI
internal import Synchronization

/// Hands out ClusterIPs and node ports, each to one Service at a time.
final class ServiceAllocator: Sendable {
    static let nodePorts: ClosedRange<Int64> = 30_000...32_767

    /// What one write took; given back when the write does not happen.
    struct Reservation: Sendable {
        var address: UInt32?
        var ports: [String] = []
    }

    private struct State {
        var addresses: Set<UInt32> = []
        /// `TCP/30080`.
        var ports: Set<String> = []
    }

    private let base: UInt32
    private let count: UInt32
    private let range: String
    private let state = Mutex(State())

    /// - Throws: ``StatusError`` for text that is no IPv4 CIDR with room for services (/8 to /28).
    init(range: String) throws(StatusError) {
        let parts = range.split(separator: "/")
        guard parts.count == 2, let base = IPv4.parse(String(parts[0])), let bits = UInt32(parts[1]),
            (8...28).contains(bits)
        else { throw .badRequest("the service CIDR \(range) is no IPv4 range such as 10.43.0.0/16") }
        self.count = 1 << (32 - bits)
        self.base = base & ~(self.count - 1)
        self.range = range
    }

    /// The address of default/kubernetes.
    var firstAddress: String { IPv4.text(self.base + 1) }

    /// Takes over what a stored Service has.
    func adopt(_ service: JSONValue) {
        self.state.withLock { state in
            if let address = service.at("spec", "clusterIP")?.string.flatMap(IPv4.parse) {
                state.addresses.insert(address)
            }
            state.ports.formUnion(Self.ports(of: service))
        }
    }

    private static func ports(of service: JSONValue) -> [String] {
        (service.at("spec", "ports")?.array ?? []).compactMap { port in
            port["nodePort"]?.int.flatMap { $0 == 0 ? nil : "\(port["protocol"]?.string ?? "TCP")/\($0)" }
        }
    }

    /// Completes a Service before it is stored.
    ///
    /// - Throws: 422 when a wanted address or port is taken or out of range.
    func admit(_ service: inout JSONValue, old: JSONValue?, kind: ResourceKind) throws(StatusError) -> Reservation {
        guard kind.storage == "services" else { return Reservation() }
        var reservation = Reservation()
        do {
            try self.admitAddress(&service, old: old, &reservation)
            try self.admitPorts(&service, old: old, &reservation)
            return reservation
        } catch {
            self.release(reservation)
            throw StatusError.invalid(kind, service.at("metadata", "name")?.string ?? "", [error])
        }
    }

    private func admitAddress(
        _ service: inout JSONValue, old: JSONValue?, _ reservation: inout Reservation
    ) throws(FieldError) {
        if service.at("spec", "type")?.string == "ExternalName" {
            service.set(["spec", "clusterIP"], to: nil)
            service.set(["spec", "clusterIPs"], to: nil)
            return
        }
        var wanted = service.at("spec", "clusterIP")?.string ?? ""
        if wanted.isEmpty { wanted = service.at("spec", "clusterIPs")?[0]?.string ?? "" }
        let present = old?.at("spec", "clusterIP")?.string ?? ""
        if wanted.isEmpty { wanted = present }
        if wanted != "None", wanted != present || wanted.isEmpty {
            wanted = try self.take(wanted, &reservation)
        }
        service.set(["spec", "clusterIP"], to: .string(wanted))
        service.set(["spec", "clusterIPs"], to: [.string(wanted)])
    }

    private func take(_ wanted: String, _ reservation: inout Reservation) throws(FieldError) -> String {
        if wanted.isEmpty {
            // The first addresses are for well-known services: 1 the API, 10 DNS.
            let first = min(self.count / 16, 256)
            let found: UInt32? = self.state.withLock { state in
                for _ in 0..<64 {
                    let address = self.base + UInt32.random(in: first..<self.count - 1)
                    if state.addresses.insert(address).inserted { return address }
                }
                return (first..<self.count - 1).map { self.base + $0 }.first { state.addresses.insert($0).inserted }
            }
            guard let found else {
                throw FieldError.invalid(
                    "spec.clusterIPs", [], "failed to allocate IP: the range \(self.range) is full")
            }
            reservation.address = found
            return IPv4.text(found)
        }
        let place = "spec.clusterIPs"
        guard let address = IPv4.parse(wanted) else {
            throw FieldError.invalid(place, [.string(wanted)], "must be a valid IP address, (e.g. 10.9.8.7)")
        }
        guard address > self.base, address < self.base + self.count - 1 else {
            throw FieldError.invalid(
                place, [.string(wanted)],
                "failed to allocate IP \(wanted): the provided IP (\(wanted)) is not in the valid range. The range of valid IPs is \(self.range)"
            )
        }
        guard self.state.withLock({ $0.addresses.insert(address).inserted }) else {
            throw FieldError.invalid(
                place, [.string(wanted)], "failed to allocate IP \(wanted): provided IP is already allocated")
        }
        reservation.address = address
        return wanted
    }

    private func admitPorts(
        _ service: inout JSONValue, old: JSONValue?, _ reservation: inout Reservation
    ) throws(FieldError) {
        let type = service.at("spec", "type")?.string
        let wantsPorts =
            type == "NodePort"
            || (type == "LoadBalancer" && service.at("spec", "allocateLoadBalancerNodePorts")?.bool != false)
        guard var ports = service.at("spec", "ports")?.array else { return }
        let oldPorts = old?.at("spec", "ports")?.array ?? []
        let held = Set(old.map(Self.ports) ?? [])
        for index in ports.indices {
            guard wantsPorts else {
                ports[index]["nodePort"] = nil
                continue
            }
            let name = ports[index]["protocol"]?.string ?? "TCP"
            if ports[index]["nodePort"]?.int ?? 0 == 0 {
                let before = oldPorts.first {
                    $0["port"] == ports[index]["port"] && $0["protocol"] == ports[index]["protocol"]
                }
                if let number = before?["nodePort"] { ports[index]["nodePort"] = number }
            }
            if let number = ports[index]["nodePort"]?.int, number != 0 {
                let id = "\(name)/\(number)"
                if held.contains(id) { continue }
                guard Self.nodePorts.contains(number) else {
                    throw FieldError.invalid(
                        "spec.ports[\(index)].nodePort", .int(number),
                        "provided port is not in the valid range. The range of valid ports is 30000-32767")
                }
                guard self.state.withLock({ $0.ports.insert(id).inserted }) else {
                    throw FieldError.invalid(
                        "spec.ports[\(index)].nodePort", .int(number), "provided port is already allocated")
                }
                reservation.ports.append(id)
            } else {
                let found: Int64? = self.state.withLock { state in
                    Self.nodePorts.shuffled().first { state.ports.insert("\(name)/\($0)").inserted }
                }
                guard let found else {
                    throw FieldError.invalid(
                        "spec.ports[\(index)].nodePort", 0, "failed to allocate a nodePort: range is full")
                }
                reservation.ports.append("\(name)/\(found)")
                ports[index]["nodePort"] = .int(found)
            }
        }
        service.set(["spec", "ports"], to: .array(ports))
    }

    /// A write that reserved this did not happen.
    func release(_ reservation: Reservation) {
        self.state.withLock { state in
            if let address = reservation.address { state.addresses.remove(address) }
            state.ports.subtract(reservation.ports)
        }
    }

    /// An update went through: what only the old object had is free.
    func replaced(_ old: JSONValue, by new: JSONValue, kind: ResourceKind) {
        guard kind.storage == "services" else { return }
        self.state.withLock { state in
            state.ports.subtract(Set(Self.ports(of: old)).subtracting(Self.ports(of: new)))
            let address = old.at("spec", "clusterIP")?.string
            if address != new.at("spec", "clusterIP")?.string, let number = address.flatMap(IPv4.parse) {
                state.addresses.remove(number)
            }
        }
    }

    func forget(_ service: JSONValue) {
        self.state.withLock { state in
            if let address = service.at("spec", "clusterIP")?.string.flatMap(IPv4.parse) {
                state.addresses.remove(address)
            }
            state.ports.subtract(Self.ports(of: service))
        }
    }
}
