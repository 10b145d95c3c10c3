import KubeAPI
import MeshRoutes

/// DestinationRule `trafficPolicy` → how endpoints are chosen; and what of it we do not do.
enum BalancingReader {
    static func read(_ policy: JSONValue, _ balancing: inout BackendBalancing) -> [String] {
        var ignored: [String] = []
        for (name, value) in policy.object ?? [:] {
            switch name {
            case "loadBalancer", "retryBudget": break
            case "outlierDetection": ignored += Self.ejection(value, &balancing)
            case "connectionPool": ignored += Self.limits(value, &balancing)
            // What tunnels do anyhow.
            case "tls" where ["ISTIO_MUTUAL", ""].contains(value["mode"]?.string ?? ""): break
            default: ignored.append("trafficPolicy.\(name)")
            }
        }
        for (name, value) in policy["loadBalancer"]?.object ?? [:] {
            switch name {
            case "simple":
                switch value.string ?? "" {
                case "LEAST_REQUEST", "LEAST_CONN", "UNSPECIFIED": balancing.choice = .leastRequest
                case "ROUND_ROBIN": balancing.choice = .roundRobin
                case "RANDOM": balancing.choice = .random
                case let other: ignored.append("loadBalancer.simple \(other)")
                }
            case "consistentHash": ignored += Self.hash(value, &balancing)
            default: ignored.append("loadBalancer.\(name)")
            }
        }
        if let budget = policy["retryBudget"], budget.object != nil {
            if let percent = budget["percent"]?.double, (0...100).contains(percent) {
                balancing.retryBudgetPercent = UInt32(percent.rounded())
            }
            if let min = budget["minRetryConcurrency"]?.int.flatMap({ UInt32(exactly: $0) }) {
                balancing.retriesMin = min
            }
            if budget["budgetInterval"] != nil { ignored.append("retryBudget.budgetInterval") }
        }
        return ignored.sorted()
    }

    /// An empty one asks for Istio's usual figures.
    private static func ejection(_ json: JSONValue, _ balancing: inout BackendBalancing) -> [String] {
        var ejection = EndpointEjection()
        ejection.percentMax = 10
        var ignored: [String] = []
        for (name, value) in json.object ?? [:] {
            let count = value.int.flatMap { UInt32(exactly: $0) }
            switch name {
            case "consecutive5xxErrors", "consecutiveErrors":
                if let count { ejection.failures = count }
            case "consecutiveGatewayErrors":
                if let count { ejection.gatewayFailures = count }
            case "maxEjectionPercent":
                if let count, count <= 100 { ejection.percentMax = count }
            case "baseEjectionTime":
                if let time = value.string.flatMap(GoDuration.parse), time > .zero { ejection.time = time }
            // Ejections begin with the failure that is one too many, and end by themselves.
            case "interval": break
            default: ignored.append("outlierDetection.\(name)")
            }
        }
        balancing.ejection = ejection
        return ignored
    }

    private static func limits(_ json: JSONValue, _ balancing: inout BackendBalancing) -> [String] {
        var ignored: [String] = []
        for (part, values) in json.object ?? [:] {
            for (name, value) in values.object ?? [:] {
                let count = value.int.flatMap { UInt32(exactly: $0) }
                switch ("\(part).\(name)", count) {
                case ("http.http2MaxRequests", let count?): balancing.requestsMax = count
                case ("tcp.maxConnections", let count?):
                    balancing.streamsMax = count
                    ignored.append("connectionPool.tcp.maxConnections for HTTP (http.http2MaxRequests is)")
                default: ignored.append("connectionPool.\(part).\(name)")
                }
            }
        }
        return ignored
    }

    private static func hash(_ json: JSONValue, _ balancing: inout BackendBalancing) -> [String] {
        var ignored: [String] = []
        for (name, value) in json.object ?? [:] {
            switch name {
            case "httpHeaderName":
                if let header = value.string, !header.isEmpty { balancing.choice = .hashHeader(header.lowercased()) }
            case "httpQueryParameterName":
                if let parameter = value.string, !parameter.isEmpty { balancing.choice = .hashQuery(parameter) }
            case "useSourceIp": if value.bool == true { balancing.choice = .hashSource }
            case "httpCookie":
                guard let cookie = value["name"]?.string, !cookie.isEmpty else { continue }
                let lifetime = value["ttl"]?.string.flatMap(GoDuration.parse)
                balancing.choice = .hashCookie(
                    name: cookie, path: value["path"]?.string ?? "", lifetime: lifetime == .zero ? nil : lifetime)
                if value["attributes"] != nil { ignored.append("loadBalancer.consistentHash.httpCookie.attributes") }
            // How the ring is built is ours to choose.
            case "ringHash", "maglev", "minimumRingSize": ignored.append("loadBalancer.consistentHash.\(name)")
            default: ignored.append("loadBalancer.consistentHash.\(name)")
            }
        }
        return ignored
    }

    /// XBackendTrafficPolicy `retryConstraint` (GEP-3388).
    static func read(retries json: JSONValue, _ balancing: inout BackendBalancing) {
        let percent = json.at("budget", "percent")?.int ?? json["budgetPercent"]?.int ?? 20
        balancing.retryBudgetPercent = UInt32(min(max(percent, 0), 100))
        // A rate there, a number at a time here: with an attempt of a second they are the same.
        let count = json.at("minRetryRate", "count")?.int ?? 10
        let interval = (json.at("minRetryRate", "interval")?.string).flatMap(GatewayDuration.parse) ?? .seconds(1)
        let seconds = max(Double(interval.components.seconds), 1)
        balancing.retriesMin = UInt32(min(max((Double(count) / seconds).rounded(.up), 0), 1_000_000))
    }
}
