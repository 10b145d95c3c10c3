internal import KubeAPI
internal import MeshModel

extension ConfigValidator {
    private static let protocols: Set<String> = [
        "HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "UDP", "MYSQL", "REDIS", "HTTP_PROXY", "",
    ]

    mutating func serviceEntry() {
        let hosts = self.texts("spec.hosts", self.spec["hosts"])
        let resolution = self.spec["resolution"]?.string ?? "NONE"
        let ports = self.spec["ports"]?.array ?? []
        let addresses = self.texts("spec.addresses", self.spec["addresses"])
        let endpoints = self.spec["endpoints"]?.array ?? []
        if hosts.isEmpty { self.fail("spec.hosts", "at least one host is required") }
        for host in hosts {
            if host == "*" {
                self.fail("spec.hosts", "\"*\" would be everything; name a domain such as *.example.com")
            } else {
                self.host("spec.hosts", host)
            }
        }
        if self.spec["workloadSelector"] != nil, !endpoints.isEmpty {
            self.fail("spec", "only one of workloadSelector and endpoints can be set")
        }
        for address in addresses {
            guard let block = CIDR(address) else {
                self.fail("spec.addresses", "\"\(address)\" is no address and no range")
                continue
            }
            let isRange = address.contains("/") && block.prefixLength < block.base.bitWidth
            if isRange, !["NONE", "STATIC"].contains(resolution) {
                self.fail("spec.addresses", "\"\(address)\": ranges are for the resolutions NONE and STATIC")
            }
        }
        self.entryPorts(ports)
        self.entryEndpoints(endpoints, hosts, resolution, ports)
    }

    private mutating func entryPorts(_ ports: [JSONValue]) {
        var numbers: Set<Int64> = []
        var names: Set<String> = []
        for (index, port) in ports.enumerated() {
            let place = "spec.ports[\(index)]"
            self.port("\(place).number", port["number"])
            if let number = port["number"]?.int, !numbers.insert(number).inserted {
                self.fail("\(place).number", "\(number) is there twice")
            }
            let name = port["name"]?.string ?? ""
            if name.isEmpty {
                self.fail("\(place).name", "is required")
            } else if !names.insert(name).inserted {
                self.fail("\(place).name", "\"\(name)\" is there twice")
            }
            let word = port["protocol"]?.string ?? ""
            if !Self.protocols.contains(word.uppercased()) {
                self.fail(
                    "\(place).protocol",
                    "\"\(word)\" is no protocol; known: \(Self.protocols.sorted().dropFirst().joined(separator: ", "))")
            }
            if let target = port["targetPort"]?.int, target != 0 { self.port("\(place).targetPort", .int(target)) }
        }
    }

    private mutating func entryEndpoints(
        _ endpoints: [JSONValue], _ hosts: [String], _ resolution: String, _ ports: [JSONValue]
    ) {
        let names = Set(ports.compactMap { $0["name"]?.string })
        for (index, endpoint) in endpoints.enumerated() {
            let place = "spec.endpoints[\(index)]"
            self.workloadEntry(endpoint, place)
            let address = endpoint["address"]?.string ?? ""
            let isAddress = IPAddress(address) != nil || address.hasPrefix("unix://")
            if resolution == "STATIC", !address.isEmpty, !isAddress {
                self.fail("\(place).address", "\"\(address)\": with STATIC resolution it has to be an address")
            }
            if resolution.hasPrefix("DNS"), !address.isEmpty, !isAddress {
                self.host("\(place).address", address, allowsWildcard: false)
            }
            for name in endpoint["ports"]?.object?.keys.sorted() ?? [] where !names.contains(name) {
                self.fail("\(place).ports", "\"\(name)\" is none of the entry's ports")
            }
        }
        switch resolution {
        case "NONE":
            if !endpoints.isEmpty { self.fail("spec.endpoints", "make no sense with the resolution NONE") }
            if self.spec["workloadSelector"] != nil {
                self.warn("spec.workloadSelector", "has no effect with the resolution NONE")
            }
        case "STATIC": break
        case "DNS", "DNS_ROUND_ROBIN":
            if endpoints.isEmpty {
                for host in hosts where host.hasPrefix("*") {
                    self.fail(
                        "spec.hosts", "\"\(host)\" cannot be looked up: name endpoints, or a host without wildcard")
                }
            }
            if resolution == "DNS_ROUND_ROBIN", endpoints.count > 1 {
                self.fail("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint at most")
            }
        case "DYNAMIC_DNS":
            for host in hosts where !host.hasPrefix("*.") {
                self.fail("spec.hosts", "\"\(host)\": DYNAMIC_DNS is for wildcard hosts")
            }
            if self.spec["addresses"]?.array?.isEmpty == false {
                self.fail("spec.addresses", "make no sense with DYNAMIC_DNS")
            }
            if !endpoints.isEmpty { self.fail("spec.endpoints", "make no sense with DYNAMIC_DNS") }
        default:
            self.fail("spec.resolution", "\"\(resolution)\" is none of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS")
        }
    }

