internal import Foundation
internal import KubeAPI

/// Validation of a value against its schema, with the wording of the real server.
extension Schema {
    /// Enough to show what is wrong; one broken list must not make a megabyte of complaints.
    private static let errorsMax = 100

    func validate(_ value: JSONValue, path: String = "", into errors: inout [FieldError]) {
        if errors.count >= Self.errorsMax { return }
        if value == .null, self.nullable { return }
        guard self.checkType(value, path, &errors) else { return }
        if let enumeration, !enumeration.contains(value) {
            errors.append(.notSupported(path, value, enumeration.map { $0.string ?? $0.description }))
        }
        switch value {
        case .string(let text): self.validate(text: text, path, &errors)
        case .int, .double: self.validate(number: value, path, &errors)
        case .array(let elements): self.validate(elements: elements, path, &errors)
        case .object(let members): self.validate(members: members, path, &errors)
        case .bool, .null: break
        }
        self.validateAlternatives(value, path, &errors)
    }

    private static func typeName(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "boolean"
        case .int: "integer"
        case .double: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }

    private func checkType(_ value: JSONValue, _ path: String, _ errors: inout [FieldError]) -> Bool {
        let actual = Self.typeName(value)
        if self.isIntOrString {
            if actual == "integer" || actual == "string" { return true }
            errors.append(
                .typeInvalid(path, .string(actual), "\(path) in body must be of type integer,string: \"\(actual)\""))
            return false
        }
        guard let type, type != actual else { return true }
        if type == "number", actual == "integer" { return true }
        if type == "integer", value.int != nil, actual == "number" { return true }
        errors.append(.typeInvalid(path, .string(actual), "\(path) in body must be of type \(type): \"\(actual)\""))
        return false
    }

    private func validate(text: String, _ path: String, _ errors: inout [FieldError]) {
        let length = Int64(text.unicodeScalars.count)
        if let minLength, length < minLength {
            errors.append(.invalid(path, .string(text), "\(path) in body should be at least \(minLength) chars long"))
        }
        if let maxLength, length > maxLength { errors.append(.tooLong(path, bytesMax: Int(maxLength))) }
        if let pattern, !pattern.matches(text) {
            errors.append(.invalid(path, .string(text), "\(path) in body should match '\(pattern.text)'"))
        }
        if let format, !Self.conforms(text, to: format) {
            errors.append(
                .invalid(path, .string(text), "\(path) in body must be of type \(format): \(JSONValue.string(text))"))
        }
    }

    /// Formats that are checked; others are comments.
    private static func conforms(_ text: String, to format: String) -> Bool {
        switch format {
        case "date-time": Timestamp.isValid(text)
        case "ipv4": IPv4.parse(text) != nil
        case "ipv6": text.contains(":") && text.allSatisfy { $0.isHexDigit || $0 == ":" || $0 == "." }
        case "cidr":
            text.split(separator: "/").count == 2
                && Int(text.split(separator: "/")[1]).map { (0...128).contains($0) } == true
        case "byte": Data(base64Encoded: text) != nil
        case "uri": URL(string: text)?.scheme != nil
        case "hostname": !text.isEmpty && text.utf8.count <= 255
        default: true
        }
    }

    private func validate(number: JSONValue, _ path: String, _ errors: inout [FieldError]) {
        guard let value = number.double else { return }
        func text(_ bound: Double) -> String { Int64(exactly: bound).map(String.init) ?? String(bound) }
        if let minimum, self.exclusiveMinimum ? value <= minimum : value < minimum {
            let words = self.exclusiveMinimum ? "greater than" : "greater than or equal to"
            errors.append(.invalid(path, number, "\(path) in body should be \(words) \(text(minimum))"))
        }
        if let maximum, self.exclusiveMaximum ? value >= maximum : value > maximum {
            let words = self.exclusiveMaximum ? "less than" : "less than or equal to"
            errors.append(.invalid(path, number, "\(path) in body should be \(words) \(text(maximum))"))
        }
        if let multipleOf, multipleOf > 0, value.truncatingRemainder(dividingBy: multipleOf) != 0 {
            errors.append(.invalid(path, number, "\(path) in body should be a multiple of \(text(multipleOf))"))
        }
        if self.format == "int32", let integer = number.int, Int32(exactly: integer) == nil {
            errors.append(.invalid(path, number, "\(path) in body must be of type int32: \"\(integer)\""))
        }
    }

    private func validate(elements: [JSONValue], _ path: String, _ errors: inout [FieldError]) {
        let count = Int64(elements.count)
        if let minItems, count < minItems {
            errors.append(.invalid(path, .int(count), "\(path) in body should have at least \(minItems) items"))
        }
        if let maxItems, count > maxItems { errors.append(.tooMany(path, elements.count, max: Int(maxItems))) }
        var seen: Set<JSONValue> = []
        for (index, element) in elements.enumerated() {
            let place = "\(path)[\(index)]"
            self.items?.validate(element, path: place, into: &errors)
            let identity: JSONValue?
            switch self.listType {
            case "map":
                identity = JSONValue.object(
                    Dictionary(
                        uniqueKeysWithValues: self.listMapKeys.compactMap { key in element[key].map { (key, $0) } }))
            case "set": identity = element
            default: identity = self.uniqueItems ? element : nil
            }
            if let identity, !seen.insert(identity).inserted { errors.append(.duplicate(place, identity)) }
        }
    }

    private func validate(members: [String: JSONValue], _ path: String, _ errors: inout [FieldError]) {
        let prefix = path.isEmpty ? "" : path + "."
        for name in self.required where members[name] == nil {
            errors.append(.required(prefix + name))
        }
        let count = Int64(members.count)
        if let minProperties, count < minProperties {
            errors.append(
                .invalid(path, .int(count), "\(path) in body should have at least \(minProperties) properties"))
        }
        if let maxProperties, count > maxProperties {
            errors.append(.tooMany(path, members.count, max: Int(maxProperties)))
        }
        for (name, member) in members.sorted(by: { $0.key < $1.key }) {
            if let schema = self.properties[name] {
                schema.validate(member, path: prefix + name, into: &errors)
            } else {
                self.additionalProperties?.validate(member, path: prefix + name, into: &errors)
            }
        }
    }

    private func accepts(_ value: JSONValue) -> Bool {
        var errors: [FieldError] = []
        self.validate(value, into: &errors)
        return errors.isEmpty
    }

    private func validateAlternatives(_ value: JSONValue, _ path: String, _ errors: inout [FieldError]) {
        for schema in self.allOf { schema.validate(value, path: path, into: &errors) }
        if !self.anyOf.isEmpty, !self.isIntOrString, !self.anyOf.contains(where: { $0.accepts(value) }) {
            errors.append(.invalid(path, value, "\(path) in body must validate at least one schema (anyOf)"))
        }
        if !self.oneOf.isEmpty {
            let count = self.oneOf.filter { $0.accepts(value) }.count
            if count != 1 {
                let found = count == 0 ? "Found none valid" : "Found \(count) valid alternatives"
                errors.append(
                    .invalid(path, value, "\(path) in body must validate one and only one schema (oneOf). \(found)"))
            }
        }
        if let not, not.accepts(value) {
            errors.append(.invalid(path, value, "\(path) in body must not validate the schema (not)"))
        }
    }
}
