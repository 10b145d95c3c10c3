import MeshChannel
import MeshProcess
import MeshProxy
import MeshTelemetry
import MeshXDS
import Testing

@Suite("The node proxy's configuration")
struct ConfigurationTests {
    private func read(_ environment: [String: String], files: Set<String> = []) throws -> ProxyConfiguration {
        try ProxyConfiguration(environment: environment, cores: 4, fileExists: { files.contains($0) })
    }

    @Test("has the mesh's defaults")
    func defaults() throws {
        let configuration = try self.read([:])
        #expect(configuration.network == "")
        #expect(configuration.nodeName == nil)
        #expect(configuration.clusterID == "Kubernetes")
        #expect(configuration.agentSocket == "/var/run/ztunnel/ztunnel.sock")
        #expect(configuration.mark == 1337)
        #expect(configuration.keepsSource == nil)
        #expect(configuration.keepalive == Keepalive())
        #expect(configuration.xds.host == "localhost")
        #expect(configuration.xds.port == 15012)
        #expect(configuration.xds.roots == .file("./var/run/secrets/istio/root-cert.pem"))
        #expect(configuration.xds.token == .none)
        #expect(configuration.certificateValidity == .seconds(86_400))
        #expect(configuration.streamsPerTunnelMax == 100)
        #expect(configuration.idleTunnelTimeout == .seconds(300))
        #expect(configuration.streamWindowBytes == 4 << 20)
        #expect(configuration.tunnelWindowBytes == 16 << 20)
        #expect(configuration.frameBytesMax == 1 << 20)
        #expect(configuration.drainDeadline == .seconds(5))
        #expect(configuration.logFormat == .plain)
        #expect(configuration.logDirectives.description == "info")
        #expect(configuration.workerThreads == 2)
        #expect(configuration.seriesMax == 20_000)
    }

    @Test("reads what the chart sets")
    func chart() throws {
        let configuration = try self.read(
            [
                "KUBERNETES_SERVICE_HOST": "10.43.0.1", "CLUSTER_ID": "c1", "NETWORK": "net1", "NODE_NAME": "n1",
                "POD_NAME": "ztunnel-x", "POD_NAMESPACE": "istio-system", "INSTANCE_IP": "10.42.0.7",
                "XDS_ROOT_CA": "/etc/root.pem", "AUTH_TOKEN": "/var/token", "ALT_XDS_HOSTNAME": "istiod.example",
                "XDS_HEADER_X-A": "1", "CA_ADDRESS": "https://ca.example:8443", "CA_ROOT_CA": "SYSTEM",
                "RUST_LOG": "debug,xds=warn", "LOG_FORMAT": "json", "SECRET_TTL": "1h30m",
                "TERMINATION_GRACE_PERIOD_SECONDS": "30", "ISTIO_META_X": "y",
                "ISTIO_METAJSON_L": "{\"a\":[1,true,null]}",
                "ENABLE_ORIG_SRC": "true", "KEEPALIVE_ENABLED": "false", "ENABLE_RESPONSE_BAGGAGE": "false",
                "IPV6_ENABLED": "false", "UNRELATED": "x", "XDS_ON_DEMAND": "false", "ZTUNNEL_CPU_LIMIT": "3",
                "MARTLET_METRICS_SERIES_MAX": "500",
            ], files: ["/etc/root.pem", "/var/token"])
        #expect(configuration.seriesMax == 500)
        #expect(configuration.xds.host == "istiod.istio-system.svc")
        #expect(configuration.xds.alternativeHost == "istiod.example")
        #expect(configuration.xds.roots == .file("/etc/root.pem"))
        #expect(configuration.xds.token == .file("/var/token"))
        #expect(configuration.xds.headers == ["x-a": "1"])
        #expect(configuration.xds.clusterID == "c1")
        #expect(configuration.ca.host == "ca.example")
        #expect(configuration.ca.port == 8443)
        #expect(configuration.ca.roots == .system)
        #expect(configuration.ca.headers.isEmpty)
        #expect(configuration.certificateValidity == .seconds(5400))
        #expect(configuration.drainDeadline == .seconds(25))
        #expect(configuration.logDirectives.description == "xds=warn,debug")
        #expect(configuration.logFormat == .json)
        #expect(configuration.metadata["X"] == .string("y"))
        #expect(configuration.metadata["L"] == .object(["a": .list([.number(1), .bool(true), .null])]))
        #expect(configuration.keepsSource == true)
        #expect(configuration.keepalive == nil)
        #expect(!configuration.usesBaggage)
        #expect(!configuration.isIPv6Enabled)
        #expect(configuration.workerThreads == 3)
    }

