package import MeshModel
package import MeshProto
package import MeshRoutes

extension ServiceRules {
    /// - Throws: ``RejectedResource`` when the message is about another service than its name says: then nothing of it
    ///   can be used.
    package static func decode(
        _ proto: Martlet_Waypoint_ServiceRules, name: String
    ) throws(RejectedResource) -> DecodedRules<ServiceRules> {
        guard let key = NamespacedName(name), proto.key == key.rulesProto else {
            throw RejectedResource(
                name: name, reason: "the content calls itself \(proto.key.namespace)/\(proto.key.name)")
        }
        var decoded = DecodedRules(rules: ServiceRules(key: key))
        guard proto.unknownFields.data.isEmpty else {
            return Self.closed(key, because: "rules with parts unknown to this version")
        }
        guard proto.routes.count + proto.streams.count <= RulesBounds.routesMax else {
            return Self.closed(key, because: "more than \(RulesBounds.routesMax) routes")
        }
        decoded.rules.routes = proto.routes.map { HTTPRoute.decode($0, &decoded.flaws) }
        decoded.rules.streams = proto.streams.map { StreamRoute.decode($0, &decoded.flaws) }
        decoded.rules.gate = TrafficGate.decode(proto.gate, &decoded.flaws)
        do throws(Reason) {
            decoded.rules.balancing = try BackendBalancing(decoding: proto.balancing)
            if proto.hasTelemetry { decoded.rules.telemetry = try WaypointTelemetry(decoding: proto.telemetry) }
        } catch {
            decoded.flaws.append("balancing or telemetry: \(error.text)")
        }
        return decoded
    }

    /// What stands for a service whose rules cannot be read at all: nothing passes.
    package static func closed(_ key: NamespacedName, because reason: String) -> DecodedRules<ServiceRules> {
        var rules = ServiceRules(key: key)
        rules.gate.closedBecause = reason
        return DecodedRules(rules: rules, flaws: [reason])
    }

    package var proto: Martlet_Waypoint_ServiceRules {
        .with {
            $0.key = self.key.rulesProto
            $0.routes = self.routes.map(\.proto)
            $0.streams = self.streams.map(\.proto)
            if self.gate != TrafficGate() { $0.gate = self.gate.proto }
            $0.balancing = self.balancing.proto
            if let telemetry = self.telemetry { $0.telemetry = telemetry.proto }
        }
    }
}

extension WaypointRules {
    /// - Throws: as ``ServiceRules/decode(_:name:)``.
    package static func decode(
        _ proto: Martlet_Waypoint_WaypointRules, name: String
    ) throws(RejectedResource) -> DecodedRules<WaypointRules> {
        guard let key = NamespacedName(name), proto.key == key.rulesProto else {
            throw RejectedResource(
                name: name, reason: "the content calls itself \(proto.key.namespace)/\(proto.key.name)")
        }
        guard proto.unknownFields.data.isEmpty else {
            return Self.closed(key, because: "rules with parts unknown to this version")
        }
        var decoded = DecodedRules(rules: WaypointRules(key: key))
        do throws(Reason) {
            decoded.rules.trafficType = try decodeEnum(proto.trafficType.rawValue, "traffic type")
        } catch {
            return Self.closed(key, because: error.text)
        }
        decoded.rules.gate = TrafficGate.decode(proto.gate, &decoded.flaws)
        do throws(Reason) {
            decoded.rules.telemetry = try WaypointTelemetry(decoding: proto.telemetry)
        } catch {
            decoded.flaws.append("telemetry: \(error.text)")
        }
        return decoded
    }

    package static func closed(_ key: NamespacedName, because reason: String) -> DecodedRules<WaypointRules> {
        var rules = WaypointRules(key: key, trafficType: .none)
        rules.gate.closedBecause = reason
        return DecodedRules(rules: rules, flaws: [reason])
    }

    package var proto: Martlet_Waypoint_WaypointRules {
        .with {
            $0.key = self.key.rulesProto
            $0.trafficType = .init(rawValue: Int(self.trafficType.rawValue)) ?? .service
            if self.gate != TrafficGate() { $0.gate = self.gate.proto }
            $0.telemetry = self.telemetry.proto
        }
    }
}

