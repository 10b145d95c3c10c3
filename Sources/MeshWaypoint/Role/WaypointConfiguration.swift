internal import Foundation
package import MeshChannel
package import MeshIdentity
internal import MeshLoop
internal import MeshModel
package import MeshProcess
internal import MeshRoutes
package import MeshTelemetry
package import MeshTunnel
package import MeshXDS

/// Every choice of a waypoint. The environment is read here and nowhere else; names that the node proxy has too mean the
/// same. docs/waypoint-settings.md lists them.
package struct WaypointConfiguration: Sendable {
    /// `GATEWAY_NAME`, `POD_NAMESPACE`: whose waypoint we are.
    package var gatewayName: String
    package var podNamespace: String
    /// `SERVICE_ACCOUNT`, `TRUST_DOMAIN`: what we prove to be, with `POD_NAMESPACE`.
    package var serviceAccount: String
    package var trustDomain = "cluster.local"
    package var podName = ""
    package var instanceIP = ""
    package var nodeName = ""
    /// `ISTIO_META_CLUSTER_ID`, or `CLUSTER_ID`.
    package var clusterID = "Kubernetes"
    package var network = ""
    package var clusterDomain = "cluster.local"
    package var isIPv6Enabled = true
    package var keepalive: Keepalive? = Keepalive()
    package var xds: ControlPlaneEndpoint
    package var ca: ControlPlaneEndpoint
    package var metadata: [String: MetadataValue] = [:]
    package var certificateValidity = Duration.seconds(86_400)
    package var trustDomainAliases: Set<String> = []
    package var revocationFile: String?
    package var workerThreads = 2
    package var streamsPerTunnelMax = 100
    package var idleTunnelTimeout = Duration.seconds(300)
    package var streamWindowBytes = 4 << 20
    package var tunnelWindowBytes = 16 << 20
    package var frameBytesMax = 1 << 20
    package var drainDeadline = Duration.seconds(5)
    /// Of ``drainDeadline`` the first part: connections are still taken. Who ends us tells the mesh at the same time, and
    /// until the last node proxy has heard of it, some clients come here, for whom there may be nobody else.
    package var farewell: Duration { min(.seconds(3), self.drainDeadline / 5) }
    package var onlyPostQuantum = false
    package var logFormat = LogLine.Format.plain
    package var logDirectives = LogDirectives()
    /// Nil: as the control plane says.
    package var accessLog: AccessLogFormat?
    /// For `%ENVIRONMENT(X)%` of formats that come later.
    package var environment: [String: String]
    package var seriesMax = Self.seriesMaxDefault
    /// `INBOUND_PORT`, and what the mesh's charts have fixed.
    package var hbonePort: UInt16 = 15008
    package var readinessPort = 15021
    package var statsPort = 15020
    package var adminPort = 15000

    /// An exchange has three histograms of 22 lines each beside its counters: these are some 1 400 combinations.
    package static let seriesMaxDefault = 100_000

    /// - Parameters:
    ///   - cores: processors online.
    ///   - fileExists: for settings that are a path or a text.
    /// - Throws: ``InvalidSetting`` for the first value that cannot be used.
    package init(
        environment: [String: String], cores: Int = ProcessInfo.processInfo.activeProcessorCount,
        fileExists: (String) -> Bool = { FileManager.default.fileExists(atPath: $0) }
    ) throws(InvalidSetting) {
        let reader = EnvironmentReader(variables: environment)
        self.environment = environment
        self.gatewayName = try Self.required(
            "GATEWAY_NAME", "the name of the Gateway that this waypoint is for", reader)
        self.podNamespace = try Self.required("POD_NAMESPACE", "the namespace of our pod and of its Gateway", reader)
        self.serviceAccount = try Self.required("SERVICE_ACCOUNT", "the service account of our pod", reader)
        self.clusterID = reader.text("ISTIO_META_CLUSTER_ID") ?? reader.text("CLUSTER_ID") ?? self.clusterID
        let token = try reader.token(fileExists)
        self.xds = try reader.endpoint("XDS", token: token, clusterID: self.clusterID, fileExists)
        self.ca = try reader.endpoint("CA", token: token, clusterID: self.clusterID, fileExists)
        self.trustDomain = try Self.trustDomain(reader) ?? self.trustDomain
        self.podName = reader.text("POD_NAME") ?? ""
        self.instanceIP = reader.text("INSTANCE_IP") ?? ""
        self.nodeName = reader.text("NODE_NAME") ?? ""
        self.network = reader.text("NETWORK") ?? ""
        self.clusterDomain = reader.text("CLUSTER_DOMAIN") ?? self.clusterDomain
        self.isIPv6Enabled = try reader.flag("IPV6_ENABLED") ?? true
        self.keepalive = try reader.keepalive()
        self.metadata = try reader.metadata()
        self.certificateValidity = try reader.duration("SECRET_TTL") ?? self.certificateValidity
        self.trustDomainAliases = try reader.trustDomainAliases()
        self.revocationFile = reader.text("CRL_PATH")
        self.workerThreads = try WorkerThreads.count(
            setting: reader.text("ZTUNNEL_WORKER_THREADS"), cores: cores,
            limit: try reader.processors("ZTUNNEL_CPU_LIMIT"))
        self.streamsPerTunnelMax =
            try reader.number("POOL_MAX_STREAMS_PER_CONNECTION", in: 1...65_535) ?? self.streamsPerTunnelMax
        self.idleTunnelTimeout = try reader.duration("POOL_UNUSED_RELEASE_TIMEOUT") ?? self.idleTunnelTimeout
        // RFC 9113, 6.9.1 and 4.2: windows from 65 535 bytes up to 2^31 - 1, frames from 16 KiB to 16 MiB.
        let windows = 65_535...Int(Int32.max)
        self.streamWindowBytes = try reader.number("HTTP2_STREAM_WINDOW_SIZE", in: windows) ?? self.streamWindowBytes
        self.tunnelWindowBytes =
            try reader.number("HTTP2_CONNECTION_WINDOW_SIZE", in: windows) ?? self.tunnelWindowBytes
        self.frameBytesMax = try reader.number("HTTP2_FRAME_SIZE", in: 16_384...16_777_215) ?? self.frameBytesMax
        self.drainDeadline = try reader.drainDeadline()
        if let policy = reader.text("COMPLIANCE_POLICY") {
            guard policy == "pqc" else { throw InvalidSetting("COMPLIANCE_POLICY", policy, wanted: "pqc, or nothing") }
            self.onlyPostQuantum = true
        }
        self.seriesMax = try reader.number("MARTLET_METRICS_SERIES_MAX", in: 100...1_000_000) ?? self.seriesMax
        try reader.logging(&self.logFormat, &self.logDirectives)
        self.accessLog = try Self.accessLog(reader)
    }

    private static func required(
        _ name: String, _ wanted: String, _ reader: EnvironmentReader
    ) throws(InvalidSetting) -> String {
        guard let text = reader.text(name) else { throw InvalidSetting(name, "", wanted: wanted) }
        guard !text.contains("/"), !text.contains(" ") else { throw InvalidSetting(name, text, wanted: wanted) }
        return text
    }

    private static func trustDomain(_ reader: EnvironmentReader) throws(InvalidSetting) -> String? {
        guard let text = reader.text("TRUST_DOMAIN") else { return nil }
        guard let identity = try? WorkloadIdentity(spiffe: "spiffe://\(text)/ns/a/sa/b"), identity.trustDomain == text
        else { throw InvalidSetting("TRUST_DOMAIN", text, wanted: "a trust domain such as cluster.local") }
        return text
    }

    /// `ACCESS_LOG_ENCODING` and `ACCESS_LOG_FORMAT`, as MeshConfig `accessLogEncoding` and `accessLogFormat`, for this
    /// waypoint alone. Nil: neither is set.
    static func accessLog(_ reader: EnvironmentReader) throws(InvalidSetting) -> AccessLogFormat? {
        let format = reader.text("ACCESS_LOG_FORMAT")
        let style: AccessLogStyle
        switch reader.text("ACCESS_LOG_ENCODING") {
        case nil:
            guard format != nil else { return nil }
            style = AccessLogStyle(.text, format: format)
        case "TEXT": style = AccessLogStyle(.text, format: format)
        case "JSON": style = AccessLogStyle(.json, format: format)
        case let other?: throw InvalidSetting("ACCESS_LOG_ENCODING", other, wanted: "TEXT or JSON")
        }
        do throws(InvalidAccessLogFormat) {
            return try AccessLogFormat(style, environment: reader.variables)
        } catch {
            throw InvalidSetting("ACCESS_LOG_FORMAT", format ?? "", wanted: "a format that is understood: \(error)")
        }
    }
}

