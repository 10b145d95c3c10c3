import MeshModel
import MeshProto

extension Service {
    init(decoding proto: Istio_Workload_Service) throws(Reason) {
        if proto.hostname.isEmpty { throw Reason("a service without hostname") }
        self.init(name: proto.name, namespace: proto.namespace, hostname: proto.hostname)
        for entry in proto.addresses {
            let address = try IPAddress(decoding: entry.address)
            // Counted in the family that was sent: an IPv4-mapped address arrives as IPv6 and is kept as IPv4.
            let widthSent = entry.address.count * 8
            let length = entry.hasLength ? Int(entry.length) - (widthSent - address.bitWidth) : address.bitWidth
            guard let cidr = CIDR(base: address, prefixLength: length) else {
                throw Reason("prefix length \(entry.length) is out of range for \(address)")
            }
            if length == address.bitWidth {
                self.addresses.append(NetworkAddress(network: entry.network, address: address))
            } else {
                self.blocks.append(NetworkBlock(network: entry.network, cidr: cidr))
            }
        }
        self.ports = proto.ports.map(ServicePort.init(decoding:))
        self.subjectAltNames = proto.subjectAltNames
        if proto.hasWaypoint { self.waypoint = try GatewayAddress(decoding: proto.waypoint) }
        for weighted in proto.weightedWaypoints {
            self.weightedWaypoints.append(
                WeightedWaypoint(
                    destination: try GatewayAddress(decoding: weighted.destination), weight: weighted.weight))
        }
        for scope in proto.loadBalancing.routingPreference {
            if scope == .unspecifiedScope { throw Reason("load balancing scope UNSPECIFIED_SCOPE") }
            self.loadBalancing.routingPreference.append(try decodeEnum(scope.rawValue, "load balancing scope"))
        }
        self.loadBalancing.mode = try decodeEnum(proto.loadBalancing.mode.rawValue, "load balancing mode")
        self.loadBalancing.healthPolicy = try decodeEnum(
            proto.loadBalancing.healthPolicy.rawValue, "load balancing health policy")
        self.ipFamilies = try decodeEnum(proto.ipFamilies.rawValue, "IP families")
        self.isCanonical = proto.canonical
        self.ingressUsesWaypoint = proto.ingressUseWaypoint
        self.visibility = proto.visibility == .namespace ? .namespace : .everywhere
    }

    var proto: Istio_Workload_Service {
        .with { message in
            message.name = self.name
            message.namespace = self.namespace
            message.hostname = self.hostname
            message.addresses =
                self.addresses.map(\.proto)
                + self.blocks.map { block in
                    .with {
                        $0.network = block.network
                        $0.address = .init(block.cidr.base.bytes)
                        $0.length = UInt32(block.cidr.prefixLength)
                    }
                }
            message.ports = self.ports.map(\.proto)
            message.subjectAltNames = self.subjectAltNames
            if let waypoint = self.waypoint { message.waypoint = waypoint.proto }
            message.weightedWaypoints = self.weightedWaypoints.map { weighted in
                .with {
                    $0.destination = weighted.destination.proto
                    $0.weight = weighted.weight
                }
            }
            if self.loadBalancing != LoadBalancing() {
                message.loadBalancing = .with {
                    $0.routingPreference = self.loadBalancing.routingPreference.map {
                        .init(rawValue: Int($0.rawValue)) ?? .unspecifiedScope
                    }
                    $0.mode = .init(rawValue: Int(self.loadBalancing.mode.rawValue)) ?? .unspecifiedMode
                    $0.healthPolicy = self.loadBalancing.healthPolicy == .allowAll ? .allowAll : .onlyHealthy
                }
            }
            message.ipFamilies = .init(rawValue: Int(self.ipFamilies.rawValue)) ?? .automatic
            message.canonical = self.isCanonical
            message.ingressUseWaypoint = self.ingressUsesWaypoint
            message.visibility = self.visibility == .namespace ? .namespace : .public
        }
    }
}