extension BackendBalancing {
    init(decoding proto: Martlet_Waypoint_Balancing) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("parts unknown to this version") }
        self.init()
        switch proto.choice {
        case .simple(.leastRequest): self.choice = .leastRequest
        case .simple(.roundRobin): self.choice = .roundRobin
        case .simple(.random): self.choice = .random
        case .simple(.sourceHash): self.choice = .hashSource
        case .simple(let other): throw Reason("unknown choice \(other.rawValue)")
        case .hashHeader(let name): self.choice = .hashHeader(try decodeText(name))
        case .hashQuery(let name): self.choice = .hashQuery(try decodeText(name))
        case .hashCookie(let cookie):
            self.choice = .hashCookie(
                name: try decodeText(cookie.name), path: try decodeText(cookie.path),
                lifetime: cookie.hasLifetimeUs ? try decodeDuration(cookie.lifetimeUs, "a cookie's lifetime") : nil)
        case nil: throw Reason("no choice of an endpoint")
        }
        guard proto.retryBudgetPercent <= 100 else { throw Reason("retry budget \(proto.retryBudgetPercent) %") }
        self.retryBudgetPercent = proto.retryBudgetPercent
        self.retriesMin = proto.retriesMin
        if proto.hasEjection { self.ejection = try EndpointEjection(decoding: proto.ejection) }
        self.requestsMax = proto.hasRequestsMax ? proto.requestsMax : nil
        self.streamsMax = proto.hasStreamsMax ? proto.streamsMax : nil
    }

    var proto: Martlet_Waypoint_Balancing {
        .with {
            switch self.choice {
            case .leastRequest: $0.simple = .leastRequest
            case .roundRobin: $0.simple = .roundRobin
            case .random: $0.simple = .random
            case .hashSource: $0.simple = .sourceHash
            case .hashHeader(let name): $0.hashHeader = name
            case .hashQuery(let name): $0.hashQuery = name
            case .hashCookie(let name, let path, let lifetime):
                $0.hashCookie = .with {
                    $0.name = name
                    $0.path = path
                    if let lifetime { $0.lifetimeUs = lifetime.protoMicroseconds }
                }
            }
            $0.retryBudgetPercent = self.retryBudgetPercent
            $0.retriesMin = self.retriesMin
            if self.ejection != EndpointEjection() { $0.ejection = self.ejection.proto }
            if let max = self.requestsMax { $0.requestsMax = max }
            if let max = self.streamsMax { $0.streamsMax = max }
        }
    }
}

extension EndpointEjection {
    init(decoding proto: Martlet_Waypoint_Ejection) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("an ejection with parts unknown to this version") }
        self.init()
        self.failures = proto.failures
        self.gatewayFailures = proto.gatewayFailures
        self.time = try decodeDuration(proto.timeUs, "an ejection")
        guard proto.percentMax <= 100 else { throw Reason("ejection of \(proto.percentMax) %") }
        self.percentMax = proto.percentMax
    }

    var proto: Martlet_Waypoint_Ejection {
        .with {
            $0.failures = self.failures
            $0.gatewayFailures = self.gatewayFailures
            $0.timeUs = self.time.protoMicroseconds
            $0.percentMax = self.percentMax
        }
    }
}

extension WaypointTelemetry {
    init(decoding proto: Martlet_Waypoint_Telemetry) throws(Reason) {
        self.init()
        guard (0...100).contains(proto.tracePercent) else { throw Reason("trace \(proto.tracePercent) %") }
        self.isAccessLogEnabled = proto.accessLog
        self.tracePercent = proto.tracePercent
        self.traceCollector = proto.hasTraceCollector ? try decodeText(proto.traceCollector) : nil
        guard proto.hasAccessLogStyle else { return }
        let style = proto.accessLogStyle
        self.accessLog = AccessLogStyle(
            try decodeEnum(style.encoding.rawValue, "encoding of the access log"),
            format: style.hasFormat ? try decodeText(style.format) : nil)
    }

    var proto: Martlet_Waypoint_Telemetry {
        .with {
            $0.accessLog = self.isAccessLogEnabled
            $0.tracePercent = self.tracePercent
            if let collector = self.traceCollector { $0.traceCollector = collector }
            if let style = self.accessLog {
                $0.accessLogStyle = .with {
                    $0.encoding = .init(rawValue: Int(style.encoding.rawValue)) ?? .text
                    if let format = style.format { $0.format = format }
                }
            }
        }
    }
}
