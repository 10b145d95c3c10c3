internal import MeshModel
internal import MeshNameService

/// What `martlet istio-iptables` was told: Istio's flags, because its injection templates write them.
package struct SidecarRulesOptions: Hashable, Sendable {
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
        init(_ flag: String, _ value: String, wanted: String) {
            self.description = "\(flag) \"\(value)\": wanted \(wanted)"
        }
    }

    package var rules = SidecarRules()
    /// Print the rules instead of setting them.
    package var isDryRun = false
    /// Take the rules away instead.
    package var isCleanup = false

    private static let short: [String: String] = [
        "-p": "--envoy-port", "-z": "--inbound-capture-port", "-e": "--inbound-tunnel-port", "-u": "--proxy-uid",
        "-g": "--proxy-gid", "-m": "--istio-inbound-interception-mode", "-b": "--istio-inbound-ports",
        "-d": "--istio-local-exclude-ports", "-i": "--istio-service-cidr", "-x": "--istio-service-exclude-cidr",
        "-q": "--istio-outbound-ports", "-o": "--istio-local-outbound-ports-exclude",
        "-c": "--istio-exclude-interfaces", "-k": "--kube-virt-interfaces", "-t": "--istio-inbound-tproxy-mark",
        "-r": "--istio-inbound-tproxy-route-table", "-n": "--dry-run",
    ]
    private static let switches: Set<String> = [
        "--dry-run", "--cleanup-only", "--drop-invalid", "--redirect-dns", "--capture-all-dns", "--dual-stack",
        "--run-validation", "--skip-rule-apply", "--force-apply", "--reconcile", "--native-nftables",
    ]

    /// - Parameters:
    ///   - environment: `INVALID_DROP`, `ISTIO_META_DNS_CAPTURE`.
    ///   - arguments: after `istio-iptables`. An empty value means nothing, `*` everything.
    ///   - resolvConf: text of the pod's `/etc/resolv.conf`: whose names are captured.
    package init(environment: [String: String], arguments: [String], resolvConf: String = "") throws(Invalid) {
        var capturesNames = environment["ISTIO_META_DNS_CAPTURE"] == "true"
        var capturesAll = false
        var group: String?
        var rest = arguments[...]
        while let word = rest.popFirst() {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let flag = Self.short[parts[0]] ?? parts[0]
            guard flag.hasPrefix("--") else {
                throw Invalid("argument", word, wanted: "flags only, such as -p 15001")
            }
            if Self.switches.contains(flag) {
                let value = parts.count > 1 ? parts[1] : "true"
                guard ["true", "false"].contains(value) else { throw Invalid(flag, value, wanted: "true or false") }
                switch flag {
                // The flag outdoes the environment.
                case "--redirect-dns": capturesNames = value == "true"
                case "--capture-all-dns": capturesAll = value == "true"
                default: if value == "true" { try self.turnOn(flag) }
                }
                continue
            }
            guard let value = parts.count > 1 ? parts[1] : rest.popFirst() else {
                throw Invalid("argument", word, wanted: "a value after it")
            }
            if flag == "--proxy-gid" { group = value }
            try self.set(flag, value)
        }
        if let group { self.rules.groupIDs = try Self.ids("--proxy-gid", group) }
        if environment["INVALID_DROP"] == "true" { self.rules.dropsInvalid = true }
        guard capturesNames else { return }
        if capturesAll {
            self.rules.names = .all
            return
        }
        let resolvers = DNSResolvers.parse(resolvConf).map(\.address)
        if resolvers.isEmpty, !self.isCleanup {
            throw Invalid(
                "--redirect-dns", "true",
                wanted: "a nameserver in the pod's /etc/resolv.conf, or --capture-all-dns with it")
        }
        self.rules.names = .of(resolvers)
    }

    private mutating func turnOn(_ flag: String) throws(Invalid) {
        switch flag {
        case "--dry-run", "--skip-rule-apply": self.isDryRun = true
        case "--cleanup-only": self.isCleanup = true
        case "--drop-invalid": self.rules.dropsInvalid = true
        case "--run-validation":
            throw Invalid(flag, "true", wanted: "false: rules that the CNI plugin set are not validated here")
        case "--native-nftables":
            throw Invalid(
                flag, "true", wanted: "false: the chains are made with iptables, which may itself use nftables")
        default: break
        }
    }

    private mutating func set(_ flag: String, _ value: String) throws(Invalid) {
        switch flag {
        case "--envoy-port": self.rules.outboundPort = try Self.port(flag, value)
        case "--inbound-capture-port": self.rules.inboundPort = try Self.port(flag, value)
        case "--inbound-tunnel-port": self.rules.tunnelPort = try Self.port(flag, value)
        case "--proxy-uid":
            self.rules.userIDs = try Self.ids(flag, value)
            self.rules.groupIDs = self.rules.userIDs
        case "--proxy-gid": break
        case "--istio-inbound-interception-mode":
            guard value == "REDIRECT" else {
                throw Invalid(
                    flag, value, wanted: "REDIRECT: other modes of capturing inbound traffic are not supported")
            }
        case "--istio-inbound-ports":
            self.rules.inboundPorts = value == "*" ? .all : .only(try Self.ports(flag, value))
        case "--istio-local-exclude-ports": self.rules.inboundPortsExcluded = try Self.ports(flag, value)
        case "--istio-service-cidr":
            self.rules.outboundRanges = value == "*" ? .all : .only(try Self.blocks(flag, value))
        case "--istio-service-exclude-cidr": self.rules.outboundRangesExcluded = try Self.blocks(flag, value)
        case "--istio-outbound-ports": self.rules.outboundPortsIncluded = try Self.ports(flag, value)
        case "--istio-local-outbound-ports-exclude": self.rules.outboundPortsExcluded = try Self.ports(flag, value)
        case "--istio-exclude-interfaces": self.rules.interfacesExcluded = try Self.interfaces(flag, value)
        case "--kube-virt-interfaces", "--reroute-virtual-interfaces":
            self.rules.virtualInterfaces = try Self.interfaces(flag, value)
        // Of the mode that is refused above, and of the log that has one level.
        case "--istio-inbound-tproxy-mark", "--istio-inbound-tproxy-route-table", "--log_output_level",
            "--iptables-probe-port", "--probe-timeout", "--iptables-version":
            break
        default:
            throw Invalid("argument", flag, wanted: "one of \((Self.short.values.sorted()).joined(separator: ", "))")
        }
    }

    private static func list(_ value: String) -> [String] {
        value.split(separator: ",").map { $0.filter { $0 != " " } }.filter { !$0.isEmpty }
    }

    private static func port(_ flag: String, _ value: String) throws(Invalid) -> UInt16 {
        guard let port = UInt16(value), port > 0 else { throw Invalid(flag, value, wanted: "a port from 1 to 65535") }
        return port
    }

    private static func ports(_ flag: String, _ value: String) throws(Invalid) -> [UInt16] {
        var ports: [UInt16] = []
        // A row each, the first of equal ones.
        for word in self.list(value) {
            let port = try self.port(flag, word)
            if !ports.contains(port) { ports.append(port) }
        }
        return ports
    }

    private static func ids(_ flag: String, _ value: String) throws(Invalid) -> [UInt32] {
        var ids: [UInt32] = []
        for word in self.list(value) {
            guard let id = UInt32(word) else { throw Invalid(flag, value, wanted: "numbers, separated by commas") }
            ids.append(id)
        }
        if ids.isEmpty { throw Invalid(flag, value, wanted: "whom the proxy runs as, e.g. 1337") }
        return ids
    }

    private static func blocks(_ flag: String, _ value: String) throws(Invalid) -> [CIDR] {
        var blocks: [CIDR] = []
        for word in self.list(value) {
            guard let block = CIDR(word) else {
                throw Invalid(flag, word, wanted: "address ranges such as 10.0.0.0/8, separated by commas")
            }
            blocks.append(block)
        }
        return blocks
    }

    private static func interfaces(_ flag: String, _ value: String) throws(Invalid) -> [String] {
        let names = self.list(value)
        if let bad = names.first(where: { !PodRules.isInterfaceName($0) }) {
            throw Invalid(flag, bad, wanted: "names of network interfaces, separated by commas")
        }
        return names
    }
}
