import MeshModel
import MeshProto
import MeshRoutes

extension RequestPolicy {
    init(decoding proto: Martlet_Waypoint_RequestPolicy) throws(Reason) {
        try Self.known(proto.unknownFields.data.isEmpty)
        self.init(
            key: try NamespacedName(decoding: proto.key), action: try decodeEnum(proto.action.rawValue, "action"),
            rules: [], isDryRun: proto.dryRun)
        self.rules = try proto.rules.bounded(RulesBounds.rulesPerPolicyMax, "rules of a policy").converted {
            rule throws(Reason) in try Rule(decoding: rule)
        }
    }

    /// A field or a kind of match newer than us would be dropped and could widen the policy.
    fileprivate static func known(_ isKnown: Bool) throws(Reason) {
        if !isKnown { throw Reason("a policy with parts unknown to this version") }
    }

    var proto: Martlet_Waypoint_RequestPolicy {
        .with {
            $0.key = self.key.rulesProto
            $0.action = .init(rawValue: Int(self.action.rawValue)) ?? .deny
            $0.dryRun = self.isDryRun
            $0.rules = self.rules.map { rule in
                .with {
                    $0.from = rule.from.map(\.proto)
                    $0.to = rule.to.map(\.proto)
                    $0.when = rule.when.map(\.proto)
                }
            }
        }
    }

    fileprivate static func texts(_ protos: [Martlet_Waypoint_StringMatch]) throws(Reason) -> [StringMatch] {
        try protos.bounded(RulesBounds.valuesMax, "values").converted { proto throws(Reason) in
            try StringMatch(decoding: proto)
        }
    }

    fileprivate static func blocks(_ protos: [Martlet_Waypoint_Block]) throws(Reason) -> [CIDR] {
        try protos.bounded(RulesBounds.valuesMax, "blocks").converted { proto throws(Reason) in
            try CIDR(decoding: proto)
        }
    }

    fileprivate static func accounts(
        _ protos: [Martlet_Waypoint_Name]
    ) throws(Reason) -> [AuthorizationPolicy.ServiceAccountMatch] {
        try protos.bounded(RulesBounds.valuesMax, "accounts").converted { proto throws(Reason) in
            .init(namespace: try decodeText(proto.namespace), serviceAccount: try decodeText(proto.name))
        }
    }
}

extension RequestPolicy.Rule {
    init(decoding proto: Martlet_Waypoint_RequestPolicy.Rule) throws(Reason) {
        try RequestPolicy.known(proto.unknownFields.data.isEmpty)
        self.init()
        self.from = try proto.from.bounded(RulesBounds.valuesMax, "sources").converted { source throws(Reason) in
            try RequestPolicy.Source(decoding: source)
        }
        self.to = try proto.to.bounded(RulesBounds.valuesMax, "operations").converted { operation throws(Reason) in
            try RequestPolicy.Operation(decoding: operation)
        }
        self.when = try proto.when.bounded(RulesBounds.valuesMax, "conditions").converted {
            condition throws(Reason) in try RequestPolicy.Condition(decoding: condition)
        }
    }
}

extension RequestPolicy.Source {
    init(decoding proto: Martlet_Waypoint_Source) throws(Reason) {
        try RequestPolicy.known(proto.unknownFields.data.isEmpty)
        self.init()
        self.principals = try RequestPolicy.texts(proto.principals)
        self.notPrincipals = try RequestPolicy.texts(proto.notPrincipals)
        self.requestPrincipals = try RequestPolicy.texts(proto.requestPrincipals)
        self.notRequestPrincipals = try RequestPolicy.texts(proto.notRequestPrincipals)
        self.namespaces = try RequestPolicy.texts(proto.namespaces)
        self.notNamespaces = try RequestPolicy.texts(proto.notNamespaces)
        self.serviceAccounts = try RequestPolicy.accounts(proto.serviceAccounts)
        self.notServiceAccounts = try RequestPolicy.accounts(proto.notServiceAccounts)
        self.trustDomains = try RequestPolicy.texts(proto.trustDomains)
        self.notTrustDomains = try RequestPolicy.texts(proto.notTrustDomains)
        self.ipBlocks = try RequestPolicy.blocks(proto.ipBlocks)
        self.notIPBlocks = try RequestPolicy.blocks(proto.notIpBlocks)
        self.remoteIPBlocks = try RequestPolicy.blocks(proto.remoteIpBlocks)
        self.notRemoteIPBlocks = try RequestPolicy.blocks(proto.notRemoteIpBlocks)
    }