    mutating func workloadEntry(_ entry: JSONValue, _ place: String) {
        let address = entry["address"]?.string ?? ""
        if address.isEmpty, entry["network"]?.string ?? "" == "" {
            self.fail("\(place).address", "an address or a network is required")
        }
        if address.hasPrefix("unix://"), entry["ports"]?.object?.isEmpty == false {
            self.fail("\(place).ports", "a Unix socket has none")
        }
        for (name, port) in (entry["ports"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            self.port("\(place).ports.\(name)", port)
        }
    }

    mutating func destinationRule() {
        let host = self.spec["host"]?.string ?? ""
        if host.isEmpty { self.fail("spec.host", "is required") } else { self.host("spec.host", host) }
        var names: Set<String> = []
        self.trafficPolicy(self.spec["trafficPolicy"], "spec.trafficPolicy")
        for (index, subset) in (self.spec["subsets"]?.array ?? []).enumerated() {
            let name = subset["name"]?.string ?? ""
            if name.isEmpty {
                self.fail("spec.subsets[\(index)].name", "is required")
            } else if !names.insert(name).inserted {
                self.fail("spec.subsets[\(index)].name", "\"\(name)\" is there twice")
            }
            self.trafficPolicy(subset["trafficPolicy"], "spec.subsets[\(index)].trafficPolicy")
        }
    }

    private mutating func trafficPolicy(_ policy: JSONValue?, _ place: String) {
        guard let tls = policy?["tls"] else { return }
        let mode = tls["mode"]?.string ?? "DISABLE"
        guard ["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"].contains(mode) else {
            return self.fail("\(place).tls.mode", "\"\(mode)\" is none of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL")
        }
        if mode == "MUTUAL", tls["credentialName"]?.string ?? "" == "" {
            for name in ["clientCertificate", "privateKey"] where tls[name]?.string ?? "" == "" {
                self.fail("\(place).tls.\(name)", "is required with MUTUAL")
            }
        }
    }

    mutating func virtualService() {
        let hosts = self.texts("spec.hosts", self.spec["hosts"])
        for host in hosts { self.host("spec.hosts", host) }
        let kinds = ["http", "tls", "tcp"]
        if !hosts.isEmpty, kinds.allSatisfy({ self.spec[$0]?.array?.isEmpty ?? true }) {
            self.fail("spec", "needs http, tls or tcp routes")
        }
        for kind in kinds {
            for (index, route) in (self.spec[kind]?.array ?? []).enumerated() {
                let place = "spec.\(kind)[\(index)]"
                let answers = ["redirect", "directResponse", "delegate"].contains { route[$0] != nil }
                let targets = route["route"]?.array ?? []
                if targets.isEmpty, !(kind == "http" && answers) {
                    self.fail(place, "needs a route\(kind == "http" ? ", redirect, directResponse or delegate" : "")")
                }
                for (at, target) in targets.enumerated() {
                    if target.at("destination", "host")?.string ?? "" == "" {
                        self.fail("\(place).route[\(at)].destination.host", "is required")
                    }
                    if let weight = target["weight"]?.int, weight < 0 {
                        self.fail("\(place).route[\(at)].weight", "is negative")
                    }
                }
                if targets.count > 1, targets.allSatisfy({ $0["weight"]?.int ?? 0 == 0 }) {
                    self.fail("\(place).route", "several destinations need weights")
                }
            }
        }
    }

    mutating func gateway() {
        let servers = self.spec["servers"]?.array ?? []
        if servers.isEmpty { self.fail("spec.servers", "at least one server is required") }
        for (index, server) in servers.enumerated() {
            let place = "spec.servers[\(index)]"
            self.port("\(place).port.number", server.at("port", "number"))
            let word = server.at("port", "protocol")?.string ?? ""
            if word.isEmpty || !Self.protocols.contains(word.uppercased()) {
                self.fail("\(place).port.protocol", "\"\(word)\" is no protocol")
            }
            let hosts = self.texts("\(place).hosts", server["hosts"])
            if hosts.isEmpty { self.fail("\(place).hosts", "at least one host is required") }
            for host in hosts { self.host("\(place).hosts", String(host.split(separator: "/").last ?? "")) }
        }
    }
}
