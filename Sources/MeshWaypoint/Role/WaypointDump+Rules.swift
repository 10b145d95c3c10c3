internal import MeshRoutes
internal import MeshTelemetry

// Rules in few words: the whole of them is in the cluster's objects, which are named.

extension WaypointDump {
    static func write(_ gate: TrafficGate, _ json: inout JSONText) {
        json.object("policies") { json in
            json.member("requestAuthentications", gate.tokens.map(\.key.description))
            json.array("authorizationPolicies") { json in
                for policy in gate.policies {
                    json.object { json in
                        json.member("name", policy.key.description)
                        json.member("action", "\(policy.action)".uppercased())
                        json.member("rules", policy.rules.count)
                        json.member("dryRun", policy.isDryRun)
                    }
                }
            }
            json.array("rateLimits") { json in
                for limit in gate.rateLimits {
                    json.object { json in
                        json.member("name", limit.key.description)
                        json.member("requests", limit.requests)
                        json.member("interval", "\(limit.interval)")
                        json.member("burst", limit.burst)
                    }
                }
            }
            if let reason = gate.closedBecause {
                json.member("closedBecause", reason)
            } else {
                json.null("closedBecause")
            }
        }
    }

    static func write(_ rule: HTTPRule, _ json: inout JSONText) {
        if let name = rule.name { json.member("name", name) } else { json.null("name") }
        json.array("matches") { json in for match in rule.matches { json.object { Self.write(match, &$0) } } }
        json.member("filters", rule.filters.map(Self.name))
        json.array("backends") { json in
            for backend in rule.backends {
                json.object { json in
                    Self.write(backend.destination, weight: backend.weight, &json)
                    json.member("filters", backend.filters.map(Self.name))
                }
            }
        }
        if let timeout = rule.timeouts.request { json.member("timeout", "\(timeout)") } else { json.null("timeout") }
        json.member("retries", rule.retry?.attempts ?? 0)
        if let session = rule.session { json.member("session", session.name) } else { json.null("session") }
    }

    static func write(_ destination: RouteDestination, weight: UInt32, _ json: inout JSONText) {
        switch destination {
        case .service(let key, let port):
            json.member("service", key.description)
            json.member("port", port)
        case .invalid(let reason): json.member("invalid", reason)
        }
        json.member("weight", weight)
    }

    private static func write(_ match: HTTPMatch, _ json: inout JSONText) {
        switch match.path {
        case .exact(let text): json.member("exact", text)
        case .prefix(let text): json.member("prefix", text)
        case .regex(let text): json.member("regex", text)
        case .grpc(let service, let method):
            json.member("grpcService", service.map(Self.text) ?? "*")
            json.member("grpcMethod", method.map(Self.text) ?? "*")
        }
        if let method = match.method { json.member("method", method) }
        json.member("headers", match.headers.map { "\($0.name)=\(Self.text($0.value))" })
        json.member("query", match.query.map { "\($0.name)=\(Self.text($0.value))" })
    }

    private static func text(_ match: TextMatch) -> String {
        switch match {
        case .exact(let text): text
        case .regex(let text): "~\(text)"
        }
    }

    private static func name(_ filter: HTTPFilter) -> String {
        switch filter {
        case .requestHeaders: "RequestHeaderModifier"
        case .responseHeaders: "ResponseHeaderModifier"
        case .redirect: "RequestRedirect"
        case .rewrite: "URLRewrite"
        case .mirror: "RequestMirror"
        case .cors: "CORS"
        }
    }
}
