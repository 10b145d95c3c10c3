package import MeshModel

/// Why a policy cannot be enforced as it stands.
package struct PolicyProblem: Error {
    package let text: String
}

/// A ``RequestPolicy``, ready to be asked.
///
/// Where a request leaves open what an attribute's value is (a host with or without its port, a header that comes
/// twice), the reading that refuses counts: positive values of DENY and AUDIT and negative ones of ALLOW take any
/// reading, the others only the literal one. `isLoose` says which.
package struct CompiledPolicy: Sendable {
    package let key: NamespacedName
    package let action: RequestPolicy.Action
    package let isDryRun: Bool
    /// With each one's index in the policy.
    package let rules: [(index: Int, rule: CompiledRule)]

    func match(_ facts: GateQuestion) -> PolicyMatch? {
        for (index, rule) in self.rules where rule.matches(facts) {
            return PolicyMatch(policy: self.key, rule: index, action: self.action)
        }
        return nil
    }
}

package struct CompiledRule: Sendable {
    /// Any of each list; an empty list asks nothing.
    package fileprivate(set) var from: [[AttributeTest]] = []
    package fileprivate(set) var to: [[AttributeTest]] = []
    package fileprivate(set) var when: [AttributeTest] = []

    func matches(_ facts: GateQuestion) -> Bool {
        Self.any(self.from, facts) && Self.any(self.to, facts) && self.when.allSatisfy { $0.passes(facts) }
    }

    private static func any(_ alternatives: [[AttributeTest]], _ facts: GateQuestion) -> Bool {
        if alternatives.isEmpty { return true }
        for tests in alternatives where tests.allSatisfy({ $0.passes(facts) }) { return true }
        return false
    }
}

/// One attribute: any of the wanted values (none: no question) and none of the unwanted.
package struct AttributeTest: Sendable {
    package let attribute: GateAttribute
    package let wanted: [ValueTest]
    package let unwanted: [ValueTest]
    package let isDenying: Bool

    func passes(_ facts: GateQuestion) -> Bool {
        if !self.wanted.isEmpty, !facts.has(self.attribute, self.wanted, isLoose: self.isDenying) { return false }
        return self.unwanted.isEmpty || !facts.has(self.attribute, self.unwanted, isLoose: !self.isDenying)
    }
}

package enum GateAttribute: Sendable {
    case principal, namespace, trustDomain, serviceAccount, sourceIP, remoteIP, destinationIP, destinationPort
    case serverName, host, method, path, requestPrincipal, audiences, presenter
    case header(String)
    case claim([String])

    /// Known for requests only, not for streams.
    var isOfRequests: Bool {
        switch self {
        case .principal, .namespace, .trustDomain, .serviceAccount, .sourceIP, .destinationIP, .destinationPort,
            .serverName:
            false
        case .remoteIP, .host, .method, .path, .requestPrincipal, .audiences, .presenter, .header, .claim: true
        }
    }
}

package enum ValueTest: Sendable {
    case text(TextPattern)
    case template(PathTemplate)
    case block(CIDR)
    case port(UInt16)
    case serviceAccount(AuthorizationPolicy.ServiceAccountMatch)
}

