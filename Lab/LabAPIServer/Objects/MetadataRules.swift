internal import Foundation
internal import KubeAPI

/// Rules for `metadata` that hold for every kind.
enum MetadataRules {
    static let annotationsBytesMax = 262_144
    private static let generatedBaseMax = 58
    private static let suffixLetters = Array("bcdfghjklmnpqrstvwxz2456789")

    static func randomSuffix() -> String { String((0..<5).map { _ in self.suffixLetters.randomElement()! }) }

    static func generatedName(_ base: String) -> String { base.prefix(self.generatedBaseMax) + self.randomSuffix() }

    static let subdomainMessage =
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    static let labelMessage =
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    static let serviceMessage =
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
    static let labelValueMessage =
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    static let qualifiedMessage =
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"

    static func isLabel(_ text: some StringProtocol) -> Bool {
        let bytes = Array(text.utf8)
        func alphanumeric(_ byte: UInt8) -> Bool { (97...122).contains(byte) || (48...57).contains(byte) }
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63, alphanumeric(first), alphanumeric(last)
        else { return false }
        return bytes.allSatisfy { alphanumeric($0) || $0 == 45 }
    }

    static func isSubdomain(_ text: String) -> Bool {
        guard text.utf8.count <= 253 else { return false }
        return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { part in
            // Parts of a subdomain have no length limit of their own here.
            !part.isEmpty && (part.utf8.count > 63 ? self.isLabel(part.suffix(63)) : self.isLabel(part))
        }
    }

    private static func isWord(_ text: some StringProtocol) -> Bool {
        let bytes = Array(text.utf8)
        func alphanumeric(_ byte: UInt8) -> Bool {
            (97...122).contains(byte) || (48...57).contains(byte) || (65...90).contains(byte)
        }
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63, alphanumeric(first), alphanumeric(last)
        else { return false }
        return bytes.allSatisfy { alphanumeric($0) || $0 == 45 || $0 == 95 || $0 == 46 }
    }

    static func isLabelValue(_ text: String) -> Bool { text.isEmpty || self.isWord(text) }

    static func isQualifiedName(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        switch parts.count {
        case 1: return self.isWord(parts[0])
        case 2: return self.isSubdomain(String(parts[0]).lowercased()) && self.isWord(parts[1])
        default: return false
        }
    }

    static func validate(_ object: JSONValue, _ kind: ResourceKind) -> [FieldError] {
        var errors: [FieldError] = []
        let metadata = object["metadata"] ?? [:]
        let name = metadata["name"]?.string ?? ""
        if name.isEmpty {
            errors.append(.required("metadata.name", "name or generateName is required"))
        } else if let complaint = self.complaint(name, kind) {
            errors.append(.invalid("metadata.name", .string(name), complaint))
        }
        errors += self.validate(labels: metadata["labels"], "metadata.labels")
        var bytes = 0
        for (key, value) in metadata["annotations"]?.object ?? [:] {
            if !self.isQualifiedName(key.lowercased()) {
                errors.append(.invalid("metadata.annotations", .string(key), self.qualifiedMessage))
            }
            guard let text = value.string else {
                errors.append(.typeInvalid("metadata.annotations", value, "must be a string"))
                continue
            }
            bytes += key.utf8.count + text.utf8.count
        }
        if bytes > self.annotationsBytesMax {
            errors.append(.tooLong("metadata.annotations", bytesMax: self.annotationsBytesMax))
        }
        for finalizer in metadata["finalizers"]?.array ?? [] where !self.isQualifiedName(finalizer.string ?? "") {
            errors.append(.invalid("metadata.finalizers", finalizer, self.qualifiedMessage))
        }
        errors += self.validate(owners: metadata["ownerReferences"]?.array ?? [])
        return errors
    }

    static func validate(labels: JSONValue?, _ field: String) -> [FieldError] {
        var errors: [FieldError] = []
        for (key, value) in (labels?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            if !self.isQualifiedName(key) { errors.append(.invalid(field, .string(key), self.qualifiedMessage)) }
            guard let text = value.string else {
                errors.append(.typeInvalid(field, value, "must be a string"))
                continue
            }
            if !self.isLabelValue(text) { errors.append(.invalid(field, value, self.labelValueMessage)) }
        }
        return errors
    }

    private static func complaint(_ name: String, _ kind: ResourceKind) -> String? {
        switch (kind.group, kind.type.plural) {
        case ("", "namespaces"): return self.isLabel(name) ? nil : self.labelMessage
        case ("", "services"):
            return self.isLabel(name) && name.first?.isLetter == true ? nil : self.serviceMessage
        case ("rbac.authorization.k8s.io", _):
            if name == "." || name == ".." { return "may not be '\(name)'" }
            return name.contains("/") || name.contains("%") ? "may not contain '/' or '%'" : nil
        default: return self.isSubdomain(name) ? nil : self.subdomainMessage
        }
    }

    private static func validate(owners: [JSONValue]) -> [FieldError] {
        var errors: [FieldError] = []
        for (index, owner) in owners.enumerated() {
            for member in ["apiVersion", "kind", "name", "uid"] where owner[member]?.string ?? "" == "" {
                errors.append(.required("metadata.ownerReferences[\(index)].\(member)", "must not be empty"))
            }
        }
        if owners.filter({ $0["controller"]?.bool == true }).count > 1 {
            errors.append(
                .invalid(
                    "metadata.ownerReferences", .array(owners), "Only one reference can have Controller set to true"))
        }
        return errors
    }

    /// What an update may not change in `metadata` is put back from what is stored.
    static func keepServerOwned(_ new: inout JSONValue, from old: JSONValue) {
        for name in [
            "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink",
            "name",
            "namespace",
        ] {
            new.set(["metadata", name], to: old.at("metadata", name))
        }
        if new.at("metadata", "generateName") == nil, let base = old.at("metadata", "generateName") {
            new.set(["metadata", "generateName"], to: base)
        }
    }

    /// Empty maps and lists in metadata mean none.
    static func tidy(_ object: inout JSONValue) {
        for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
            let value = object.at("metadata", name)
            if value?.object?.isEmpty == true || value?.array?.isEmpty == true || value == .null {
                object.set(["metadata", name], to: nil)
            }
        }
    }
}