    var proto: Martlet_Waypoint_Source {
        .with {
            $0.principals = self.principals.map(\.rulesProto)
            $0.notPrincipals = self.notPrincipals.map(\.rulesProto)
            $0.requestPrincipals = self.requestPrincipals.map(\.rulesProto)
            $0.notRequestPrincipals = self.notRequestPrincipals.map(\.rulesProto)
            $0.namespaces = self.namespaces.map(\.rulesProto)
            $0.notNamespaces = self.notNamespaces.map(\.rulesProto)
            $0.serviceAccounts = self.serviceAccounts.map(\.rulesProto)
            $0.notServiceAccounts = self.notServiceAccounts.map(\.rulesProto)
            $0.trustDomains = self.trustDomains.map(\.rulesProto)
            $0.notTrustDomains = self.notTrustDomains.map(\.rulesProto)
            $0.ipBlocks = self.ipBlocks.map(\.rulesProto)
            $0.notIpBlocks = self.notIPBlocks.map(\.rulesProto)
            $0.remoteIpBlocks = self.remoteIPBlocks.map(\.rulesProto)
            $0.notRemoteIpBlocks = self.notRemoteIPBlocks.map(\.rulesProto)
        }
    }
}

extension RequestPolicy.Operation {
    init(decoding proto: Martlet_Waypoint_Operation) throws(Reason) {
        try RequestPolicy.known(proto.unknownFields.data.isEmpty)
        self.init()
        self.hosts = try RequestPolicy.texts(proto.hosts)
        self.notHosts = try RequestPolicy.texts(proto.notHosts)
        self.ports = try proto.ports.bounded(RulesBounds.valuesMax, "ports").converted(decodePort)
        self.notPorts = try proto.notPorts.bounded(RulesBounds.valuesMax, "ports").converted(decodePort)
        self.methods = try RequestPolicy.texts(proto.methods)
        self.notMethods = try RequestPolicy.texts(proto.notMethods)
        self.paths = try Self.paths(proto.paths)
        self.notPaths = try Self.paths(proto.notPaths)
    }

    private static func paths(_ protos: [Martlet_Waypoint_PathPattern]) throws(Reason) -> [RequestPolicy.PathPattern] {
        try protos.bounded(RulesBounds.valuesMax, "paths").converted { proto throws(Reason) in
            switch proto.kind {
            case .text(let match): return .text(try AuthorizationPolicy.StringMatch(decoding: match))
            case .template(let text): return .template(try decodeText(text))
            case nil: throw Reason("a path without a kind")
            }
        }
    }

    var proto: Martlet_Waypoint_Operation {
        .with {
            $0.hosts = self.hosts.map(\.rulesProto)
            $0.notHosts = self.notHosts.map(\.rulesProto)
            $0.ports = self.ports.map(UInt32.init)
            $0.notPorts = self.notPorts.map(UInt32.init)
            $0.methods = self.methods.map(\.rulesProto)
            $0.notMethods = self.notMethods.map(\.rulesProto)
            $0.paths = self.paths.map(\.proto)
            $0.notPaths = self.notPaths.map(\.proto)
        }
    }
}

extension RequestPolicy.PathPattern {
    var proto: Martlet_Waypoint_PathPattern {
        .with {
            switch self {
            case .text(let match): $0.text = match.rulesProto
            case .template(let text): $0.template = text
            }
        }
    }
}

extension RequestPolicy.Condition {
    init(decoding proto: Martlet_Waypoint_Condition) throws(Reason) {
        try RequestPolicy.known(proto.unknownFields.data.isEmpty)
        self.init(
            attribute: try Self.attribute(proto), values: try Self.values(proto.values),
            notValues: try Self.values(proto.notValues))
    }

    private static func attribute(_ proto: Martlet_Waypoint_Condition) throws(Reason) -> RequestPolicy.Attribute {
        let names = try decodeTexts(proto.names)
        switch proto.attribute {
        case .requestHeader:
            guard names.count == 1 else { throw Reason("a condition about \(names.count) headers") }
            return .requestHeader(names[0])
        case .requestClaim:
            if names.isEmpty { throw Reason("a condition about no claim") }
            return .requestClaim(names)
        case .sourceIp: return .sourceIP
        case .remoteIp: return .remoteIP
        case .sourceNamespace: return .sourceNamespace
        case .sourceServiceAccount: return .sourceServiceAccount
        case .sourceTrustDomain: return .sourceTrustDomain
        case .sourcePrincipal: return .sourcePrincipal
        case .requestPrincipal: return .requestPrincipal
        case .requestAudiences: return .requestAudiences
        case .requestPresenter: return .requestPresenter
        case .destinationIp: return .destinationIP
        case .destinationPort: return .destinationPort
        case .serverName: return .serverName
        case .unspecified, .UNRECOGNIZED: throw Reason("a condition about an attribute unknown to this version")
        }
    }

