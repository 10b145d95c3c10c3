internal import Foundation
package import KubeAPI

/// Structural validation of Istio's kinds, with the place of each fault. What is not named here is left to the
/// definitions' own schemas.
package struct ConfigValidator {
    package struct Findings: Hashable, Sendable {
        package var errors: [String] = []
        /// Accepted, but not what its author meant.
        package var warnings: [String] = []
    }

    private(set) var findings = Findings()
    let spec: JSONValue
    let object: KubeObject

    package static func check(_ object: KubeObject) -> Findings {
        var validator = ConfigValidator(spec: object.spec, object: object)
        validator.selector("spec.selector", object.spec["selector"])
        switch object.kind {
        case "AuthorizationPolicy": validator.authorizationPolicy()
        case "PeerAuthentication": validator.peerAuthentication()
        case "RequestAuthentication": validator.requestAuthentication()
        case "ServiceEntry": validator.serviceEntry()
        case "WorkloadEntry": validator.workloadEntry(object.spec, "spec")
        case "Telemetry": validator.telemetry()
        case "DestinationRule": validator.destinationRule()
        case "VirtualService": validator.virtualService()
        case "Gateway" where object.apiVersion.hasPrefix("networking.istio.io/"): validator.gateway()
        default: break
        }
        return validator.findings
    }

    mutating func fail(_ place: String, _ what: String) { self.findings.errors.append("\(place): \(what)") }
    mutating func warn(_ place: String, _ what: String) { self.findings.warnings.append("\(place): \(what)") }

    // MARK: Pieces of several kinds

    /// Which workloads an object is about: labels, or the objects that it names.
    private mutating func selector(_ place: String, _ json: JSONValue?) {
        let isGateway = self.object.kind == "Gateway"
        let labels = (isGateway ? json : json?["matchLabels"])?.object ?? [:]
        for (key, value) in labels.sorted(by: { $0.key < $1.key }) {
            if key.isEmpty { self.fail(place, "a label needs a name") }
            if value.string ?? "" == "" { self.fail("\(place).\(key)", "a label needs a value") }
            if key.contains("*") || value.string?.contains("*") == true {
                self.fail("\(place).\(key)", "wildcards are not allowed in labels")
            }
        }
        self.targets(hasSelector: !labels.isEmpty)
    }

    private static let targetKinds: Set<String> = [
        "/Service", "core/Service", "networking.istio.io/ServiceEntry", "gateway.networking.k8s.io/Gateway",
        "gateway.networking.k8s.io/GatewayClass",
    ]

    private mutating func targets(hasSelector: Bool) {
        let one = self.spec["targetRef"].map { [("spec.targetRef", $0)] } ?? []
        let many = (self.spec["targetRefs"]?.array ?? []).enumerated().map {
            ("spec.targetRefs[\($0.offset)]", $0.element)
        }
        if [hasSelector, !one.isEmpty, !many.isEmpty].count(where: { $0 }) > 1 {
            self.fail("spec", "only one of selector, targetRef and targetRefs can be set")
        }
        for (place, target) in one + many {
            if target["name"]?.string ?? "" == "" { self.fail("\(place).name", "is required") }
            if target["namespace"]?.string ?? "" != "" {
                self.fail("\(place).namespace", "must be empty: targets are in the object's own namespace")
            }
            let kind = "\(target["group"]?.string ?? "")/\(target["kind"]?.string ?? "")"
            if !Self.targetKinds.contains(kind) {
                self.fail(
                    place, "\(kind) is no kind of target; known: \(Self.targetKinds.sorted().joined(separator: ", "))")
            }
        }
    }

    mutating func texts(_ place: String, _ json: JSONValue?) -> [String] {
        let list = json?.array ?? []
        for (index, value) in list.enumerated() where value.string ?? "" == "" {
            self.fail("\(place)[\(index)]", "is an empty text")
        }
        return list.compactMap(\.string)
    }

    mutating func port(_ place: String, _ json: JSONValue?) {
        guard let number = json?.int ?? json?.string.flatMap({ Int64($0) }), (1...65_535).contains(number) else {
            self.fail(place, "\(json ?? .null) is no port from 1 to 65535")
            return
        }
    }

    /// A host name, with `*` as its first label at most.
    mutating func host(_ place: String, _ text: String, allowsWildcard: Bool = true) {
        let isWild = text == "*" || text.hasPrefix("*.")
        if isWild, !allowsWildcard { return self.fail(place, "\"\(text)\": wildcards are not allowed here") }
        let name = text == "*" ? "" : isWild ? String(text.dropFirst(2)) : text
        if text.isEmpty || (name.isEmpty && text != "*") || (!name.isEmpty && !Self.isName(name)) {
            self.fail(place, "\"\(text)\" is no host name")
        }
    }

    static func isName(_ text: String) -> Bool {
        text.utf8.count <= 253
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.utf8.first != 45 && label.utf8.last != 45
                    && label.utf8.allSatisfy { byte in
                        (48...57).contains(byte) || (97...122).contains(byte) || (65...90).contains(byte) || byte == 45
                            || byte == 95
                    }
            }
    }

    // MARK: Security

    private mutating func peerAuthentication() {
        let ports = self.spec["portLevelMtls"]
        guard let members = ports?.object else { return }
        if members.isEmpty { self.fail("spec.portLevelMtls", "is empty; leave it out instead") }
        if self.spec.at("selector", "matchLabels")?.object?.isEmpty ?? true {
            self.fail("spec.portLevelMtls", "needs a selector: ports are those of chosen workloads")
        }
        for name in members.keys.sorted() { self.port("spec.portLevelMtls", .string(name)) }
    }

    private mutating func requestAuthentication() {
        for (index, rule) in (self.spec["jwtRules"]?.array ?? []).enumerated() {
            let place = "spec.jwtRules[\(index)]"
            if rule["issuer"]?.string ?? "" == "" { self.fail("\(place).issuer", "is required") }
            let keys = rule["jwks"]?.string ?? ""
            let uri = rule["jwksUri"]?.string ?? ""
            if !keys.isEmpty, !uri.isEmpty { self.fail(place, "only one of jwks and jwksUri can be set") }
            if !keys.isEmpty, (try? JSONValue(parsing: keys))?["keys"]?.array == nil {
                self.fail("\(place).jwks", "is no JSON object with a list \"keys\"")
            }
            if !uri.isEmpty {
                let parts = URLComponents(string: uri)
                if !["http", "https"].contains(parts?.scheme ?? "") || parts?.host ?? "" == "" {
                    self.fail("\(place).jwksUri", "\"\(uri)\" is no http or https URL")
                }
            }
            for (at, header) in (rule["fromHeaders"]?.array ?? []).enumerated()
            where header["name"]?.string ?? "" == "" {
                self.fail("\(place).fromHeaders[\(at)].name", "is required")
            }
            for (at, output) in (rule["outputClaimToHeaders"]?.array ?? []).enumerated() {
                for name in ["header", "claim"] where output[name]?.string ?? "" == "" {
                    self.fail("\(place).outputClaimToHeaders[\(at)].\(name)", "is required")
                }
            }
            for name in ["fromParams", "fromCookies", "audiences"] {
                _ = self.texts("\(place).\(name)", rule[name])
            }
        }
    }

    private mutating func telemetry() {
        func names(_ json: JSONValue, _ place: String) {
            for (index, provider) in (json["providers"]?.array ?? []).enumerated()
            where provider["name"]?.string ?? "" == "" {
                self.fail("\(place).providers[\(index)].name", "is required")
            }
        }
        for (index, tracing) in (self.spec["tracing"]?.array ?? []).enumerated() {
            let place = "spec.tracing[\(index)]"
            names(tracing, place)
            if let percent = tracing["randomSamplingPercentage"]?.double, !(0...100).contains(percent) {
                self.fail("\(place).randomSamplingPercentage", "\(percent) is not between 0 and 100")
            }
        }
        for (index, log) in (self.spec["accessLogging"]?.array ?? []).enumerated() {
            names(log, "spec.accessLogging[\(index)]")
        }
        for (index, metrics) in (self.spec["metrics"]?.array ?? []).enumerated() {
            names(metrics, "spec.metrics[\(index)]")
            for (at, override) in (metrics["overrides"]?.array ?? []).enumerated() {
                for (tag, change) in override["tagOverrides"]?.object ?? [:] {
                    let place = "spec.metrics[\(index)].overrides[\(at)].tagOverrides.\(tag)"
                    let removes = change["operation"]?.string == "REMOVE"
                    let value = change["value"]?.string ?? ""
                    if removes, !value.isEmpty { self.fail(place, "a value makes no sense with REMOVE") }
                    if !removes, value.isEmpty { self.fail(place, "UPSERT needs a value") }
                }
            }
        }
    }
}