// What is made of them.

extension WaypointConfiguration {
    package var identity: WorkloadIdentity {
        WorkloadIdentity(
            trustDomain: self.trustDomain, namespace: self.podNamespace, serviceAccount: self.serviceAccount)
    }

    /// Our own pod, which takes the tunnels.
    package var pod: EnrolledPod {
        EnrolledPod(
            uid: "self:\(self.podNamespace)/\(self.podName)", name: self.podName, namespace: self.podNamespace,
            serviceAccount: self.serviceAccount)
    }

    var settings: WaypointSettings {
        var settings = WaypointSettings(
            identity: self.identity, gateway: NamespacedName(namespace: self.podNamespace, name: self.gatewayName))
        settings.network = self.network
        settings.clusterDomain = self.clusterDomain
        settings.workload = "\(self.clusterID)//Pod/\(self.podNamespace)/\(self.podName)"
        return settings
    }

    var tunnel: TunnelConfiguration {
        var tunnel = TunnelConfiguration()
        tunnel.isIPv6Enabled = self.isIPv6Enabled
        tunnel.ports.inboundTunnel = self.hbonePort
        // In the pod's own namespace, without rights: nothing is captured, marked or spoofed.
        tunnel.mark = 0
        tunnel.sourceSpoofing = .off
        tunnel.keepalive = self.keepalive?.socketOption
        tunnel.onlyPostQuantum = self.onlyPostQuantum
        tunnel.loops = self.workerThreads
        tunnel.trustDomainAliases = self.trustDomainAliases
        tunnel.streamsPerTunnelMax = self.streamsPerTunnelMax
        tunnel.idleTunnelTimeout = self.idleTunnelTimeout
        tunnel.streamWindowBytes = self.streamWindowBytes
        tunnel.tunnelWindowBytes = self.tunnelWindowBytes
        tunnel.frameBytesMax = self.frameBytesMax
        return tunnel
    }