    private static func values(
        _ protos: [Martlet_Waypoint_Condition.Value]
    ) throws(Reason) -> [RequestPolicy.ConditionValue] {
        try protos.bounded(RulesBounds.valuesMax, "values").converted { proto throws(Reason) in
            switch proto.kind {
            case .text(let match): return .text(try AuthorizationPolicy.StringMatch(decoding: match))
            case .block(let block): return .block(try CIDR(decoding: block))
            case .port(let port): return .port(try decodePort(port))
            case .serviceAccount(let name):
                return .serviceAccount(
                    .init(namespace: try decodeText(name.namespace), serviceAccount: try decodeText(name.name)))
            case nil: throw Reason("a value without a kind")
            }
        }
    }

    var proto: Martlet_Waypoint_Condition {
        .with {
            switch self.attribute {
            case .requestHeader(let name):
                $0.attribute = .requestHeader
                $0.names = [name]
            case .requestClaim(let path):
                $0.attribute = .requestClaim
                $0.names = path
            case .sourceIP: $0.attribute = .sourceIp
            case .remoteIP: $0.attribute = .remoteIp
            case .sourceNamespace: $0.attribute = .sourceNamespace
            case .sourceServiceAccount: $0.attribute = .sourceServiceAccount
            case .sourceTrustDomain: $0.attribute = .sourceTrustDomain
            case .sourcePrincipal: $0.attribute = .sourcePrincipal
            case .requestPrincipal: $0.attribute = .requestPrincipal
            case .requestAudiences: $0.attribute = .requestAudiences
            case .requestPresenter: $0.attribute = .requestPresenter
            case .destinationIP: $0.attribute = .destinationIp
            case .destinationPort: $0.attribute = .destinationPort
            case .serverName: $0.attribute = .serverName
            }
            $0.values = self.values.map(\.proto)
            $0.notValues = self.notValues.map(\.proto)
        }
    }
}

extension RequestPolicy.ConditionValue {
    var proto: Martlet_Waypoint_Condition.Value {
        .with {
            switch self {
            case .text(let match): $0.text = match.rulesProto
            case .block(let block): $0.block = block.rulesProto
            case .port(let port): $0.port = UInt32(port)
            case .serviceAccount(let account): $0.serviceAccount = account.rulesProto
            }
        }
    }
}

extension AuthorizationPolicy.StringMatch {
    init(decoding proto: Martlet_Waypoint_StringMatch) throws(Reason) {
        switch proto.kind {
        case .exact(let text): self = .exact(try decodeText(text))
        case .prefix(let text): self = .prefix(try decodeText(text))
        case .suffix(let text): self = .suffix(try decodeText(text))
        case .presence: self = .presence
        case nil: throw Reason("a string match without a kind")
        }
    }

    var rulesProto: Martlet_Waypoint_StringMatch {
        .with {
            switch self {
            case .exact(let text): $0.exact = text
            case .prefix(let text): $0.prefix = text
            case .suffix(let text): $0.suffix = text
            case .presence: $0.presence = true
            }
        }
    }
}

extension AuthorizationPolicy.ServiceAccountMatch {
    var rulesProto: Martlet_Waypoint_Name {
        .with {
            $0.namespace = self.namespace
            $0.name = self.serviceAccount
        }
    }
}

extension CIDR {
    init(decoding proto: Martlet_Waypoint_Block) throws(Reason) {
        let base = try IPAddress(decoding: proto.base)
        let length = Int(proto.length) - (proto.base.count * 8 - base.bitWidth)
        guard let block = CIDR(base: base, prefixLength: length) else {
            throw Reason("prefix length \(proto.length) is out of range for \(base)")
        }
        self = block
    }

    var rulesProto: Martlet_Waypoint_Block {
        .with {
            $0.base = .init(self.base.bytes)
            $0.length = UInt32(self.prefixLength)
        }
    }
}
