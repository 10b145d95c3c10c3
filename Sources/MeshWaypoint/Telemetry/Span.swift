internal import MeshDirectory
internal import MeshExchange
internal import MeshTelemetry

/// One exchange for a tracing backend: OpenTelemetry's semantic conventions, and beside them the attributes that
/// Istio's proxies have always written, which its dashboards look for.
package struct Span: Sendable {
    enum Value: Sendable {
        case text(String)
        case integer(Int64)
    }
    let trace: TraceContext
    let name: String
    let startNanoseconds, endNanoseconds: UInt64
    let attributes: [(key: String, value: Value)]
    let isError: Bool

    init(
        _ report: borrowing ExchangeReport, _ trace: TraceContext, _ facts: ExchangeFacts, nowMicroseconds: Int64
    ) {
        self.trace = trace
        let end = UInt64(max(nowMicroseconds, 0)) * 1000
        self.endNanoseconds = end
        self.startNanoseconds = end - min(report.durationNanoseconds, end)
        let status = report.response?.status ?? 0
        self.isError = status == 0 || status >= 500
        let host = facts.service?.hostname ?? report.request.authority
        self.name = "\(host):\(report.ends.port)/*"
        let (path, query) = Self.split(report.request.path)
        var attributes: [(key: String, value: Value)] = []
        func add(_ key: String, _ text: String?) { if let text { attributes.append((key, .text(text))) } }
        func add(_ key: String, _ number: some BinaryInteger) {
            attributes.append((key, .integer(Int64(clamping: number))))
        }
        add("component", "proxy")
        add("http.request.method", report.request.method)
        add("url.scheme", report.request.scheme)
        add("url.path", path)
        add("url.query", query)
        add("http.response.status_code", status)
        add("server.address", report.request.authority)
        add("client.address", "\(report.ends.client.address)")
        add("network.peer.address", report.ends.upstream.map { "\($0.address)" })
        if let port = report.ends.upstream?.port { add("network.peer.port", port) }
        add("user_agent.original", report.request.fields["user-agent"])
        if let code = report.grpcStatus { add("rpc.grpc.status_code", code) }
        add("http.url", "\(report.request.scheme)://\(report.request.authority)\(report.request.path)")
        add("http.method", report.request.method)
        add("http.protocol", report.version.text)
        add("http.status_code", status)
        add("guid:x-request-id", report.request.fields["x-request-id"])
        add("request_size", report.requestBytes)
        add("response_size", report.responseBytes)
        add("response_flags", report.flags.text)
        add("peer.address", "\(report.ends.client.address)")
        add("upstream_cluster", AccessLogEntry(report, nowMicroseconds: nowMicroseconds).cluster)
        add("istio.source_workload", facts.source?.workloadName)
        add("istio.source_namespace", facts.source?.namespace ?? report.ends.clientIdentity?.namespace)
        add("istio.destination_workload", facts.destination?.workloadName)
        add("istio.destination_namespace", facts.destination?.namespace)
        self.attributes = attributes
    }

    /// The query without its question mark; nil: none.
    private static func split(_ target: String) -> (path: String, query: String?) {
        guard let mark = target.firstIndex(of: "?") else { return (target, nil) }
        return (String(target[..<mark]), String(target[target.index(after: mark)...]))
    }
}

/// `ExportTraceServiceRequest` in OTLP's JSON encoding (OpenTelemetry protocol, "JSON Protobuf Encoding"): ids are
/// hexadecimal, 64-bit numbers are texts.
struct SpanBatch {
    let spans: [Span]
    /// What the process says about itself: `service.name` and the like.
    let resource: [(key: String, value: String)]
    let version: String

    var json: [UInt8] {
        var json = JSONText()
        json.object { json in
            json.array("resourceSpans") { json in
                json.object { json in
                    json.object("resource") { json in
                        json.array("attributes") { json in
                            for (key, value) in self.resource { Self.write(key, .text(value), &json) }
                        }
                    }
                    json.array("scopeSpans") { json in
                        json.object { json in
                            json.object("scope") { json in
                                json.member("name", "martlet")
                                json.member("version", self.version)
                            }
                            json.array("spans") { json in for span in self.spans { Self.write(span, &json) } }
                        }
                    }
                }
            }
        }
        return json.bytes
    }

    private static func write(_ span: Span, _ json: inout JSONText) {
        json.object { json in
            json.member("traceId", span.trace.traceID)
            json.member("spanId", span.trace.spanID)
            if let parent = span.trace.parentID { json.member("parentSpanId", parent) }
            json.member("name", span.name)
            // SPAN_KIND_SERVER, as Istio's waypoints are.
            json.member("kind", 2)
            json.member("startTimeUnixNano", String(span.startNanoseconds))
            json.member("endTimeUnixNano", String(span.endNanoseconds))
            json.array("attributes") { json in
                for attribute in span.attributes { Self.write(attribute.key, attribute.value, &json) }
            }
            if span.isError { json.object("status") { $0.member("code", 2) } }
        }
    }

    private static func write(_ key: String, _ value: Span.Value, _ json: inout JSONText) {
        json.object { json in
            json.member("key", key)
            json.object("value") { json in
                switch value {
                case .text(let text): json.member("stringValue", text)
                case .integer(let number): json.member("intValue", String(number))
                }
            }
        }
    }
}
