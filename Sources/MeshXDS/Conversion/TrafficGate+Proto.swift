import MeshModel
import MeshProto
import MeshRoutes

extension TrafficGate {
    /// One policy that cannot be read closes the gate: what it would have refused is not known.
    static func decode(_ proto: Martlet_Waypoint_Gate, _ flaws: inout [String]) -> TrafficGate {
        var gate = TrafficGate()
        do throws(Reason) {
            if !proto.unknownFields.data.isEmpty { throw Reason("a gate with parts unknown to this version") }
            let max = RulesBounds.policiesMax
            gate.tokens = try proto.tokens.bounded(max, "token policies").converted { policy throws(Reason) in
                try TokenPolicy(decoding: policy)
            }
            gate.policies = try proto.policies.bounded(max, "policies").converted { policy throws(Reason) in
                try RequestPolicy(decoding: policy)
            }
            gate.rateLimits = try proto.rateLimits.bounded(max, "rate limits").converted { limit throws(Reason) in
                try RateLimit(decoding: limit)
            }
            if proto.hasClosedBecause { gate.closedBecause = try decodeText(proto.closedBecause) }
        } catch {
            flaws.append(error.text)
            gate.closedBecause = "a policy cannot be read: \(error.text)"
        }
        return gate
    }

    var proto: Martlet_Waypoint_Gate {
        .with {
            $0.tokens = self.tokens.map(\.proto)
            $0.policies = self.policies.map(\.proto)
            $0.rateLimits = self.rateLimits.map(\.proto)
            if let reason = self.closedBecause { $0.closedBecause = reason }
        }
    }
}

extension RateLimit {
    init(decoding proto: Martlet_Waypoint_RateLimit) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("a rate limit with parts unknown to this version") }
        let interval = try decodeDuration(proto.intervalUs, "an interval")
        if interval == .zero { throw Reason("a rate limit without interval") }
        self.init(
            key: try NamespacedName(decoding: proto.key), requests: proto.requests, interval: interval,
            burst: proto.burst)
    }

    var proto: Martlet_Waypoint_RateLimit {
        .with {
            $0.key = self.key.rulesProto
            $0.requests = self.requests
            $0.intervalUs = self.interval.protoMicroseconds
            $0.burst = self.burst
        }
    }
}

extension TokenPolicy {
    init(decoding proto: Martlet_Waypoint_TokenPolicy) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("a token policy with parts unknown to this version") }
        self.init(key: try NamespacedName(decoding: proto.key), rules: [])
        self.rules = try proto.rules.bounded(RulesBounds.valuesMax, "token rules").converted { rule throws(Reason) in
            try Rule(decoding: rule)
        }
    }

    var proto: Martlet_Waypoint_TokenPolicy {
        .with {
            $0.key = self.key.rulesProto
            $0.rules = self.rules.map(\.proto)
        }
    }
}

extension TokenPolicy.Rule {
    init(decoding proto: Martlet_Waypoint_TokenPolicy.Rule) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("a token rule with parts unknown to this version") }
        self.init(issuer: try decodeText(proto.issuer))
        self.audiences = try decodeTexts(proto.audiences)
        self.keys = proto.hasKeys ? try decodeText(proto.keys, RulesBounds.keySetBytesMax) : nil
        self.headers = try proto.headers.bounded(RulesBounds.valuesMax, "headers").converted { field throws(Reason) in
            .init(name: try decodeText(field.name), prefix: try decodeText(field.value))
        }
        self.parameters = try decodeTexts(proto.parameters)
        self.cookies = try decodeTexts(proto.cookies)
        self.forwardsToken = proto.forwardsToken
        self.payloadHeader = proto.hasPayloadHeader ? try decodeText(proto.payloadHeader) : nil
        self.claimHeaders = try proto.claimHeaders.bounded(RulesBounds.valuesMax, "claims").converted {
            claim throws(Reason) in .init(header: try decodeText(claim.header), claim: try decodeText(claim.claim))
        }
        self.spaceDelimitedClaims = try decodeTexts(proto.spaceDelimitedClaims)
    }

    var proto: Martlet_Waypoint_TokenPolicy.Rule {
        .with {
            $0.issuer = self.issuer
            $0.audiences = self.audiences
            if let keys = self.keys { $0.keys = keys }
            $0.headers = self.headers.map { header in
                .with {
                    $0.name = header.name
                    $0.value = header.prefix
                }
            }
            $0.parameters = self.parameters
            $0.cookies = self.cookies
            $0.forwardsToken = self.forwardsToken
            if let header = self.payloadHeader { $0.payloadHeader = header }
            $0.claimHeaders = self.claimHeaders.map { claim in
                .with {
                    $0.header = claim.header
                    $0.claim = claim.claim
                }
            }
            $0.spaceDelimitedClaims = self.spaceDelimitedClaims
        }
    }
}
