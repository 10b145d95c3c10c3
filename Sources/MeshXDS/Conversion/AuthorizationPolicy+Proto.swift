package import MeshModel
package import MeshProto
import SwiftProtobuf

/// What became of a policy message.
package struct DecodedPolicy {
    /// Safe to enforce, whatever `flaws` says.
    package var policy: AuthorizationPolicy
    /// Parts that could not be read. Each has been replaced so that nothing more is allowed than was written: a
    /// flawed rule of an ALLOW policy never matches, one of a DENY policy always does.
    package var flaws: [String]
}

extension AuthorizationPolicy {
    /// - Throws: ``RejectedResource`` when it cannot even be said where the policy applies or what it does.
    package static func decode(
        _ proto: Istio_Security_Authorization, name: String
    ) throws(RejectedResource) -> DecodedPolicy {
        let scope: Scope
        let action: Action
        do throws(Reason) {
            if proto.name.isEmpty { throw Reason("a policy without name") }
            scope = try decodeEnum(proto.scope.rawValue, "policy scope")
            action = try decodeEnum(proto.action.rawValue, "policy action")
        } catch {
            throw RejectedResource(name: name, reason: error.text)
        }
        var flaws: [String] = []
        var rules: [Rule] = []
        for (index, rule) in proto.rules.enumerated() {
            do throws(Reason) {
                rules.append(try Rule(decoding: rule))
            } catch {
                flaws.append("rule \(index): \(error.text)")
                if action == .deny { rules.append(Rule(clauses: [])) }
            }
        }
        return DecodedPolicy(
            policy: AuthorizationPolicy(
                key: NamespacedName(namespace: proto.namespace, name: proto.name), scope: scope, action: action,
                rules: rules, isDryRun: proto.dryRun),
            flaws: flaws)
    }

    package var proto: Istio_Security_Authorization {
        .with { message in
            message.name = self.key.name
            message.namespace = self.key.namespace
            message.scope = .init(rawValue: Int(self.scope.rawValue)) ?? .global
            message.action = self.action == .deny ? .deny : .allow
            message.dryRun = self.isDryRun
            message.rules = self.rules.map { rule in
                .with {
                    $0.clauses = rule.clauses.map { clause in .with { $0.matches = clause.matches.map(\.proto) } }
                }
            }
        }
    }
}

extension AuthorizationPolicy.Rule {
    init(decoding proto: Istio_Security_Rule) throws(Reason) {
        self.init(clauses: [])
        for clause in proto.clauses {
            var matches: [AuthorizationPolicy.Match] = []
            for match in clause.matches { matches.append(try AuthorizationPolicy.Match(decoding: match)) }
            self.clauses.append(AuthorizationPolicy.Clause(matches: matches))
        }
    }
}

extension AuthorizationPolicy.Match {
    init(decoding proto: Istio_Security_Match) throws(Reason) {
        // A field or a kind of match newer than us would be dropped here and could widen the policy.
        if !proto.unknownFields.data.isEmpty { throw Reason("a match with attributes unknown to this version") }
        self.init()
        self.namespaces = try Self.strings(proto.namespaces)
        self.notNamespaces = try Self.strings(proto.notNamespaces)
        self.principals = try Self.strings(proto.principals)
        self.notPrincipals = try Self.strings(proto.notPrincipals)
        self.serviceAccounts = proto.serviceAccounts.map {
            .init(namespace: $0.namespace, serviceAccount: $0.serviceAccount)
        }
        self.notServiceAccounts = proto.notServiceAccounts.map {
            .init(namespace: $0.namespace, serviceAccount: $0.serviceAccount)
        }
        self.sourceIPs = try Self.blocks(proto.sourceIps)
        self.notSourceIPs = try Self.blocks(proto.notSourceIps)
        self.destinationIPs = try Self.blocks(proto.destinationIps)
        self.notDestinationIPs = try Self.blocks(proto.notDestinationIps)
        self.destinationPorts = try Self.ports(proto.destinationPorts)
        self.notDestinationPorts = try Self.ports(proto.notDestinationPorts)
    }

    private static func strings(
        _ protos: [Istio_Security_StringMatch]
    ) throws(Reason) -> [AuthorizationPolicy.StringMatch] {
        var matches: [AuthorizationPolicy.StringMatch] = []
        for proto in protos {
            switch proto.matchType {
            case .exact(let text): matches.append(.exact(text))
            case .prefix(let text): matches.append(.prefix(text))
            case .suffix(let text): matches.append(.suffix(text))
            case .presence: matches.append(.presence)
            case nil: throw Reason("a string match without a kind")
            }
        }
        return matches
    }

    private static func blocks(_ protos: [Istio_Security_Address]) throws(Reason) -> [CIDR] {
        var blocks: [CIDR] = []
        for proto in protos {
            let base = try IPAddress(decoding: proto.address)
            let length = Int(proto.length) - (proto.address.count * 8 - base.bitWidth)
            guard let block = CIDR(base: base, prefixLength: length) else {
                throw Reason("prefix length \(proto.length) is out of range for \(base)")
            }
            blocks.append(block)
        }
        return blocks
    }

    private static func ports(_ numbers: [UInt32]) throws(Reason) -> [UInt16] {
        var ports: [UInt16] = []
        for number in numbers {
            guard let port = UInt16(exactly: number) else { throw Reason("destination port \(number)") }
            ports.append(port)
        }
        return ports
    }

    var proto: Istio_Security_Match {
        .with {
            $0.namespaces = self.namespaces.map(\.proto)
            $0.notNamespaces = self.notNamespaces.map(\.proto)
            $0.principals = self.principals.map(\.proto)
            $0.notPrincipals = self.notPrincipals.map(\.proto)
            $0.serviceAccounts = self.serviceAccounts.map(\.proto)
            $0.notServiceAccounts = self.notServiceAccounts.map(\.proto)
            $0.sourceIps = self.sourceIPs.map(\.proto)
            $0.notSourceIps = self.notSourceIPs.map(\.proto)
            $0.destinationIps = self.destinationIPs.map(\.proto)
            $0.notDestinationIps = self.notDestinationIPs.map(\.proto)
            $0.destinationPorts = self.destinationPorts.map(UInt32.init)
            $0.notDestinationPorts = self.notDestinationPorts.map(UInt32.init)
        }
    }
}

extension AuthorizationPolicy.StringMatch {
    var proto: Istio_Security_StringMatch {
        .with {
            switch self {
            case .exact(let text): $0.exact = text
            case .prefix(let text): $0.prefix = text
            case .suffix(let text): $0.suffix = text
            case .presence: $0.presence = Google_Protobuf_Empty()
            }
        }
    }
}

extension AuthorizationPolicy.ServiceAccountMatch {
    var proto: Istio_Security_ServiceAccountMatch {
        .with {
            $0.namespace = self.namespace
            $0.serviceAccount = self.serviceAccount
        }
    }
}

extension CIDR {
    var proto: Istio_Security_Address {
        .with {
            $0.address = .init(self.base.bytes)
            $0.length = UInt32(self.prefixLength)
        }
    }
}
