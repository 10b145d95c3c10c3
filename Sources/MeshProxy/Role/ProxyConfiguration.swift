internal import Foundation
package import MeshChannel
internal import MeshLinux
package import MeshProcess
package import MeshTelemetry
package import MeshTunnel
package import MeshXDS

/// Every choice of a node proxy. The environment is read here and nowhere else; the names are Istio's.
package struct ProxyConfiguration: Sendable {
    /// `NETWORK`: where this node is; the empty text is the default network.
    package var network = ""
    /// `NODE_NAME`. Nil: workloads of all nodes count as local.
    package var nodeName: String?
    /// `CLUSTER_ID`, or `ISTIO_META_CLUSTER_ID` before it.
    package var clusterID = "Kubernetes"
    /// `POD_NAME`, `POD_NAMESPACE`, `SERVICE_ACCOUNT`, `INSTANCE_IP`: who we are.
    package var podName = ""
    package var podNamespace = ""
    package var serviceAccount = ""
    package var instanceIP = ""
    /// `INPOD_UDS`
    package var agentSocket = "/var/run/ztunnel/ztunnel.sock"
    /// `PROXY_MODE=dedicated` and `PROXY_WORKLOAD_INFO`: the one pod that is served, in our own network namespace; nil:
    /// those that the node agent names.
    package var onlyPod: EnrolledPod?
    /// `PACKET_MARK`: on every socket made for a pod; 0, which a dedicated proxy begins with, sets none.
    package var mark: UInt32 = 1337
    /// `IPV6_ENABLED`
    package var isIPv6Enabled = true
    /// `CLUSTER_DOMAIN`, `PREFERED_SERVICE_NAMESPACE`: what names mean
    package var clusterDomain = "cluster.local"
    package var preferredNamespace: String?
    /// `UNSTABLE_ENABLE_SOCKS5`: applications may ask for their destinations, at ``socksPort`` on loopback.
    package var servesSocks = false
    package static let socksPort: UInt16 = 15080
    /// How pods' name queries are served: `ISTIO_META_DNS_CAPTURE` (on unless it is something else than `true`),
    /// `ISTIO_META_DNS_PROXY_ADDR`. Nil: not at all.
    package var dns: DNSSettings?
    /// Lists the resolvers that are asked for what the mesh does not know.
    package var resolverFile = "/etc/resolv.conf"
    /// `ENABLE_ORIG_SRC`: true must work, false is not tried, nil is tried.
    package var keepsSource: Bool?
    /// `KEEPALIVE_ENABLED`, `_TIME`, `_INTERVAL`, `_RETRIES`
    package var keepalive: Keepalive? = Keepalive()
    /// `XDS_ADDRESS`, `XDS_ROOT_CA`, `ALT_XDS_HOSTNAME`, `XDS_HEADER_*`, `AUTH_TOKEN`
    package var xds: ControlPlaneEndpoint
    /// `CA_ADDRESS`, `CA_ROOT_CA`, `ALT_CA_HOSTNAME`, `CA_HEADER_*`, `AUTH_TOKEN`
    package var ca: ControlPlaneEndpoint
    /// `ISTIO_META_*` and `ISTIO_METAJSON_*`
    package var metadata: [String: MetadataValue] = [:]
    /// `SECRET_TTL`
    package var certificateValidity = Duration.seconds(86_400)
    /// `TRUST_DOMAIN_ALIASES`: as MeshConfig `trustDomainAliases`, which only the installer tells a node proxy.
    package var trustDomainAliases: Set<String> = []
    /// `CRL_PATH`: certificates that are revoked, PEM or DER. Nil: nobody looks.
    package var revocationFile: String?
    /// `ZTUNNEL_WORKER_THREADS`, `ZTUNNEL_CPU_LIMIT` ...
    package var workerThreads = 2
    /// `POOL_MAX_STREAMS_PER_CONNECTION`, `POOL_UNUSED_RELEASE_TIMEOUT`
    package var streamsPerTunnelMax = 100
    package var idleTunnelTimeout = Duration.seconds(300)
    /// `HTTP2_STREAM_WINDOW_SIZE`, `HTTP2_CONNECTION_WINDOW_SIZE`, `HTTP2_FRAME_SIZE`
    package var streamWindowBytes = 4 << 20
    package var tunnelWindowBytes = 16 << 20
    package var frameBytesMax = 1 << 20
    /// `CONNECTION_TERMINATION_DEADLINE`, else from `TERMINATION_GRACE_PERIOD_SECONDS`
    package var drainDeadline = Duration.seconds(5)
    /// `ENABLE_RESPONSE_BAGGAGE`
    package var usesBaggage = true
    /// `LOCALHOST_APP_TUNNEL`: applications that take PROXY protocol headers are dialled at loopback.
    package var localApplicationTunnel = true
    /// `AUTHZ_POLICY_INFO_LOGGING`: what dry-run policies would do is logged at level info, not debug.
    package var logsPolicyAtInfo = false
    /// `COMPLIANCE_POLICY=pqc`: tunnels agree on their keys with X25519MLKEM768 or not at all.
    package var onlyPostQuantum = false
    /// `LOCAL_XDS`, `LOCAL_XDS_PATH`: what is there whatever the control plane says.
    package var localMesh: LocalMesh?
    /// False, by an empty `XDS_ADDRESS`: there is nothing but ``localMesh``.
    package var followsControlPlane = true
    /// `XDS_ON_DEMAND`: workloads and services are asked for one by one, when a connection needs them.
    package var isOnDemand = false
    /// `INPOD_PORT_REUSE`: listeners in pods share their ports with a successor.
    package var reusesPorts = true
    /// `LOG_FORMAT`, `RUST_LOG`
    package var logFormat = LogLine.Format.plain
    package var logDirectives = LogDirectives()
    /// `MARTLET_METRICS_SERIES_MAX`: of those metrics whose labels come from traffic.
    package var seriesMax = SeriesBudget.seriesMaxDefault
    /// Fixed by the mesh's charts.
    package var readinessPort = 15021
    /// `statsPort` and `proxyAdminPort` of the mesh's configuration
    package var statsPort = 15020
    package var adminPort = 15000

    /// - Parameters:
    ///   - cores: processors online.
    ///   - fileExists: for settings that are a path or a text.
    ///   - readText: for files that are settings themselves.
    /// - Throws: ``InvalidSetting`` for the first value that cannot be used, also for features this proxy does not
    ///   have: a mesh whose operator asked for one must not run without.
    package init(
        environment: [String: String], cores: Int = ProcessInfo.processInfo.activeProcessorCount,
        fileExists: (String) -> Bool = { FileManager.default.fileExists(atPath: $0) },
        readText: (String) throws -> String = { try Files.readText($0) }
    ) throws(InvalidSetting) {
        let defaults = try MeshProxyConfig.read(environment, fileExists, readText)
        let reader = EnvironmentReader(variables: defaults.beneath(environment))
        self.adminPort = defaults.proxyAdminPort ?? self.adminPort
        self.statsPort = defaults.statsPort ?? self.statsPort
        try Self.refuseUnsupported(reader)
        self.clusterID = reader.text("ISTIO_META_CLUSTER_ID") ?? reader.text("CLUSTER_ID") ?? "Kubernetes"
        let token = try reader.token(fileExists)
        self.localMesh = try LocalMesh.read(reader, readText)
        self.followsControlPlane = self.localMesh == nil || reader.variables["XDS_ADDRESS"] != ""
        self.xds = try (self.followsControlPlane ? reader : reader.without("XDS_ADDRESS"))
            .endpoint("XDS", token: token, clusterID: self.clusterID, fileExists)
        self.ca = try reader.endpoint("CA", token: token, clusterID: self.clusterID, fileExists)
        self.network = reader.text("NETWORK") ?? ""
        self.nodeName = reader.text("NODE_NAME")
        self.podName = reader.text("POD_NAME") ?? ""
        self.podNamespace = reader.text("POD_NAMESPACE") ?? ""
        self.serviceAccount = reader.text("SERVICE_ACCOUNT") ?? ""
        self.instanceIP = reader.text("INSTANCE_IP") ?? ""
        self.agentSocket = reader.text("INPOD_UDS") ?? self.agentSocket
        self.onlyPod = try Self.onlyPod(reader)
        self.mark =
            try reader.number("PACKET_MARK", in: 1...Int(UInt32.max)).map { UInt32($0) }
            ?? (self.onlyPod == nil ? self.mark : 0)
        self.isIPv6Enabled = try reader.flag("IPV6_ENABLED") ?? true
        self.reusesPorts = try reader.flag("INPOD_PORT_REUSE") ?? true
        self.clusterDomain = reader.text("CLUSTER_DOMAIN") ?? self.clusterDomain
        self.preferredNamespace = reader.text("PREFERED_SERVICE_NAMESPACE")
        self.servesSocks = try reader.flag("UNSTABLE_ENABLE_SOCKS5") ?? false
        self.dns = try self.dns(reader)
        self.keepsSource = try reader.flag("ENABLE_ORIG_SRC")
        self.keepalive = try reader.keepalive()
        self.metadata = try reader.metadata()
        self.certificateValidity = try reader.duration("SECRET_TTL") ?? self.certificateValidity
        self.trustDomainAliases = try reader.trustDomainAliases()
        self.revocationFile = reader.text("CRL_PATH")
        self.workerThreads = try Self.workerThreads(reader, cores: cores)
        self.streamsPerTunnelMax =
            try reader.number("POOL_MAX_STREAMS_PER_CONNECTION", in: 1...65_535) ?? self.streamsPerTunnelMax
        self.idleTunnelTimeout = try reader.duration("POOL_UNUSED_RELEASE_TIMEOUT") ?? self.idleTunnelTimeout
        // RFC 9113, 6.9.1 and 4.2: windows from 65 535 bytes up to 2^31 - 1, frames from 16 KiB to 16 MiB.
        let windows = 65_535...Int(Int32.max)
        self.streamWindowBytes = try reader.number("HTTP2_STREAM_WINDOW_SIZE", in: windows) ?? self.streamWindowBytes
        self.tunnelWindowBytes =
            try reader.number("HTTP2_CONNECTION_WINDOW_SIZE", in: windows) ?? self.tunnelWindowBytes
        self.frameBytesMax =
            try reader.number("HTTP2_FRAME_SIZE", in: 16_384...16_777_215) ?? self.frameBytesMax
        self.drainDeadline = try reader.drainDeadline()
        self.usesBaggage = try reader.flag("ENABLE_RESPONSE_BAGGAGE") ?? true
        self.localApplicationTunnel = try reader.flag("LOCALHOST_APP_TUNNEL") ?? true
        if let policy = reader.text("COMPLIANCE_POLICY") {
            guard policy == "pqc" else { throw InvalidSetting("COMPLIANCE_POLICY", policy, wanted: "pqc, or nothing") }
            self.onlyPostQuantum = true
        }
        self.isOnDemand = try self.onDemand(reader)
        self.logsPolicyAtInfo = try reader.flag("AUTHZ_POLICY_INFO_LOGGING") ?? false
        self.seriesMax =
            try reader.number("MARTLET_METRICS_SERIES_MAX", in: 100...1_000_000) ?? self.seriesMax
        try reader.logging(&self.logFormat, &self.logDirectives)
    }
}
