import MeshModel
import MeshProto
import SwiftProtobuf

extension Workload {
    /// Applies the defaults that the wire leaves out: trust domain, service account, cluster, capacity.
    init(decoding proto: Istio_Workload_Workload) throws(Reason) {
        if proto.uid.isEmpty { throw Reason("a workload without uid") }
        self.init(uid: proto.uid)
        self.name = proto.name
        for bytes in proto.addresses { self.addresses.append(try IPAddress(decoding: bytes)) }
        switch proto.status {
        case .healthy: self.isHealthy = true
        case .unhealthy: self.isHealthy = false
        case .UNRECOGNIZED(let number): throw Reason("unknown workload status \(number)")
        }
        self.common = Common(try CommonFacts(decoding: proto))
        self.site = Site(
            SiteFacts(
                node: proto.node,
                locality: Locality(
                    region: proto.locality.region, zone: proto.locality.zone, subzone: proto.locality.subzone)))
    }

    var proto: Istio_Workload_Workload {
        .with { message in
            message.uid = self.uid
            message.name = self.name
            message.namespace = self.namespace
            message.addresses = self.addresses.map { .init($0.bytes) }
            message.hostname = self.hostname
            message.network = self.network
            message.tunnelProtocol = self.tunnelProtocol == .hbone ? .hbone : .none
            if self.trustDomain != "cluster.local" { message.trustDomain = self.trustDomain }
            message.serviceAccount = self.serviceAccount
            if let waypoint = self.waypoint { message.waypoint = waypoint.proto }
            if let gateway = self.networkGateway { message.networkGateway = gateway.proto }
            message.node = self.node
            message.canonicalName = self.canonicalName
            message.canonicalRevision = self.canonicalRevision
            message.workloadType = .init(rawValue: Int(self.kind.rawValue)) ?? .pod
            message.workloadName = self.workloadName
            message.nativeTunnel = self.isNativeTunnel
            if let tunnel = self.applicationTunnel {
                message.applicationTunnel = .with {
                    $0.protocol = tunnel.handoff == .proxyProtocol ? .proxy : .none
                    $0.port = UInt32(tunnel.port ?? 0)
                }
            }
            for (key, ports) in self.services {
                message.services[key.description] = .with { $0.ports = ports.map(\.proto) }
            }
            message.authorizationPolicies = self.authorizationPolicies.map(\.description)
            message.status = self.isHealthy ? .healthy : .unhealthy
            message.clusterID = self.clusterID
            if self.locality != Locality() {
                message.locality = .with {
                    $0.region = self.locality.region
                    $0.zone = self.locality.zone
                    $0.subzone = self.locality.subzone
                }
            }
            message.networkMode = self.networkMode == .hostNetwork ? .hostNetwork : .standard
            if self.capacity != 1 { message.capacity = Google_Protobuf_UInt32Value(self.capacity) }
        }
    }
}

extension Workload.CommonFacts {
    fileprivate init(decoding proto: Istio_Workload_Workload) throws(Reason) {
        self.init()
        self.namespace = proto.namespace
        self.hostname = proto.hostname
        self.network = proto.network
        switch proto.tunnelProtocol {
        case .none: self.tunnelProtocol = .none
        case .hbone: self.tunnelProtocol = .hbone
        case .legacyIstioMtls: throw Reason("tunnel protocol LEGACY_ISTIO_MTLS is not supported")
        case .UNRECOGNIZED(let number): throw Reason("unknown tunnel protocol \(number)")
        }
        if !proto.trustDomain.isEmpty { self.trustDomain = proto.trustDomain }
        if !proto.serviceAccount.isEmpty { self.serviceAccount = proto.serviceAccount }
        if !proto.clusterID.isEmpty { self.clusterID = proto.clusterID }
        if proto.hasWaypoint { self.waypoint = try GatewayAddress(decoding: proto.waypoint) }
        if proto.hasNetworkGateway { self.networkGateway = try GatewayAddress(decoding: proto.networkGateway) }
        self.canonicalName = proto.canonicalName
        self.canonicalRevision = proto.canonicalRevision
        // Only a label of metrics and logs, so a kind newer than us is no reason to lose the workload.
        self.kind = UInt8(exactly: proto.workloadType.rawValue).flatMap(Workload.Kind.init) ?? .pod
        self.workloadName = proto.workloadName
        self.isNativeTunnel = proto.nativeTunnel
        if proto.hasApplicationTunnel {
            let port = UInt16(truncatingIfNeeded: proto.applicationTunnel.port)
            self.applicationTunnel = ApplicationTunnel(
                handoff: try decodeEnum(proto.applicationTunnel.protocol.rawValue, "application tunnel protocol"),
                port: port == 0 ? nil : port)
        }
        for (text, list) in proto.services {
            guard let key = NamespacedName(text) else {
                throw Reason("service key \"\(text)\" is not <namespace>/<hostname>")
            }
            self.services[key] = list.ports.map(ServicePort.init(decoding:))
        }
        // A key without a slash names no policy there can be; kept, it makes the workload refuse (fail closed).
        self.authorizationPolicies = proto.authorizationPolicies.map {
            NamespacedName($0) ?? NamespacedName(namespace: "", name: $0)
        }
        self.networkMode = try decodeEnum(proto.networkMode.rawValue, "network mode")
        if proto.hasCapacity { self.capacity = proto.capacity.value }
    }
}