    var xdsClient: XDSClientConfiguration {
        var metadata = self.metadata
        metadata["NAME"] = .string(self.podName)
        metadata["NAMESPACE"] = .string(self.podNamespace)
        metadata["INSTANCE_IPS"] = .string(self.instanceIP)
        metadata["NODE_NAME"] = .string(self.nodeName)
        metadata["CLUSTER_ID"] = .string(self.clusterID)
        metadata["GATEWAY_NAME"] = .string(self.gatewayName)
        return XDSClientConfiguration(
            endpoint: self.xds,
            nodeID: XDSClientConfiguration.waypointID(
                instanceIP: self.instanceIP, podName: self.podName, podNamespace: self.podNamespace),
            metadata: metadata)
    }

    /// What spans say about the process that made them: `service.name` as Istio's waypoints have it.
    var spanResource: [(key: String, value: String)] {
        [
            ("service.name", "\(self.gatewayName).\(self.podNamespace)"), ("k8s.pod.name", self.podName),
            ("k8s.namespace.name", self.podNamespace), ("k8s.node.name", self.nodeName),
            ("k8s.cluster.name", self.clusterID),
        ].filter { !$0.1.isEmpty }
    }

    /// For dumps: without tokens, without anything secret.
    func write(_ json: inout JSONText) {
        json.member("gateway", "\(self.podNamespace)/\(self.gatewayName)")
        json.member("identity", self.identity.description)
        json.member("pod", "\(self.podNamespace)/\(self.podName)")
        json.member("node", self.nodeName)
        json.member("network", self.network)
        json.member("clusterId", self.clusterID)
        json.member("clusterDomain", self.clusterDomain)
        json.member("xdsAddress", "https://\(self.xds.host):\(self.xds.port)")
        json.member("caAddress", "https://\(self.ca.host):\(self.ca.port)")
        json.member("ipv6Enabled", self.isIPv6Enabled)
        json.member("numWorkerThreads", self.workerThreads)
        json.member("secretTtlSeconds", self.certificateValidity.components.seconds)
        json.member("trustDomainAliases", self.trustDomainAliases.sorted())
        json.member("selfTerminationDeadlineSeconds", self.drainDeadline.components.seconds)
        json.member("metricsSeriesMax", self.seriesMax)
        json.member("hbonePort", self.hbonePort)
        json.member("adminPort", self.adminPort)
        json.member("statsPort", self.statsPort)
        json.member("readinessPort", self.readinessPort)
    }
}
