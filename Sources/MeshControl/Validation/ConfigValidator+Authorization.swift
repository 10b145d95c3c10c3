internal import Foundation
internal import KubeAPI
internal import MeshModel

extension ConfigValidator {
    private static let keys: Set<String> = [
        "request.headers", "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount",
        "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims",
        "destination.ip", "destination.port", "connection.sni", "experimental.envoy.filters",
    ]
    private static let httpOperations = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"]
    private static let httpSources = [
        "requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks",
    ]
    private static let serviceAccountsMax = 16

    mutating func authorizationPolicy() {
        let action = self.spec["action"]?.string ?? "ALLOW"
        let rules = self.spec["rules"]?.array
        if action == "DENY", rules?.isEmpty ?? true {
            self.fail("spec.rules", "DENY without rules has no effect; [{}] denies everything")
        }
        if let text = self.object.annotations["istio.io/dry-run"] {
            if Names.boolean(text) == nil {
                self.fail("annotation istio.io/dry-run", "\"\(text)\" is neither true nor false")
            }
            if !["ALLOW", "DENY"].contains(action) {
                self.fail("annotation istio.io/dry-run", "is for ALLOW and DENY only")
            }
        }
        let provider = self.spec.at("provider", "name")?.string ?? ""
        if action == "CUSTOM" {
            if provider.isEmpty { self.fail("spec.provider.name", "is required with CUSTOM") }
        } else if self.spec["provider"] != nil {
            self.fail("spec.provider", "is for CUSTOM only")
        }
        for (index, rule) in (rules ?? []).enumerated() { self.rule(rule, "spec.rules[\(index)]", action) }
    }

    private mutating func rule(_ rule: JSONValue, _ place: String, _ action: String) {
        for name in ["from", "to"] where rule[name]?.array?.isEmpty == true {
            self.fail("\(place).\(name)", "is empty; leave it out instead")
        }
        for (index, from) in (rule["from"]?.array ?? []).enumerated() {
            let place = "\(place).from[\(index)].source"
            guard let source = from["source"], source.object?.isEmpty == false else {
                self.fail(place, "is empty")
                continue
            }
            self.source(source, place, action)
        }
        for (index, to) in (rule["to"]?.array ?? []).enumerated() {
            let place = "\(place).to[\(index)].operation"
            guard let operation = to["operation"], operation.object?.isEmpty == false else {
                self.fail(place, "is empty")
                continue
            }
            self.operation(operation, place)
        }
        for (index, condition) in (rule["when"]?.array ?? []).enumerated() {
            self.condition(condition, "\(place).when[\(index)]")
        }
        // Without ports the rule is also about ports where nobody speaks HTTP, and is followed there without its HTTP half.
        let operations = (rule["to"]?.array ?? []).compactMap { $0["operation"] }
        let usesHTTP =
            operations.contains { operation in Self.httpOperations.contains { operation[$0] != nil } }
            || (rule["from"]?.array ?? []).contains { from in Self.httpSources.contains { from.at("source", $0) != nil }
            }
        if action == "DENY", usesHTTP, !operations.contains(where: { $0["ports"] != nil }) {
            self.warn(
                place,
                "denies by what only HTTP has, without ports: on ports of other protocols all of its connections are denied"
            )
        }
    }

    private mutating func source(_ source: JSONValue, _ place: String, _ action: String) {
        for name in source.object?.keys.sorted() ?? [] {
            let values = self.texts("\(place).\(name)", source[name])
            switch name {
            case "ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks":
                for value in values where CIDR(value) == nil {
                    self.fail("\(place).\(name)", "\"\(value)\" is no address and no range such as 10.0.0.0/8")
                }
            case "serviceAccounts", "notServiceAccounts":
                if values.count > Self.serviceAccountsMax {
                    self.fail("\(place).\(name)", "more than \(Self.serviceAccountsMax) accounts")
                }
                for value in values
                where value.contains("*") || value.split(separator: "/", omittingEmptySubsequences: false).count > 2 {
                    self.fail("\(place).\(name)", "\"\(value)\" is neither <account> nor <namespace>/<account>")
                }
            case "principals", "notPrincipals", "namespaces", "notNamespaces", "requestPrincipals",
                "notRequestPrincipals":
                if action == "CUSTOM" { self.fail("\(place).\(name)", "cannot be used with CUSTOM") }
            default: break
            }
        }
        let names = Set(source.object?.keys.map { $0 } ?? [])
        for prefix in ["", "not"] {
            func named(_ name: String) -> String {
                prefix.isEmpty ? name : prefix + name.prefix(1).uppercased() + name.dropFirst()
            }
            if names.contains(named("serviceAccounts")),
                names.contains(named("principals")) || names.contains(named("namespaces"))
            {
                self.fail(
                    place,
                    "\(named("serviceAccounts")) cannot be combined with \(named("principals")) or \(named("namespaces"))"
                )
            }
        }
    }

    private mutating func operation(_ operation: JSONValue, _ place: String) {
        for name in operation.object?.keys.sorted() ?? [] {
            let values = self.texts("\(place).\(name)", operation[name])
            switch name {
            case "ports", "notPorts": for value in values { self.port("\(place).\(name)", .string(value)) }
            case "paths", "notPaths": for value in values { self.path(value, "\(place).\(name)") }
            default: break
            }
        }
    }

    /// `/a/*`, `*/a`, or a template such as `/a/{*}/b/{**}`.
    private mutating func path(_ path: String, _ place: String) {
        guard path.contains("{") || path.contains("}") else { return }
        var pieces = path
        let many = path.components(separatedBy: "{**}").count - 1
        if many > 1 { self.fail(place, "\"\(path)\": {**} can be there only once") }
        for piece in ["{**}", "{*}"] { pieces = pieces.replacing(piece, with: "") }
        if pieces.contains("{") || pieces.contains("}") {
            self.fail(place, "\"\(path)\": only {*} and {**} are templates")
        }
        if pieces.contains("*") { self.fail(place, "\"\(path)\": templates and * cannot be mixed") }
    }

    private mutating func condition(_ condition: JSONValue, _ place: String) {
        let key = condition["key"]?.string ?? ""
        if key.isEmpty { return self.fail("\(place).key", "is required") }
        let known = key.prefix { $0 != "[" }
        if !Self.keys.contains(String(known)), !key.hasPrefix("experimental.") {
            self.fail(
                "\(place).key", "\"\(key)\" is no attribute; known: \(Self.keys.sorted().joined(separator: ", "))")
        }
        let values = self.texts("\(place).values", condition["values"])
        let others = self.texts("\(place).notValues", condition["notValues"])
        if values.isEmpty, others.isEmpty { self.fail(place, "needs values or notValues") }
        for value in values + others {
            switch known {
            case "source.ip", "remote.ip", "destination.ip":
                if CIDR(value) == nil { self.fail(place, "\"\(value)\" is no address and no range such as 10.0.0.0/8") }
            case "destination.port": self.port(place, .string(value))
            default: break
            }
        }
    }
}
