internal import Foundation
package import MeshChannel
internal import MeshModel
package import MeshTelemetry
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
    /// `PACKET_MARK`: on every socket made for a pod.
    package var mark: UInt32 = 1337
    /// `IPV6_ENABLED`
    package var isIPv6Enabled = true
    /// How pods' name queries are served: `ISTIO_META_DNS_CAPTURE` (on unless it is something else than `true`),
    /// `ISTIO_META_DNS_PROXY_ADDR`, `CLUSTER_DOMAIN`, `PREFERED_SERVICE_NAMESPACE`. Nil: not at all.
    package var dns: DNSSettings?
    /// Lists the resolvers that are asked for what the mesh does not know.
    package var resolverFile = "/etc/resolv.conf"
    /// `ENABLE_ORIG_SRC`: true must work, false is not tried, nil is tried.
    package var keepsSource: Bool?
    /// `KEEPALIVE_ENABLED`, `_TIME`, `_INTERVAL`, `_RETRIES`
    package var keepalive: Keepalive? = Keepalive()
    package struct Keepalive: Hashable, Sendable {
        package var time = Duration.seconds(180)
        package var interval = Duration.seconds(180)
        package var retries = 9
        package init() {}
    }
    /// `XDS_ADDRESS`, `XDS_ROOT_CA`, `ALT_XDS_HOSTNAME`, `XDS_HEADER_*`, `AUTH_TOKEN`
    package var xds: ControlPlaneEndpoint
    /// `CA_ADDRESS`, `CA_ROOT_CA`, `ALT_CA_HOSTNAME`, `CA_HEADER_*`, `AUTH_TOKEN`
    package var ca: ControlPlaneEndpoint
    /// `ISTIO_META_*` and `ISTIO_METAJSON_*`
    package var metadata: [String: MetadataValue] = [:]
    /// `SECRET_TTL`
    package var certificateValidity = Duration.seconds(86_400)
    /// `TRUST_DOMAIN_ALIASES`: as MeshConfig `trustDomainAliases`, which nothing tells a node proxy.
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
    /// `LOG_FORMAT`, `RUST_LOG`
    package var logFormat = LogLine.Format.plain
    package var logDirectives = LogDirectives()
    /// Fixed by the mesh's charts.
    package var readinessPort = 15021
    package var statsPort = 15020
    package var adminPort = 15000

    static let rootFile = "./var/run/secrets/istio/root-cert.pem"
    static let tokenFile = "./var/run/secrets/tokens/istio-token"

    /// - Parameters:
    ///   - cores: processors online.
    ///   - fileExists: for settings that are a path or a text.
    /// - Throws: ``InvalidSetting`` for the first value that cannot be used, also for features this proxy does not
    ///   have: a mesh whose operator asked for one must not run without.
    package init(
        environment: [String: String], cores: Int = ProcessInfo.processInfo.activeProcessorCount,
        fileExists: (String) -> Bool = { FileManager.default.fileExists(atPath: $0) }
    ) throws(InvalidSetting) {
        let reader = EnvironmentReader(variables: environment)
        try Self.refuseUnsupported(reader)
        self.clusterID = reader.text("ISTIO_META_CLUSTER_ID") ?? reader.text("CLUSTER_ID") ?? "Kubernetes"
        let token = try Self.token(reader, fileExists)
        self.xds = try Self.endpoint("XDS", reader, token, self.clusterID, fileExists)
        self.ca = try Self.endpoint("CA", reader, token, self.clusterID, fileExists)
        self.network = reader.text("NETWORK") ?? ""
        self.nodeName = reader.text("NODE_NAME")
        self.podName = reader.text("POD_NAME") ?? ""
        self.podNamespace = reader.text("POD_NAMESPACE") ?? ""
        self.serviceAccount = reader.text("SERVICE_ACCOUNT") ?? ""
        self.instanceIP = reader.text("INSTANCE_IP") ?? ""
        self.agentSocket = reader.text("INPOD_UDS") ?? self.agentSocket
        self.mark = try reader.number("PACKET_MARK", in: 1...Int(UInt32.max)).map { UInt32($0) } ?? self.mark
        self.isIPv6Enabled = try reader.flag("IPV6_ENABLED") ?? true
        self.dns = try Self.dns(reader, mark: self.mark, isIPv6Enabled: self.isIPv6Enabled, network: self.network)
        self.keepsSource = try reader.flag("ENABLE_ORIG_SRC")
        if try reader.flag("KEEPALIVE_ENABLED") ?? true {
            var keepalive = Keepalive()
            keepalive.time = try reader.duration("KEEPALIVE_TIME") ?? keepalive.time
            keepalive.interval = try reader.duration("KEEPALIVE_INTERVAL") ?? keepalive.interval
            keepalive.retries = try reader.number("KEEPALIVE_RETRIES", in: 1...127) ?? keepalive.retries
            self.keepalive = keepalive
        } else {
            self.keepalive = nil
        }
        self.metadata = try Self.metadata(reader)
        self.certificateValidity = try reader.duration("SECRET_TTL") ?? self.certificateValidity
        self.trustDomainAliases = try Self.trustDomainAliases(reader)
        self.revocationFile = reader.text("CRL_PATH")
        let limits = [
            try reader.processors("ZTUNNEL_RESOURCE_CPU_LIMIT"), try reader.processors("ZTUNNEL_CPU_LIMIT"),
        ]
        self.workerThreads = try WorkerThreads.count(
            setting: reader.text("ZTUNNEL_WORKER_THREADS"), cores: cores,
            limit: limits[0] ?? limits[1], request: try reader.processors("ZTUNNEL_RESOURCE_CPU_REQUEST"))
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
        self.drainDeadline = try Self.drainDeadline(reader)
        self.usesBaggage = try reader.flag("ENABLE_RESPONSE_BAGGAGE") ?? true
        self.localApplicationTunnel = try reader.flag("LOCALHOST_APP_TUNNEL") ?? true
        self.logsPolicyAtInfo = try reader.flag("AUTHZ_POLICY_INFO_LOGGING") ?? false
        if let format = reader.text("LOG_FORMAT") {
            guard let known = LogLine.Format(rawValue: format) else {
                throw InvalidSetting("LOG_FORMAT", format, wanted: "plain or json")
            }
            self.logFormat = known
        }
        if let levels = reader.text("RUST_LOG") {
            do throws(InvalidLogDirective) {
                try self.logDirectives.merge(levels)
            } catch {
                throw InvalidSetting("RUST_LOG", levels, wanted: "\(error)")
            }
        }
    }

    // MARK: Single settings

    private static func refuseUnsupported(_ reader: EnvironmentReader) throws(InvalidSetting) {
        if let mode = reader.text("PROXY_MODE"), mode != "shared" {
            throw InvalidSetting("PROXY_MODE", mode, wanted: "shared: one node proxy for all pods of its node")
        }
        if try reader.flag("ENABLE_PROXY") == false {
            throw InvalidSetting("ENABLE_PROXY", "false", wanted: "true: without its proxy the process does nothing")
        }
        for name in ["UNSTABLE_ENABLE_SOCKS5", "XDS_ON_DEMAND", "TLS12_ENABLED", "USER_TIMEOUT_ENABLED"]
        where try reader.flag(name) == true {
            throw InvalidSetting(name, "true", wanted: "false: this node proxy does not have the feature")
        }
        if try reader.flag("INPOD_PORT_REUSE") == false {
            throw InvalidSetting("INPOD_PORT_REUSE", "false", wanted: "true: a successor could not bind its ports")
        }
        for name in ["COMPLIANCE_POLICY", "LOCAL_XDS", "LOCAL_XDS_PATH", "PROXY_WORKLOAD_INFO"] {
            if let value = reader.text(name) {
                throw InvalidSetting(name, value, wanted: "nothing: this node proxy does not have the feature")
            }
        }
        if let value = reader.text("PROXY_CONFIG") {
            throw InvalidSetting("PROXY_CONFIG", value, wanted: "nothing: set the environment variables themselves")
        }
    }

    private static func endpoint(
        _ kind: String, _ reader: EnvironmentReader, _ token: ControlPlaneEndpoint.Token, _ clusterID: String,
        _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint {
        let isInCluster = reader.text("KUBERNETES_SERVICE_HOST") != nil
        let address =
            reader.variables["\(kind)_ADDRESS"]
            ?? (isInCluster ? "https://istiod.istio-system.svc:15012" : "https://localhost:15012")
        var headers: [String: String] = [:]
        for (name, value) in reader.all(prefix: "\(kind)_HEADER_") { headers[name.lowercased()] = value }
        let endpoint = ControlPlaneEndpoint(
            address: address, alternativeHost: reader.text("ALT_\(kind)_HOSTNAME"),
            roots: try Self.roots("\(kind)_ROOT_CA", reader, fileExists), token: token, clusterID: clusterID,
            headers: headers)
        guard let endpoint else {
            throw InvalidSetting(
                "\(kind)_ADDRESS", address,
                wanted: "the control plane as https://host:port, e.g. "
                    + "https://istiod.istio-system.svc:15012")
        }
        return endpoint
    }

    private static func roots(
        _ name: String, _ reader: EnvironmentReader, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Roots {
        guard let value = reader.text(name) else { return .file(Self.rootFile) }
        if value == "SYSTEM" { return .system }
        if value.contains("-----BEGIN CERTIFICATE-----") { return .pem(value) }
        guard fileExists(value) else {
            throw InvalidSetting(name, value, wanted: "the path of a file that exists, SYSTEM, or certificates as PEM")
        }
        return .file(value)
    }

    private static func trustDomainAliases(_ reader: EnvironmentReader) throws(InvalidSetting) -> Set<String> {
        guard let text = reader.text("TRUST_DOMAIN_ALIASES") else { return [] }
        let names = text.split(separator: ",", omittingEmptySubsequences: false).map { $0.filter { $0 != " " } }
        guard names.allSatisfy({ !$0.isEmpty && !$0.contains("/") && !$0.contains("*") }) else {
            throw InvalidSetting(
                "TRUST_DOMAIN_ALIASES", text, wanted: "trust domains with commas between them: a.example,b")
        }
        return Set(names)
    }

    private static func token(
        _ reader: EnvironmentReader, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Token {
        guard let value = reader.text("AUTH_TOKEN") else {
            return fileExists(Self.tokenFile) ? .file(Self.tokenFile) : .none
        }
        guard fileExists(value) else {
            // Not the value itself: it may be a token, and this goes into a log.
            throw InvalidSetting("AUTH_TOKEN", "...", wanted: "the path of a token file that exists")
        }
        return .file(value)
    }

    private static func dns(
        _ reader: EnvironmentReader, mark: UInt32, isIPv6Enabled: Bool, network: String
    ) throws(InvalidSetting) -> DNSSettings? {
        var dns = DNSSettings()
        dns.mark = mark
        dns.isIPv6Enabled = isIPv6Enabled
        dns.network = network
        dns.clusterDomain = reader.text("CLUSTER_DOMAIN") ?? dns.clusterDomain
        dns.preferredNamespace = reader.text("PREFERED_SERVICE_NAMESPACE")
        if let text = reader.text("ISTIO_META_DNS_PROXY_ADDR") {
            let wanted = text.hasPrefix("localhost:") ? "127.0.0.1" + text.dropFirst("localhost".count) : text
            guard let listen = IPEndpoint(wanted), listen.port != 0 else {
                throw InvalidSetting(
                    "ISTIO_META_DNS_PROXY_ADDR", text, wanted: "localhost or an address, and a port: localhost:15053")
            }
            dns.port = listen.port
            dns.address = wanted == text ? listen.address : nil
        }
        // Read also when it is off: a setting that is wrong is wrong.
        guard reader.variables["ISTIO_META_DNS_CAPTURE"] ?? "true" == "true" else { return nil }
        return dns
    }

    private static func metadata(_ reader: EnvironmentReader) throws(InvalidSetting) -> [String: MetadataValue] {
        var metadata = reader.all(prefix: "ISTIO_META_").mapValues { MetadataValue.string($0) }
        for (name, text) in reader.all(prefix: "ISTIO_METAJSON_") {
            guard let value = try? JSONDecoder().decode(DecodedJSON.self, from: Data(text.utf8)) else {
                throw InvalidSetting("ISTIO_METAJSON_\(name)", text, wanted: "JSON")
            }
            metadata[name] = value.value
        }
        return metadata
    }

    private static func drainDeadline(_ reader: EnvironmentReader) throws(InvalidSetting) -> Duration {
        if let deadline = try reader.duration("CONNECTION_TERMINATION_DEADLINE") { return deadline }
        guard let grace = try reader.number("TERMINATION_GRACE_PERIOD_SECONDS", in: 0...86_400) else {
            return .seconds(5)
        }
        // What the kubelet waits, less the time to end in order.
        return .seconds(max(grace > 10 ? grace - 5 : grace - 1, 1))
    }
}
