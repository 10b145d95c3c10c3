internal import MeshLinux
internal import MeshModel

/// `martlet istio-iptables`: the init step of a pod with a sidecar. Sets the rules of the namespace it runs in, and ends.
public enum SidecarRulesRole {
    /// Another program may hold the lock of iptables.
    private static let lockWaitSeconds = 30
    private static let timeMax = Duration.seconds(40)
    private static let resolvConfPath = "/etc/resolv.conf"

    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// - Parameters:
    ///   - environment, arguments: see ``SidecarRulesOptions``.
    /// - Returns: what was done, for the log.
    /// - Throws: for flags that cannot be used, and when iptables is missing or refuses.
    public static func run(environment: [String: String], arguments: [String]) throws -> String {
        // One that is missing matters only where names are captured, and then the options say so.
        let resolvConf = (try? Files.readText(Self.resolvConfPath)) ?? ""
        let options = try SidecarRulesOptions(
            environment: environment, arguments: arguments, resolvConf: resolvConf)
        return try self.run(options, isIPv6: try self.hasIPv6())
    }

    /// In the network namespace of the calling thread.
    package static func run(_ options: SidecarRulesOptions, isIPv6: Bool) throws -> String {
        let families: [SidecarRules.Family] = isIPv6 ? [.v4, .v6] : [.v4]
        if options.isDryRun {
            var text = ""
            for family in families { text += "# \(family)\n" + options.rules.installation(family, present: [:]) }
            return text
        }
        for family in families {
            let present = try self.present(family, options)
            let text =
                options.isCleanup
                ? options.rules.removal(family, present: present)
                : options.rules.installation(family, present: present)
            if text.isEmpty { continue }
            let program = self.program(family)
            let output = try self.run(
                ["\(program)-restore", "--noflush", "--wait=\(self.lockWaitSeconds)"], input: text)
            guard output.exitCode == 0 else {
                throw Failure(
                    description:
                        "\(program)-restore refused the rules: \(self.reason(output)); the step needs NET_ADMIN and "
                        + "NET_RAW as root, and a kernel with the owner and REDIRECT modules\n\(text)")
            }
        }
        let names = isIPv6 ? "IPv4 and IPv6" : "IPv4"
        return options.isCleanup
            ? "istio-iptables: removed the rules of the sidecar for \(names)"
            : "istio-iptables: outbound connections go to port \(options.rules.outboundPort), inbound ones to port "
                + "\(options.rules.inboundPort)\(self.capture(options.rules.names)), for \(names)"
    }

    private static func capture(_ names: SidecarRules.Names) -> String {
        switch names {
        case .none: ""
        case .all: ", questions for names to port \(Redirection.dnsPort)"
        case .of(let resolvers):
            ", questions for names that \(resolvers.map(\.description).joined(separator: ", ")) would get to port "
                + "\(Redirection.dnsPort)"
        }
    }

    private static func program(_ family: SidecarRules.Family) -> String { family == .v4 ? "iptables" : "ip6tables" }

    private static func present(
        _ family: SidecarRules.Family, _ options: SidecarRulesOptions
    ) throws -> [String: String] {
        var present: [String: String] = [:]
        let program = "\(self.program(family))-save"
        for table in SidecarRules.tables {
            let output = try self.run([program, "-t", table])
            // Kernels without this table are good enough for who captures no names; nothing of ours is in it then.
            if output.exitCode != 0, table == "raw", options.rules.names == .none { continue }
            guard output.exitCode == 0 else {
                throw Failure(description: "\(program) cannot read table \(table): \(self.reason(output))")
            }
            present[table] = output.standardOutput
        }
        return present
    }

    /// Whether the pod has an address that others reach over IPv6.
    private static func hasIPv6() throws -> Bool {
        for bytes in try InterfaceAddresses.all() where bytes.count == 16 {
            // fe80::/10 and ::1
            let isLinkLocal = bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
            if isLinkLocal || bytes.dropLast().allSatisfy({ $0 == 0 }) { continue }
            return true
        }
        return false
    }

    private static func run(_ arguments: [String], input: String = "") throws -> Program.Output {
        do {
            return try Program.run(arguments, input: input, timeout: Self.timeMax)
        } catch {
            guard error.isNotFound else { throw error }
            throw Failure(description: "the program \(arguments[0]) is missing in this image; install iptables")
        }
    }

    private static func reason(_ output: Program.Output) -> String {
        let line = output.standardError.split(separator: "\n").first.map(String.init) ?? ""
        return line.isEmpty ? "exit code \(output.exitCode)" : line
    }
}
