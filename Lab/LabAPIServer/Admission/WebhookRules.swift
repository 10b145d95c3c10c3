internal import Foundation
internal import KubeAPI

/// What a webhook configuration may say.
enum WebhookRules {
    static let storages: Set<String> = [Self.mutating, Self.validating]
    static let mutating = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    static let validating = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    private static let secondsAllowed: ClosedRange<Int64> = 1...30

    static func validate(_ configuration: JSONValue) -> [FieldError] {
        var errors: [FieldError] = []
        var names: Set<String> = []
        for (index, webhook) in (configuration["webhooks"]?.array ?? []).enumerated() {
            let field = "webhooks[\(index)]"
            let name = webhook["name"]?.string ?? ""
            if name.isEmpty {
                errors.append(.required("\(field).name"))
            } else if name.split(separator: ".").count < 3 || !MetadataRules.isSubdomain(name) {
                errors.append(
                    .invalid(
                        "\(field).name", .string(name),
                        "should be a domain with at least three segments separated by dots"))
            } else if !names.insert(name).inserted {
                errors.append(.duplicate("\(field).name", .string(name)))
            }
            errors += self.client(webhook["clientConfig"] ?? [:], "\(field).clientConfig")
            errors += self.choices(webhook, field)
            errors += self.rules(webhook["rules"]?.array ?? [], "\(field).rules")
            for selector in ["namespaceSelector", "objectSelector"] {
                do {
                    _ = try LabelSelector(webhook[selector] ?? [:])
                } catch {
                    errors.append(.invalid("\(field).\(selector)", webhook[selector] ?? .null, error.description))
                }
            }
            if webhook["matchConditions"]?.array?.isEmpty == false {
                errors.append(
                    .forbidden(
                        "\(field).matchConditions",
                        "the lab does not evaluate CEL expressions; select with rules, namespaceSelector and objectSelector"
                    ))
            }
        }
        return errors
    }

    private static func client(_ client: JSONValue, _ field: String) -> [FieldError] {
        var errors: [FieldError] = []
        let url = client["url"]?.string
        let service = client["service"]
        if (url == nil) == (service == nil) {
            errors.append(.required(field, "exactly one of url or service is required"))
        }
        if let url, URLComponents(string: url)?.scheme != "https" || URLComponents(string: url)?.host ?? "" == "" {
            errors.append(.invalid("\(field).url", .string(url), "'https' is the only allowed URL scheme, with a host"))
        }
        if let service {
            for name in ["namespace", "name"] where service[name]?.string ?? "" == "" {
                errors.append(.required("\(field).service.\(name)"))
            }
            if let port = service["port"], !(1...65_535).contains(port.int ?? 0) {
                errors.append(.invalid("\(field).service.port", port, "must be between 1 and 65535, inclusive"))
            }
            if let path = service["path"]?.string, !path.hasPrefix("/") {
                errors.append(.invalid("\(field).service.path", .string(path), "must start with a '/'"))
            }
        }
        if let bundle = client["caBundle"]?.string, !bundle.isEmpty {
            let text = Data(base64Encoded: bundle).map { String(decoding: $0, as: UTF8.self) } ?? ""
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                errors.append(
                    .invalid("\(field).caBundle", "...", "unable to load root certificates: it is no base64 of PEM"))
            }
        }
        return errors
    }

    private static func choices(_ webhook: JSONValue, _ field: String) -> [FieldError] {
        var errors: [FieldError] = []
        func check(_ name: String, _ allowed: [String], isRequired: Bool = false) {
            guard let value = webhook[name] else {
                if isRequired {
                    errors.append(
                        .required("\(field).\(name)", "must specify one of \(allowed.joined(separator: ", "))"))
                }
                return
            }
            if !allowed.contains(value.string ?? "") {
                errors.append(.notSupported("\(field).\(name)", value, allowed))
            }
        }
        check("sideEffects", ["None", "NoneOnDryRun"], isRequired: true)
        check("failurePolicy", ["Fail", "Ignore"])
        check("matchPolicy", ["Equivalent", "Exact"])
        check("reinvocationPolicy", ["IfNeeded", "Never"])
        let versions = webhook["admissionReviewVersions"]?.array ?? []
        if versions.isEmpty {
            errors.append(.required("\(field).admissionReviewVersions", "must specify one of v1, v1beta1"))
        } else if !versions.contains("v1") {
            errors.append(
                .invalid(
                    "\(field).admissionReviewVersions", .array(versions), "the lab speaks v1 of AdmissionReview only"))
        }
        if let seconds = webhook["timeoutSeconds"], !self.secondsAllowed.contains(seconds.int ?? 0) {
            errors.append(
                .invalid("\(field).timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"))
        }
        return errors
    }

    private static func rules(_ rules: [JSONValue], _ field: String) -> [FieldError] {
        var errors: [FieldError] = []
        for (index, rule) in rules.enumerated() {
            let place = "\(field)[\(index)]"
            for name in ["operations", "apiGroups", "apiVersions", "resources"]
            where rule[name]?.array?.isEmpty ?? true {
                errors.append(.required("\(place).\(name)"))
            }
            let operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]
            for operation in rule["operations"]?.array ?? [] where !operations.contains(operation.string ?? "") {
                errors.append(.notSupported("\(place).operations", operation, operations))
            }
            if let scope = rule["scope"], !["*", "Cluster", "Namespaced"].contains(scope.string ?? "") {
                errors.append(.notSupported("\(place).scope", scope, ["*", "Cluster", "Namespaced"]))
            }
        }
        return errors
    }
}
