import Foundation
import KubeAPI
import MeshCLI
import Testing

@Suite("The dump of an Envoy")
struct EnvoyDumpTests {
    private static let dump = #"""
        {"configs": [
          {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": {
            "id": "sidecar~10.42.0.5~sleep.foo~foo.svc.cluster.local", "cluster": "sleep.foo",
            "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}}, "metadata": {"NAME": "sleep"}}}},
          {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "static_clusters": [{"cluster": {"name": "xds-grpc", "type": "STATIC"}}],
            "dynamic_active_clusters": [
              {"cluster": {"name": "outbound|5000||helloworld.bar-2.svc.cluster.local", "type": "EDS"}},
              {"cluster": {"name": "BlackHoleCluster"}}]},
          {"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [
            {"endpoint_config": {"cluster_name": "outbound|5000||helloworld.bar-2.svc.cluster.local", "endpoints": [{"lb_endpoints": [
              {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "connect_originate|spiffe://c/ns/bar-2/sa/waypoint",
                "endpoint_id": "10.43.0.7:5000"}}},
               "metadata": {"filter_metadata": {"envoy.filters.listener.original_dst": {"local": "10.43.0.7:5000", "waypoint": "10.42.3.4:15008"}}}}]}]}},
            {"endpoint_config": {"cluster_name": "outbound|80||plain", "endpoints": [{"lb_endpoints": [
              {"health_status": "UNHEALTHY", "endpoint": {"address": {"socket_address": {"address": "10.42.1.1", "port_value": 8080}}}}]}]}}]},
          {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
            {"name": "0.0.0.0_80", "active_state": {"listener": {"name": "0.0.0.0_80",
              "address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}},
              "filter_chains": [{"filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]},
                "filters": [{"typed_config": {"rds": {"route_config_name": "80"}}}]}],
              "default_filter_chain": {"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]}}}}]},
          {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [
            {"route_config": {"name": "80", "virtual_hosts": [{"name": "a:80", "domains": ["a", "b"], "routes": [
              {"match": {"prefix": "/"}, "route": {"cluster": "outbound|80||a"}}]}]}}]}
        ]}
        """#
    private static let certificates = #"""
        {"certificates": [
          {"cert_chain": [{"serial_number": "0a", "valid_from": "2026-11-26T00:00:00Z", "expiration_time": "2026-11-27T00:00:00Z"}],
           "ca_cert": [{"serial_number": "01", "valid_from": "2026-01-01T00:00:00Z", "expiration_time": "2036-01-01T00:00:00Z"}]},
          {"cert_chain": [{"serial_number": "0a", "valid_from": "2026-11-26T00:00:00Z", "expiration_time": "2026-11-27T00:00:00Z"}]}]}
        """#

    private func read() throws -> EnvoyDump {
        try #require(EnvoyDump(Array(Self.dump.utf8), certificates: Array(Self.certificates.utf8)))
    }

    @Test("is known by its member, and nothing else is")
    func kinds() {
        #expect(EnvoyDump(Array(#"{"waypoint":{}}"#.utf8)) == nil)
        #expect(EnvoyDump(Array("no JSON".utf8)) == nil)
    }

    @Test("endpoints in tunnels say whom the tunnel leads to, and the JSON has what Envoy has")
    func endpoints() throws {
        let view = try self.read().endpoints(ProxyConfigFilter())
        #expect(
            view.table.lines[1...].map { $0.split(separator: " ").joined(separator: " ") } == [
                "envoy://connect_originate|spiffe://c/ns/bar-2/sa/waypoint/10.43.0.7:5000 through 10.42.3.4:15008 HEALTHY OK "
                    + "outbound|5000||helloworld.bar-2.svc.cluster.local",
                "10.42.1.1:8080 UNHEALTHY OK outbound|80||plain",
            ])
        #expect(view.items[0].at("endpoint", "endpoint", "address", "envoy_internal_address") != nil)
        var filter = ProxyConfigFilter()
        filter.cluster = "outbound|80||plain"
        #expect(try self.read().endpoints(filter).items.count == 1)
    }

    @Test("clusters, listeners, routes and the bootstrap are shown in istioctl's columns")
    func tables() throws {
        let dump = try self.read()
        func lines(_ view: ProxyConfigView) -> [String] {
            view.table.lines.map { $0.split(separator: " ").joined(separator: " ") }
        }
        #expect(
            lines(dump.clusters(ProxyConfigFilter())) == [
                "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE", "BlackHoleCluster - - - STATIC -",
                "helloworld.bar-2.svc.cluster.local 5000 - outbound EDS -", "xds-grpc - - - STATIC -",
            ])
        #expect(
            lines(dump.listeners(ProxyConfigFilter())) == [
                "ADDRESSES PORT MATCH DESTINATION", "0.0.0.0 80 Trans: raw_buffer; App: http/1.1,h2c Route: 80",
                "0.0.0.0 80 ALL Cluster: PassthroughCluster",
            ])
        #expect(
            lines(dump.routes(ProxyConfigFilter()))[1] == "80 a:80 a + 1 more /* - outbound|80||a")
        #expect(lines(dump.bootstrap).contains("version envoy 1.40.0"))
    }

    @Test("a certificate is shown once, however many connections use it")
    func secrets() throws {
        let now = try #require(ISO8601DateFormatter().date(from: "2026-11-26T12:00:00Z"))
        let view = try self.read().secrets(now: now)
        #expect(view.table.lines.count == 3)
        #expect(view.table.lines[1].contains("true") && view.table.lines[1].contains("0a"))
    }

    @Test("levels are said in Envoy's words")
    func levels() throws {
        #expect(LogLevels.envoyQuery("warn", reset: false) == "?level=warning")
        #expect(LogLevels.envoyQuery("http=debug,rbac=warn", reset: false) == "?paths=http:debug,rbac:warning")
        #expect(LogLevels.envoyQuery(nil, reset: true) == "?level=warning")
        #expect(LogLevels.envoyQuery(nil, reset: false).isEmpty)
    }
}
