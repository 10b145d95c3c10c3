package import KubeAPI
package import MeshDNS

/// What cluster DNS answers: a pure function of a question and of the Services and EndpointSlices at that moment.
///
/// The schema is the Kubernetes DNS specification's: `svc.ns.svc.<domain>`, `_port._proto.svc.ns.svc.<domain>`,
/// `<endpoint>.svc.ns.svc.<domain>`, `a-b-c-d.ns.pod.<domain>`, and pointers for service and endpoint addresses.
package struct ClusterZone: Sendable {
    /// Seconds; also how long an absence may be remembered.
    package static let ttl: UInt32 = 5
    private static let chainMax = 8

    /// The objects at the time of the question.
    package struct Objects: Sendable {
        package var hasNamespace: @Sendable (String) -> Bool
        package var service: @Sendable (ObjectKey) -> KubeObject?
        /// All slices of a Service.
        package var slices: @Sendable (ObjectKey) -> [KubeObject]
        package var services: @Sendable () -> [KubeObject]

        package init(
            hasNamespace: @escaping @Sendable (String) -> Bool,
            service: @escaping @Sendable (ObjectKey) -> KubeObject?,
            slices: @escaping @Sendable (ObjectKey) -> [KubeObject],
            services: @escaping @Sendable () -> [KubeObject]
        ) {
            self.hasNamespace = hasNamespace
            self.service = service
            self.slices = slices
            self.services = services
        }

        package init(_ view: ClusterView) {
            self.init(
                hasNamespace: { view.cache(.namespaces).get(ObjectKey("", $0)) != nil },
                service: { view.cache(.services).get($0) },
                slices: { view.cache(.endpointSlices).list(ClusterView.By.service, "\($0)") },
                services: { view.cache(.services).list() })
        }
    }

    package enum Answer: Hashable, Sendable {
        case response(DNSResponse)
        /// Not ours: ask the host's resolvers.
        case forward
        /// The answers so far end in a name outside; its addresses complete them.
        case chase(DNSName, DNSResponse)
    }

    private let domain: DNSName
    private let objects: Objects

    package init(domain: DNSName, objects: Objects) {
        self.domain = domain
        self.objects = objects
    }

    package func answer(_ question: DNSQuery.Question) -> Answer {
        if let labels = question.name.below(self.domain) { return self.inside(question, labels) }
        if let reversed = DNSName("in-addr.arpa").flatMap({ question.name.below($0) }), reversed.count == 4 {
            let records = self.pointers(reversed.reversed().joined(separator: "."), question.name)
            // Whoever is not one of our services may be somebody outside.
            if !records.isEmpty { return self.found(question, records) }
        }
        return .forward
    }

    // MARK: Shapes of answers

    private var soa: DNSRecord {
        DNSRecord(
            self.domain, ttl: Self.ttl,
            .soa(
                server: self.name(["ns", "dns"]), mailbox: self.name(["hostmaster"]), serial: 1, refresh: 7_200,
                retry: 1_800, expire: 86_400, minimum: Self.ttl))
    }
    /// Our own names are short enough; a zone that is not is refused when the server is made.
    private func name(_ labels: [String]) -> DNSName {
        DNSName(labels: labels.map { Array($0.utf8)[...] } + self.domain.labels) ?? self.domain
    }
    private var absent: Answer { .response(DNSResponse(.nameError, authority: [self.soa])) }
    private func found(_ question: DNSQuery.Question, _ records: [DNSRecord], additional: [DNSRecord] = []) -> Answer {
        let matching = records.filter { $0.type == question.type || question.type == .any || $0.type == .cname }
        return .response(
            DNSResponse(
                .noError, answers: matching, authority: matching.isEmpty ? [self.soa] : [],
                additional: matching.isEmpty ? [] : additional))
    }

    // MARK: Names of the zone

    private func inside(_ question: DNSQuery.Question, _ labels: [String]) -> Answer {
        switch labels.last {
        case nil:
            let records = [self.soa, DNSRecord(self.domain, ttl: Self.ttl, .ns(self.name(["ns", "dns"])))]
            return self.found(question, records)
        case "svc": return self.service(question, Array(labels.dropLast()), depth: 0)
        case "pod": return self.pod(question, Array(labels.dropLast()))
        default: return self.absent
        }
    }

    private func pod(_ question: DNSQuery.Question, _ labels: [String]) -> Answer {
        if labels.isEmpty { return self.found(question, []) }
        guard let namespace = labels.last, self.objects.hasNamespace(namespace) else { return self.absent }
        if labels.count == 1 { return self.found(question, []) }
        let address = labels[0].split(separator: "-").joined(separator: ".")
        guard labels.count == 2, let number = IPv4Text.number(address) else { return self.absent }
        return self.found(question, [DNSRecord(question.name, ttl: Self.ttl, .a(number))])
    }

    private func service(_ question: DNSQuery.Question, _ labels: [String], depth: Int) -> Answer {
        if labels.isEmpty { return self.found(question, []) }
        guard let namespace = labels.last, self.objects.hasNamespace(namespace) else { return self.absent }
        if labels.count == 1 { return self.found(question, []) }
        let key = ObjectKey(namespace, labels[labels.count - 2])
        guard let service = self.objects.service(key) else { return self.absent }
        let rest = labels.dropLast(2)
        if service.spec["type"]?.string == "ExternalName" {
            return rest.isEmpty ? self.external(question, service, depth) : self.absent
        }
        switch rest.count {
        case 0: return self.addresses(question, service, key)
        case 1: return self.endpoint(question, key, rest[0])
        case 2 where rest[0].hasPrefix("_") && rest[1].hasPrefix("_"):
            return self.ports(
                question, service, key, port: String(rest[0].dropFirst()), proto: String(rest[1].dropFirst()))
        default: return self.absent
        }
    }

    private func external(_ question: DNSQuery.Question, _ service: KubeObject, _ depth: Int) -> Answer {
        guard let target = service.spec["externalName"]?.string.flatMap({ DNSName($0) }) else { return self.absent }
        let alias = DNSRecord(question.name, ttl: Self.ttl, .cname(target))
        if question.type == .cname { return self.found(question, [alias]) }
        guard let labels = target.below(self.domain) else {
            return .chase(target, DNSResponse(.noError, answers: [alias]))
        }
        guard depth < Self.chainMax, labels.last == "svc" else { return self.found(question, [alias]) }
        switch self.service(DNSQuery.Question(target, question.type), Array(labels.dropLast()), depth: depth + 1) {
        case .response(var response):
            response.answers.insert(alias, at: 0)
            return .response(response)
        case .chase(let name, var response):
            response.answers.insert(alias, at: 0)
            return .chase(name, response)
        case .forward: return self.found(question, [alias])
        }
    }

    private func addresses(_ question: DNSQuery.Question, _ service: KubeObject, _ key: ObjectKey) -> Answer {
        if question.type == .srv { return self.ports(question, service, key, port: nil, proto: nil) }
        if let address = service.spec["clusterIP"]?.string.flatMap({ IPv4Text.number($0) }) {
            return self.found(question, [DNSRecord(question.name, ttl: Self.ttl, .a(address))])
        }
        var seen: Set<UInt32> = []
        let records = self.endpoints(key).compactMap { endpoint in
            seen.insert(endpoint.address).inserted ? DNSRecord(question.name, ttl: Self.ttl, .a(endpoint.address)) : nil
        }
        // Clients take the first: spread them.
        return self.found(question, records.shuffled())
    }

    private struct Endpoint {
        let name: String
        let address: UInt32
        let ports: [JSONValue]
    }

    /// Ready endpoints; the Service's `publishNotReadyAddresses` has already made all of them ready in their slices.
    private func endpoints(_ key: ObjectKey) -> [Endpoint] {
        self.objects.slices(key).filter { $0.json["addressType"]?.string == "IPv4" }.flatMap { slice in
            (slice.json["endpoints"]?.array ?? []).flatMap { endpoint -> [Endpoint] in
                guard endpoint.at("conditions", "ready")?.bool ?? true else { return [] }
                return (endpoint["addresses"]?.array ?? []).compactMap { address in
                    guard let text = address.string, let number = IPv4Text.number(text) else { return nil }
                    let dashed = String(text.map { $0 == "." ? "-" : $0 })
                    return Endpoint(
                        name: endpoint["hostname"]?.string ?? dashed, address: number,
                        ports: slice.json["ports"]?.array ?? [])
                }
            }
        }
    }

    private func endpoint(_ question: DNSQuery.Question, _ key: ObjectKey, _ name: String) -> Answer {
        let matching = self.endpoints(key).filter { $0.name.lowercased() == name }
        if matching.isEmpty { return self.absent }
        return self.found(question, matching.map { DNSRecord(question.name, ttl: Self.ttl, .a($0.address)) })
    }

    /// SRV records; of all ports when none is named.
    private func ports(
        _ question: DNSQuery.Question, _ service: KubeObject, _ key: ObjectKey, port: String?, proto: String?
    ) -> Answer {
        func matches(_ entry: JSONValue) -> Bool {
            (port == nil || entry["name"]?.string?.lowercased() == port)
                && (proto == nil || (entry["protocol"]?.string ?? "TCP").lowercased() == proto)
        }
        let base = [key.name, key.namespace, "svc"]
        var records: [DNSRecord] = []
        var targets: [DNSRecord] = []
        func add(_ number: Int64?, _ target: DNSName, _ address: UInt32) {
            guard let number = number.flatMap({ UInt16(exactly: $0) }) else { return }
            records.append(
                DNSRecord(
                    question.name, ttl: Self.ttl, .srv(priority: 0, weight: 100, port: number, target: target)))
            let record = DNSRecord(target, ttl: Self.ttl, .a(address))
            if !targets.contains(record) { targets.append(record) }
        }
        if let address = service.spec["clusterIP"]?.string.flatMap({ IPv4Text.number($0) }) {
            for entry in service.spec["ports"]?.array ?? [] where matches(entry) {
                add(entry["port"]?.int, self.name(base), address)
            }
        } else {
            for endpoint in self.endpoints(key) {
                for entry in endpoint.ports where matches(entry) {
                    add(entry["port"]?.int, self.name([endpoint.name] + base), endpoint.address)
                }
            }
        }
        if records.isEmpty, port != nil { return self.absent }
        return self.found(question, records, additional: targets)
    }

    private func pointers(_ address: String, _ owner: DNSName) -> [DNSRecord] {
        guard let number = IPv4Text.number(address) else { return [] }
        var records: [DNSRecord] = []
        for service in self.objects.services() {
            let base = [service.name, service.namespace, "svc"]
            if service.spec["clusterIP"]?.string == address {
                records.append(DNSRecord(owner, ttl: Self.ttl, .ptr(self.name(base))))
            } else if service.spec["clusterIP"]?.string == "None" {
                for endpoint in self.endpoints(ObjectKey(service)) where endpoint.address == number {
                    records.append(DNSRecord(owner, ttl: Self.ttl, .ptr(self.name([endpoint.name] + base))))
                }
            }
        }
        return records
    }
}

extension DNSName {
    /// The labels before `zone`, in lower case; nil when the name is not at or below it.
    func below(_ zone: DNSName) -> [String]? {
        let own = self.labels
        let count = own.count - zone.labels.count
        guard count >= 0, DNSName(labels: own[count...]) == zone else { return nil }
        return own[..<count].map { String(decoding: $0, as: UTF8.self).lowercased() }
    }
}

/// IPv4 addresses as numbers.
package enum IPv4Text {
    package static func number(_ text: some StringProtocol) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
                let byte = UInt8(part)
            else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }
}