    @Test("names are served on localhost:15053 unless somebody says otherwise")
    func names() throws {
        let dns = try #require(try self.read([:]).dns)
        #expect(dns.address == nil && dns.port == 15053 && dns.mark == 1337)
        #expect(dns.clusterDomain == "cluster.local" && dns.preferredNamespace == nil)
        let own = try #require(
            try self.read([
                "CLUSTER_DOMAIN": "my.mesh", "PREFERED_SERVICE_NAMESPACE": "shared", "IPV6_ENABLED": "false",
                "ISTIO_META_DNS_PROXY_ADDR": "127.0.0.2:53", "ISTIO_META_DNS_CAPTURE": "true",
            ]).dns)
        #expect(own.address?.description == "127.0.0.2" && own.port == 53 && !own.isIPv6Enabled)
        #expect(own.clusterDomain == "my.mesh" && own.preferredNamespace == "shared")
        #expect(try self.read(["ISTIO_META_DNS_PROXY_ADDR": "localhost:5353"]).dns?.port == 5353)
        for off in ["false", "1", "TRUE", ""] { #expect(try self.read(["ISTIO_META_DNS_CAPTURE": off]).dns == nil) }
    }

    @Test(
        "W17: an address to serve names at that is none stops the start",
        arguments: ["15053", "localhost", "localhost:", "localhost:x", "localhost:0", "nohost:15053", "1.2.3.4:70000"])
    func nameAddress(text: String) {
        #expect {
            try self.read(["ISTIO_META_DNS_PROXY_ADDR": text])
        } throws: { "\($0)".contains("ISTIO_META_DNS_PROXY_ADDR") && "\($0)".contains(text) }
    }

    @Test("destinations are asked for one by one only by who answers no names")
    func onDemand() throws {
        #expect(try !self.read([:]).isOnDemand)
        #expect(try self.read(["XDS_ON_DEMAND": "true", "ISTIO_META_DNS_CAPTURE": "false"]).isOnDemand)
        #expect(throws: InvalidSetting.self) {
            try self.read(["XDS_ON_DEMAND": "true", "ISTIO_META_DNS_CAPTURE": "false", "LOCAL_XDS": "{}"])
        }
        #expect {
            try self.read(["XDS_ON_DEMAND": "true"])
        } throws: { "\($0)".contains("ISTIO_META_DNS_CAPTURE=false") }
    }

    @Test("how long unacknowledged bytes may stay so is keepalive's time, when it is limited at all")
    func userTimeout() throws {
        #expect(try self.read([:]).keepalive?.limitsUnacknowledged == false)
        #expect(try self.read(["USER_TIMEOUT_ENABLED": "true"]).keepalive?.limitsUnacknowledged == true)
        #expect(throws: InvalidSetting.self) {
            try self.read(["USER_TIMEOUT_ENABLED": "true", "KEEPALIVE_ENABLED": "false"])
        }
    }

    @Test("SOCKS5 and post-quantum key exchange are off unless asked for")
    func optional() throws {
        #expect(try !self.read([:]).servesSocks && !self.read([:]).onlyPostQuantum)
        #expect(try self.read(["UNSTABLE_ENABLE_SOCKS5": "true"]).servesSocks)
        #expect(try self.read(["COMPLIANCE_POLICY": "pqc"]).onlyPostQuantum)
    }

    @Test("a dedicated proxy is told its one pod, marks nothing unless asked to, and is not scraped through the mesh")
    func dedicated() throws {
        let own = ["POD_NAME": "z", "POD_NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel"]
        #expect(try self.read(own).ownPod != nil)
        let mode = own.merging(["PROXY_MODE": "dedicated", "PROXY_WORKLOAD_INFO": "ns/web-1/web"]) { $1 }
        let configuration = try self.read(mode)
        let pod = try #require(configuration.onlyPod)
        #expect(pod.namespace == "ns" && pod.name == "web-1" && pod.serviceAccount == "web")
        #expect(configuration.mark == 0 && configuration.dns?.mark == 0 && configuration.ownPod == nil)
        #expect(try self.read(mode.merging(["PACKET_MARK": "7"]) { $1 }).mark == 7)
        for info in ["", "ns/web", "ns//web", "a/b/c/d"] {
            let error = #expect(throws: InvalidSetting.self) {
                try self.read(["PROXY_MODE": "dedicated", "PROXY_WORKLOAD_INFO": info])
            }
            #expect(error?.name == "PROXY_WORKLOAD_INFO")
        }
    }

    @Test("INPOD_PORT_REUSE=false holds for names too")
    func portReuse() throws {
        #expect(try self.read([:]).reusesPorts && self.read([:]).dns?.reusesPort == true)
        let alone = try self.read(["INPOD_PORT_REUSE": "false"])
        #expect(!alone.reusesPorts && alone.dns?.reusesPort == false)
    }

    @Test("ISTIO_META_CLUSTER_ID comes before CLUSTER_ID")
    func cluster() throws {
        #expect(try self.read(["CLUSTER_ID": "a", "ISTIO_META_CLUSTER_ID": "b"]).clusterID == "b")
    }

    @Test(
        "W15, W17: refuses what cannot be used, with the name and what was wanted",
        arguments: [
            ("ENABLE_PROXY", "false"), ("XDS_ADDRESS", ""), ("XDS_ADDRESS", "http://x:1"),
            ("CA_ADDRESS", "https://:15012"), ("XDS_ROOT_CA", "/no/such/file"), ("AUTH_TOKEN", "/no/such/file"),
            ("PACKET_MARK", "0"), ("TRUST_DOMAIN_ALIASES", "a,,b"),
            ("TRUST_DOMAIN_ALIASES", "spiffe://a"), ("IPV6_ENABLED", "maybe"), ("ENABLE_ORIG_SRC", "2"),
            ("KEEPALIVE_TIME", "3"),
            ("KEEPALIVE_RETRIES", "0"), ("SECRET_TTL", "1 day"), ("ZTUNNEL_WORKER_THREADS", "many"),
            ("ZTUNNEL_WORKER_THREADS", "-1"), ("ZTUNNEL_WORKER_THREADS", "x%"), ("ZTUNNEL_CPU_LIMIT", "2Gi"),
            ("POOL_MAX_STREAMS_PER_CONNECTION", "0"), ("HTTP2_FRAME_SIZE", "100"),
            ("CONNECTION_TERMINATION_DEADLINE", "soon"), ("TERMINATION_GRACE_PERIOD_SECONDS", "-5"),
            ("MARTLET_METRICS_SERIES_MAX", "99"), ("MARTLET_METRICS_SERIES_MAX", "many"),
            ("LOG_FORMAT", "xml"), ("RUST_LOG", "loud"), ("ISTIO_METAJSON_X", "{"), ("UNSTABLE_ENABLE_SOCKS5", "often"),
            ("USER_TIMEOUT_ENABLED", "maybe"), ("INPOD_PORT_REUSE", "no"), ("PROXY_WORKLOAD_INFO", "ns/name/sa"),
            ("XDS_ON_DEMAND", "true"), ("TLS12_ENABLED", "true"),
            ("COMPLIANCE_POLICY", "fips-140-2"), ("LOCAL_XDS_PATH", "/x"), ("LOCAL_XDS", "["),
            ("PROXY_MODE", "sidecar"),
        ])
    func refused(name: String, value: String) {
        let error = #expect(throws: InvalidSetting.self) { try self.read([name: value]) }
        #expect(error?.name == name)
        #expect(error?.description.hasPrefix("\(name)=") == true)
        #expect(error?.wanted.isEmpty == false)
    }

    @Test("never shows a token in an error")
    func secret() {
        let error = #expect(throws: InvalidSetting.self) { try self.read(["AUTH_TOKEN": "eyJhbGciOi"]) }
        #expect(error?.description.contains("eyJ") == false)
    }

    @Test(
        "the drain deadline leaves time within the grace period",
        arguments: [("0", 1), ("1", 1), ("2", 1), ("10", 9), ("11", 6), ("30", 25)])
    func grace(grace: String, seconds: Int) throws {
        #expect(
            try self.read(["TERMINATION_GRACE_PERIOD_SECONDS": grace]).drainDeadline == .seconds(seconds))
        #expect(
            try self.read(["TERMINATION_GRACE_PERIOD_SECONDS": grace, "CONNECTION_TERMINATION_DEADLINE": "2m"])
                .drainDeadline == .seconds(120))
    }

    @Test(
        "durations are Go's",
        arguments: [
            ("180s", .seconds(180)), ("5m", .seconds(300)), ("1h30m", .seconds(5400)), ("100ms", .milliseconds(100)),
            ("1.5s", .milliseconds(1500)), ("24h", .seconds(86_400)),
        ] as [(String, Duration)])
    func durations(text: String, duration: Duration) throws {
        #expect(try self.read(["POOL_UNUSED_RELEASE_TIMEOUT": text]).idleTunnelTimeout == duration)
    }

    @Test("W15: worker threads", arguments: [("4", 8, 4), ("50%", 8, 4), ("30%", 16, 5), ("10%", 4, 1), ("0", 6, 6)])
    func workerThreads(setting: String, cores: Int, count: Int) throws {
        #expect(try WorkerThreads.count(setting: setting, cores: cores) == count)
    }

    @Test("W16: automatic worker threads follow the limit, at least the request")
    func automaticThreads() throws {
        #expect(try WorkerThreads.count(setting: nil, cores: 16, limit: 500) == 1)
        #expect(try WorkerThreads.count(setting: nil, cores: 16, limit: 2500) == 3)
        #expect(try WorkerThreads.count(setting: nil, cores: 16, limit: 1500) == 2)
        #expect(try WorkerThreads.count(setting: nil, cores: 16, limit: 4000, request: 8000) == 8)
        #expect(try WorkerThreads.count(setting: nil, cores: 16) == 4)
        #expect(try WorkerThreads.count(setting: nil, cores: 2) == 2)
        #expect(try WorkerThreads.count(setting: nil, cores: 4, request: 3000) == 3)
        #expect(try self.read(["ZTUNNEL_RESOURCE_CPU_LIMIT": "1.5"]).workerThreads == 2)
        #expect(try self.read(["ZTUNNEL_CPU_LIMIT": "2500m"]).workerThreads == 3)
    }
}
