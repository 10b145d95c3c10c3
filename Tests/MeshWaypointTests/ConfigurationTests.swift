import MeshExchange
import MeshIdentity
import MeshProcess
import MeshRoutes
import MeshTelemetry
import MeshWaypoint
import Synchronization
import Testing

@Suite("The settings of a waypoint")
struct ConfigurationTests {
    static let least = ["GATEWAY_NAME": "waypoint", "POD_NAMESPACE": "shop", "SERVICE_ACCOUNT": "waypoint"]

    private func read(_ more: [String: String] = [:]) throws -> WaypointConfiguration {
        try WaypointConfiguration(
            environment: Self.least.merging(more) { $1 }, cores: 4, fileExists: { $0 == "/crl.pem" })
    }

    @Test("need no more than whose waypoint it is")
    func least() throws {
        let configuration = try self.read()
        #expect(configuration.identity.description == "spiffe://cluster.local/ns/shop/sa/waypoint")
        #expect(configuration.hbonePort == 15008)
        #expect(
            [configuration.adminPort, configuration.statsPort, configuration.readinessPort] == [15000, 15020, 15021])
        #expect(configuration.workerThreads == 2)
        #expect(configuration.drainDeadline == .seconds(5) && configuration.farewell == .seconds(1))
    }

    @Test("are taken by the names that the node proxy has")
    func all() throws {
        let configuration = try self.read([
            "TRUST_DOMAIN": "td", "NETWORK": "east", "ISTIO_META_CLUSTER_ID": "c1", "XDS_ADDRESS": "istiod.a.svc:15012",
            "CA_ADDRESS": "https://ca:1", "ZTUNNEL_WORKER_THREADS": "50%", "TERMINATION_GRACE_PERIOD_SECONDS": "30",
            "TRUST_DOMAIN_ALIASES": "old,older", "MARTLET_METRICS_SERIES_MAX": "500", "LOG_FORMAT": "json",
            "KEEPALIVE_ENABLED": "false", "COMPLIANCE_POLICY": "pqc",
        ])
        #expect(configuration.identity.trustDomain == "td")
        #expect(configuration.network == "east")
        #expect(configuration.clusterID == "c1")
        #expect(configuration.xds.host == "istiod.a.svc")
        #expect(configuration.ca.port == 1)
        #expect(configuration.workerThreads == 2)
        #expect(configuration.drainDeadline == .seconds(25) && configuration.farewell == .seconds(3))
        #expect(configuration.trustDomainAliases == ["old", "older"])
        #expect(configuration.seriesMax == 500)
        #expect(configuration.logFormat == .json)
        #expect(configuration.keepalive == nil)
        #expect(configuration.onlyPostQuantum)
    }

    @Test(
        "that cannot be used end the start with what was wanted",
        arguments: [
            (["GATEWAY_NAME": ""], "GATEWAY_NAME=\"\" cannot be used: wanted the name of the Gateway"),
            (["POD_NAMESPACE": "a/b"], "POD_NAMESPACE=\"a/b\" cannot be used"),
            (["SERVICE_ACCOUNT": ""], "SERVICE_ACCOUNT"),
            (["TRUST_DOMAIN": "a/b"], "TRUST_DOMAIN=\"a/b\" cannot be used: wanted a trust domain"),
            (["XDS_ADDRESS": "http://x/y"], "XDS_ADDRESS"),
            (["ZTUNNEL_WORKER_THREADS": "many"], "ZTUNNEL_WORKER_THREADS"),
            (["ACCESS_LOG_ENCODING": "XML"], "ACCESS_LOG_ENCODING=\"XML\" cannot be used: wanted TEXT or JSON"),
            (
                ["ACCESS_LOG_FORMAT": "%WRONG%"],
                "ACCESS_LOG_FORMAT=\"%WRONG%\" cannot be used: wanted a format that is understood: %WRONG% is"
            ),
            (
                ["ACCESS_LOG_FORMAT": "[1]", "ACCESS_LOG_ENCODING": "JSON"],
                "ACCESS_LOG_FORMAT=\"[1]\" cannot be used: wanted a format that is understood: wanted a JSON"
            ),
            (["COMPLIANCE_POLICY": "fips"], "COMPLIANCE_POLICY"), (["HTTP2_FRAME_SIZE": "1"], "HTTP2_FRAME_SIZE"),
            (["AUTH_TOKEN": "/none"], "AUTH_TOKEN"), (["LOG_FORMAT": "xml"], "LOG_FORMAT"),
        ] as [([String: String], String)])
    func refused(environment: [String: String], reason: String) {
        let error = #expect(throws: InvalidSetting.self) { try self.read(environment) }
        #expect(error.map { "\($0)".hasPrefix(reason) } == true, "\(error.map { "\($0)" } ?? "nothing")")
    }

    @Test("give the access log a format of its own")
    func accessLog() async throws {
        let configuration = try self.read([
            "ACCESS_LOG_ENCODING": "JSON",
            "ACCESS_LOG_FORMAT": "{\"b\": \"%RESPONSE_CODE%\", \"a\": \"x %REQ(:METHOD)%\"}",
        ])
        let bench = TelemetryBench(format: try #require(configuration.accessLog))
        bench.telemetry.finished(report())
        await bench.log.flush()
        #expect(bench.memory.text == "{\"a\":\"x GET\",\"b\":200}\n")
    }

    @Test("leave the access log to the control plane when they say nothing about it")
    func accessLogOfTheMesh() async throws {
        let configuration = try self.read(["HOSTNAME": "w-1"])
        #expect(configuration.accessLog == nil)
        let problems = Mutex<[String]>([])
        let formats = AccessLogFormats(own: configuration.accessLog, environment: configuration.environment) {
            problem in
            problems.withLock { $0.append("\(problem)") }
        }
        func line(_ style: AccessLogStyle?) async -> String {
            let bench = TelemetryBench(format: formats.format(style))
            bench.telemetry.finished(report())
            await bench.log.flush()
            return bench.memory.text
        }
        #expect(await line(nil).hasPrefix("[20"), "Istio's line")
        #expect(await line(AccessLogStyle(.text, format: "%HOSTNAME% %RESPONSE_CODE%")) == "w-1 200\n")
        #expect(await line(AccessLogStyle(.json, format: "{\"code\": \"%RESPONSE_CODE%\"}")) == "{\"code\":200}\n")
        #expect(await line(AccessLogStyle(.json)).contains("\"response_code\":200"))
        #expect(problems.withLock { $0 } == [])
        for _ in 0..<3 { #expect(await line(AccessLogStyle(.text, format: "%WRONG%")).hasPrefix("[20")) }
        #expect(problems.withLock { $0.count } == 1, "said once")
    }

    @Test("without arguments and with a Gateway it is the role, else the user's command")
    func meant() {
        #expect(WaypointRole.isMeant([], environment: Self.least))
        #expect(!WaypointRole.isMeant([], environment: [:]))
        #expect(!WaypointRole.isMeant(["list"], environment: Self.least))
    }
}
