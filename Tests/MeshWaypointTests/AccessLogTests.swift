import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshWaypoint
import Testing

@Suite("A waypoint's access log")
struct AccessLogTests {
    private func line(_ format: AccessLogFormat, _ report: ExchangeReport) async -> String {
        let bench = TelemetryBench(format: format)
        bench.telemetry.finished(report)
        await bench.log.flush()
        return bench.memory.text
    }

    private func line(_ text: String, _ report: ExchangeReport) async throws -> String {
        await self.line(try AccessLogFormat(text: text, environment: ["POD_NAME": "waypoint-1"]), report)
    }

    @Test("is the line of Istio's tutorials when nothing is set")
    func standard() async throws {
        let text = await self.line(.standard, report())
        // Behind the time.
        let rest = try #require(text.split(separator: " ", maxSplits: 1).last)
        #expect(
            rest
                == "\"GET /cart?id=1 HTTP/1.1\" 200 - via_upstream - \"-\" 3 1500 7 5 \"-\" \"curl/8.5.0\" \"8f6f\" \"web\" "
                + "\"10.0.0.2:8080\" inbound-vip|80|http|web.shop.svc.cluster.local - 10.96.0.1:80 10.0.0.1:41000 - "
                + "default\n")
        #expect(text.wholeMatch(of: /\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] .*\n/) != nil)
    }

    @Test("as JSON has Istio's members, numbers as numbers and null for what is missing")
    func json() async throws {
        let text = await self.line(try AccessLogFormat(members: AccessLogFormat.standardMembers), report())
        #expect(text.hasPrefix("{\"authority\":\"web\",\"bytes_received\":3,\"bytes_sent\":1500,"))
        #expect(text.contains("\"connection_termination_details\":null"))
        #expect(
            text.contains("\"response_code\":200,\"response_code_details\":\"via_upstream\",\"response_flags\":\"-\""))
        #expect(text.contains("\"upstream_service_time\":5,"))
        #expect(text.hasSuffix("}\n"))
    }

    @Test(
        "operators say what Envoy's say",
        arguments: [
            ("%REQ(X-NONE?USER-AGENT)%", "curl/8.5.0"), ("%REQ(user-agent):4%", "curl"),
            ("%RESP(CONTENT-TYPE)%", "text/plain"),
            ("%REQ_WITHOUT_QUERY(:PATH)%", "/cart"), ("%REQ(:METHOD)% 100%%", "GET 100%"), ("%RESP(X-NONE)%", "-"),
            ("%REQUEST_DURATION%/%RESPONSE_DURATION%/%RESPONSE_TX_DURATION%", "0/6/1"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1"), ("%UPSTREAM_REMOTE_PORT%", "8080"),
            ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/shop/sa/alice"),
            ("%ENVIRONMENT(POD_NAME)%,%ENVIRONMENT(NONE)%", "waypoint-1,-"), ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1"),
            ("%GRPC_STATUS%", "-"), ("%TRACE_ID%", "-"), ("%RESP(:STATUS)%", "200"),
        ])
    func operators(format: String, text: String) async throws {
        #expect(try await self.line(format, report()) == text + "\n")
    }

    @Test("the status of a gRPC call is a name or a number")
    func grpc() async throws {
        let denied = report {
            $0.isGRPC = true
            $0.grpcStatus = 7
        }
        #expect(
            try await self.line(
                "%GRPC_STATUS% %GRPC_STATUS_NUMBER% %GRPC_STATUS(NUMBER)% %TRAILER(GRPC-STATUS)%", denied)
                == "PermissionDenied 7 7 7\n")
    }

    @Test("the time can be written in strftime's way")
    func time() async throws {
        let text = try await self.line("%START_TIME(%Y/%m/%dT%H:%M:%S.%3f%z %s)%", report())
        #expect(text.wholeMatch(of: /\d{4}\/\d\d\/\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000 \d{10,}\n/) != nil)
    }

    @Test("a response that never came is 0, and says why")
    func left() async throws {
        let left = report {
            $0.response = nil
            $0.flags = [.clientEnd]
            $0.details = "downstream_remote_disconnect"
        }
        #expect(
            try await self.line("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", left)
                == "0 DC downstream_remote_disconnect\n")
    }

    @Test("nothing from outside can begin a line of its own")
    func oneLine() async throws {
        let forged = report { $0.request.path = "/a\nforged\r\u{7f}" }
        #expect(try await self.line("%REQ(:PATH)%", forged) == "/a forged  \n")
    }

    @Test(
        "what is not understood is refused with what is",
        arguments: [
            ("%NONSENSE%", "%NONSENSE% is no operator that this waypoint has; it has BYTES_RECEIVED"),
            ("%REQ%", "%REQ%: wanted a header's name in parentheses"),
            ("%REQ(X", "%REQ: wanted a percent sign at the end"),
            ("100% sure", "% sure: wanted a percent sign"),
            ("%DURATION(5)%", "%DURATION%: wanted nothing in parentheses"),
            ("%START_TIME(%Q)%", "%START_TIME%: wanted %Y"), ("%TRAILER(X)%", "%TRAILER%: wanted GRPC-STATUS"),
            ("%REQ(X):0%", "%REQ%: wanted a length"), ("%ENVIRONMENT%", "%ENVIRONMENT%: wanted a variable"),
        ])
    func refused(format: String, reason: String) {
        let error = #expect(throws: InvalidAccessLogFormat.self) { try AccessLogFormat(text: format) }
        #expect(error.map { "\($0)".hasPrefix(reason) } == true, "\(error.map { "\($0)" } ?? "nothing")")
    }

    @Test("can be switched off")
    func off() async {
        let bench = TelemetryBench()
        bench.telemetry.publish(isAccessLogEnabled: false, spans: nil)
        bench.telemetry.finished(report())
        await bench.log.flush()
        #expect(bench.memory.text.isEmpty)
        #expect(bench.samples("istio_requests_total").count == 1)
    }

    @Test("an opaque stream has a line too, with dashes for what is HTTP's")
    func stream() async throws {
        let bench = TelemetryBench(
            format: try AccessLogFormat(
                text:
                    "%PROTOCOL% %RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %REQ(:PATH)% %UPSTREAM_CLUSTER% "
                    + "%REQUESTED_SERVER_NAME% %ROUTE_NAME%"))
        var stream = StreamReport(id: 1, ends: report().ends, startedNanoseconds: 0)
        stream.serverName = "db.example"
        bench.telemetry.opened(stream)
        bench.telemetry.closed(stream, StreamReport.End(sent: 20, received: 10, durationNanoseconds: 2_000_000))
        await bench.log.flush()
        #expect(
            bench.memory.text == "- 0 10 20 2 - inbound-vip|80|tcp|web.shop.svc.cluster.local db.example default\n")
    }
}