package struct PolicyCompiler {
    /// The mesh's own and its aliases: they stand for one another in policies.
    let trustDomains: [String]
    /// Compile for streams, which have no attributes of requests: an ALLOW alternative that asks for one can never match;
    /// DENY and AUDIT forget the question, so that they match more.
    let forStreams: Bool

    package init(trustDomains: [String], forStreams: Bool) {
        self.trustDomains = trustDomains
        self.forStreams = forStreams
    }

    package func compile(_ policy: RequestPolicy) throws(PolicyProblem) -> CompiledPolicy {
        var rules: [(Int, CompiledRule)] = []
        for (index, rule) in policy.rules.enumerated() {
            do throws(PolicyProblem) {
                if let compiled = try self.compile(rule, isDenying: policy.action != .allow) {
                    rules.append((index, compiled))
                }
            } catch {
                throw PolicyProblem(text: "policy \(policy.key), rule \(index): \(error.text)")
            }
        }
        return CompiledPolicy(key: policy.key, action: policy.action, isDryRun: policy.isDryRun, rules: rules)
    }

    /// nil: it can never match.
    private func compile(_ rule: RequestPolicy.Rule, isDenying: Bool) throws(PolicyProblem) -> CompiledRule? {
        var compiled = CompiledRule()
        for source in rule.from {
            if let tests = self.reduced(self.tests(source, isDenying), isDenying) { compiled.from.append(tests) }
        }
        for operation in rule.to {
            if let tests = self.reduced(try self.tests(operation, isDenying), isDenying) { compiled.to.append(tests) }
        }
        if compiled.from.isEmpty, !rule.from.isEmpty { return nil }
        if compiled.to.isEmpty, !rule.to.isEmpty { return nil }
        var conditions: [AttributeTest] = []
        for condition in rule.when { conditions.append(try self.test(condition, isDenying)) }
        guard let when = self.reduced(conditions, isDenying) else { return nil }
        compiled.when = when
        return compiled
    }

    /// What is left for a stream; nil: the alternative can never match.
    private func reduced(_ tests: [AttributeTest], _ isDenying: Bool) -> [AttributeTest]? {
        guard self.forStreams, tests.contains(where: { $0.attribute.isOfRequests }) else { return tests }
        return isDenying ? tests.filter { !$0.attribute.isOfRequests } : nil
    }

    private func tests(_ source: RequestPolicy.Source, _ isDenying: Bool) -> [AttributeTest] {
        func blocks(_ blocks: [CIDR]) -> [ValueTest] { blocks.map { .block($0) } }
        func accounts(_ accounts: [AuthorizationPolicy.ServiceAccountMatch]) -> [ValueTest] {
            accounts.map { .serviceAccount($0) }
        }
        let lists: [(GateAttribute, [ValueTest], [ValueTest])] = [
            (.principal, self.principals(source.principals), self.principals(source.notPrincipals)),
            (.requestPrincipal, Self.texts(source.requestPrincipals), Self.texts(source.notRequestPrincipals)),
            (.namespace, Self.texts(source.namespaces), Self.texts(source.notNamespaces)),
            (.serviceAccount, accounts(source.serviceAccounts), accounts(source.notServiceAccounts)),
            (.trustDomain, self.domains(source.trustDomains), self.domains(source.notTrustDomains)),
            (.sourceIP, blocks(source.ipBlocks), blocks(source.notIPBlocks)),
            (.remoteIP, blocks(source.remoteIPBlocks), blocks(source.notRemoteIPBlocks)),
        ]
        return Self.asked(lists, isDenying)
    }

    private func tests(
        _ operation: RequestPolicy.Operation, _ isDenying: Bool
    ) throws(PolicyProblem) -> [AttributeTest] {
        func hosts(_ matches: [RequestPolicy.StringMatch]) -> [ValueTest] {
            matches.map { .text(TextPattern($0, ignoresCase: true)) }
        }
        func ports(_ ports: [UInt16]) -> [ValueTest] { ports.map { .port($0) } }
        let lists: [(GateAttribute, [ValueTest], [ValueTest])] = [
            (.host, hosts(operation.hosts), hosts(operation.notHosts)),
            (.destinationPort, ports(operation.ports), ports(operation.notPorts)),
            (.method, Self.texts(operation.methods), Self.texts(operation.notMethods)),
            (.path, try Self.paths(operation.paths), try Self.paths(operation.notPaths)),
        ]
        return Self.asked(lists, isDenying)
    }

    private static func asked(
        _ lists: [(GateAttribute, [ValueTest], [ValueTest])], _ isDenying: Bool
    ) -> [AttributeTest] {
        lists.filter { !$0.1.isEmpty || !$0.2.isEmpty }
            .map { AttributeTest(attribute: $0.0, wanted: $0.1, unwanted: $0.2, isDenying: isDenying) }
    }

    private static func texts(_ matches: [RequestPolicy.StringMatch]) -> [ValueTest] {
        matches.map { .text(TextPattern($0)) }
    }

    private static func paths(_ patterns: [RequestPolicy.PathPattern]) throws(PolicyProblem) -> [ValueTest] {
        var tests: [ValueTest] = []
        for pattern in patterns {
            switch pattern {
            case .text(.exact(let text)):
                tests.append(.text(TextPattern(.exact(PathNormalization.canonicalEscapes(text)))))
            case .text(.prefix(let text)):
                tests.append(.text(TextPattern(.prefix(PathNormalization.canonicalEscapes(text)))))
            case .text(.suffix(let text)):
                tests.append(.text(TextPattern(.suffix(PathNormalization.canonicalEscapes(text)))))
            case .text(.presence): tests.append(.text(TextPattern(.presence)))
            case .template(let text):
                guard let template = PathTemplate(PathNormalization.canonicalEscapes(text)) else {
                    throw PolicyProblem(
                        text: "\"\(text)\" is no path template: {*} and {**} stand for whole segments, and only text"
                            + " follows {**}")
                }
                tests.append(.template(template))
            }
        }
        return tests
    }

    // MARK: Trust domains

    /// A principal of one of our trust domains is the same in all of them.
    private func principals(_ matches: [RequestPolicy.StringMatch]) -> [ValueTest] {
        matches.flatMap { match -> [ValueTest] in
            switch match {
            case .exact(let text): return self.inAllDomains(text).map { .text(TextPattern(.exact($0))) }
            case .prefix(let text): return self.inAllDomains(text).map { .text(TextPattern(.prefix($0))) }
            case .suffix, .presence: return [.text(TextPattern(match))]
            }
        }
    }

    private func inAllDomains(_ principal: String) -> [String] {
        guard let slash = principal.firstIndex(of: "/"), self.isOurs(String(principal[..<slash])) else {
            return [principal]
        }
        return self.trustDomains.map { $0 + principal[slash...] }
    }

    private func domains(_ matches: [RequestPolicy.StringMatch]) -> [ValueTest] {
        matches.flatMap { match -> [ValueTest] in
            guard case .exact(let text) = match, self.isOurs(text) else { return [.text(TextPattern(match))] }
            return self.trustDomains.map { .text(TextPattern(.exact($0))) }
        }
    }

    private func isOurs(_ domain: String) -> Bool { self.trustDomains.contains(domain) }

    // MARK: Conditions

    private func test(_ condition: RequestPolicy.Condition, _ isDenying: Bool) throws(PolicyProblem) -> AttributeTest {
        let attribute: GateAttribute =
            switch condition.attribute {
            case .requestHeader(let name): .header(name.lowercased())
            case .sourceIP: .sourceIP
            case .remoteIP: .remoteIP
            case .sourceNamespace: .namespace
            case .sourceServiceAccount: .serviceAccount
            case .sourceTrustDomain: .trustDomain
            case .sourcePrincipal: .principal
            case .requestPrincipal: .requestPrincipal
            case .requestAudiences: .audiences
            case .requestPresenter: .presenter
            case .requestClaim(let path): .claim(path)
            case .destinationIP: .destinationIP
            case .destinationPort: .destinationPort
            case .serverName: .serverName
            }
        guard !condition.values.isEmpty || !condition.notValues.isEmpty else {
            throw PolicyProblem(text: "a condition on \(condition.attribute) has no values")
        }
        return AttributeTest(
            attribute: attribute, wanted: try self.values(condition.values, condition.attribute, attribute),
            unwanted: try self.values(condition.notValues, condition.attribute, attribute), isDenying: isDenying)
    }

    private func values(
        _ values: [RequestPolicy.ConditionValue], _ name: RequestPolicy.Attribute, _ attribute: GateAttribute
    ) throws(PolicyProblem) -> [ValueTest] {
        var tests: [ValueTest] = []
        for value in values {
            switch (attribute, value) {
            case (.sourceIP, .block(let block)), (.remoteIP, .block(let block)), (.destinationIP, .block(let block)):
                tests.append(.block(block))
            case (.destinationPort, .port(let port)): tests.append(.port(port))
            case (.serviceAccount, .serviceAccount(let account)): tests.append(.serviceAccount(account))
            case (.principal, .text(let match)): tests += self.principals([match])
            case (.trustDomain, .text(let match)): tests += self.domains([match])
            case (.namespace, .text(let match)), (.requestPrincipal, .text(let match)), (.audiences, .text(let match)),
                (.presenter, .text(let match)), (.claim, .text(let match)), (.serverName, .text(let match)),
                (.header, .text(let match)):
                tests.append(.text(TextPattern(match)))
            default: throw PolicyProblem(text: "\(value) is no value for \(name)")
            }
        }
        return tests
    }
}
