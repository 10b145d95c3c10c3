internal import Foundation
internal import KubeAPI

/// One node of a CustomResourceDefinition's structural schema. Parsed once per CRD version; immutable.
///
/// Keywords this server does not know (CEL rules, unknown formats) are accepted and have no effect.
package final class Schema: Sendable {
    let type: String?
    let properties: [String: Schema]
    let additionalProperties: Schema?
    let items: Schema?
    let required: [String]
    let enumeration: [JSONValue]?
    let pattern: Pattern?
    let format: String?
    let minLength, maxLength, minItems, maxItems, minProperties, maxProperties: Int64?
    let minimum, maximum, multipleOf: Double?
    let exclusiveMinimum, exclusiveMaximum, uniqueItems, nullable: Bool
    let allOf, anyOf, oneOf: [Schema]
    let not: Schema?
    let defaultValue: JSONValue?
    let preservesUnknown, isIntOrString, isEmbeddedResource: Bool
    let listType, mapType: String?
    let listMapKeys: [String]
    /// Anything below has a default, so that defaulting can skip whole trees.
    let hasDefaults: Bool
    let source: JSONValue

    init(_ json: JSONValue) {
        func child(_ key: String) -> Schema? {
            if case .object? = json[key] { Schema(json[key]!) } else { nil }
        }
        func children(_ key: String) -> [Schema] { (json[key]?.array ?? []).map(Schema.init) }
        func flag(_ key: String) -> Bool { json[key]?.bool ?? false }
        self.source = json
        self.type = json["type"]?.string
        self.properties = (json["properties"]?.object ?? [:]).mapValues(Schema.init)
        self.additionalProperties =
            json["additionalProperties"]?.bool == true ? Schema([:]) : child("additionalProperties")
        self.items = child("items")
        self.required = json["required"]?.array?.compactMap(\.string) ?? []
        self.enumeration = json["enum"]?.array
        self.pattern = json["pattern"]?.string.map(Pattern.init)
        self.format = json["format"]?.string
        self.minLength = json["minLength"]?.int
        self.maxLength = json["maxLength"]?.int
        self.minItems = json["minItems"]?.int
        self.maxItems = json["maxItems"]?.int
        self.minProperties = json["minProperties"]?.int
        self.maxProperties = json["maxProperties"]?.int
        self.minimum = json["minimum"]?.double
        self.maximum = json["maximum"]?.double
        self.multipleOf = json["multipleOf"]?.double
        self.exclusiveMinimum = flag("exclusiveMinimum")
        self.exclusiveMaximum = flag("exclusiveMaximum")
        self.uniqueItems = flag("uniqueItems")
        self.nullable = flag("nullable")
        self.allOf = children("allOf")
        self.anyOf = children("anyOf")
        self.oneOf = children("oneOf")
        self.not = child("not")
        self.defaultValue = json["default"]
        self.preservesUnknown = flag("x-kubernetes-preserve-unknown-fields")
        self.isIntOrString = flag("x-kubernetes-int-or-string")
        self.isEmbeddedResource = flag("x-kubernetes-embedded-resource")
        self.listType = json["x-kubernetes-list-type"]?.string
        self.mapType = json["x-kubernetes-map-type"]?.string
        self.listMapKeys = json["x-kubernetes-list-map-keys"]?.array?.compactMap(\.string) ?? []
        self.hasDefaults =
            self.defaultValue != nil || self.properties.values.contains(where: \.hasDefaults)
            || self.additionalProperties?.hasDefaults == true || self.items?.hasDefaults == true
    }

    /// A compiled `pattern`. RE2 and ICU agree on what CRDs use; a pattern ICU refuses matches everything.
    struct Pattern: @unchecked Sendable {  // NSRegularExpression is immutable and documented as thread safe
        let text: String
        private let expression: NSRegularExpression?

        init(_ text: String) {
            self.text = text
            self.expression = try? NSRegularExpression(pattern: text)
        }

        func matches(_ value: String) -> Bool {
            guard let expression else { return true }
            return expression.firstMatch(in: value, range: NSRange(value.startIndex..., in: value)) != nil
        }
    }
}

extension Schema {
    /// Removes members the schema does not name, and tells which.
    ///
    /// - Parameter isRoot: At the root (and in embedded resources) apiVersion, kind and metadata always stay.
    func pruned(_ value: JSONValue, path: String = "", isRoot: Bool = true, dropped: inout [String]) -> JSONValue {
        switch value {
        case .object(let members):
            var result: [String: JSONValue] = [:]
            for (name, member) in members {
                let place = path.isEmpty ? name : "\(path).\(name)"
                if isRoot || self.isEmbeddedResource, ["apiVersion", "kind", "metadata"].contains(name) {
                    result[name] = member
                } else if let schema = self.properties[name] ?? self.additionalProperties {
                    result[name] = schema.pruned(member, path: place, isRoot: false, dropped: &dropped)
                } else if self.preservesUnknown {
                    result[name] = member
                } else {
                    dropped.append(place)
                }
            }
            return .object(result)
        case .array(let elements):
            guard let items else { return value }
            return .array(
                elements.enumerated().map {
                    items.pruned($1, path: "\(path)[\($0)]", isRoot: false, dropped: &dropped)
                })
        default: return value
        }
    }

    /// Fills in defaults, also where null stands for a value that may not be null.
    func defaulted(_ value: JSONValue) -> JSONValue {
        guard self.hasDefaults else { return value }
        switch value {
        case .object(var members):
            for (name, schema) in self.properties where schema.hasDefaults {
                var member = members[name]
                if member == .null, !schema.nullable { member = nil }
                if member == nil { member = schema.defaultValue }
                members[name] = member.map(schema.defaulted)
            }
            if let schema = self.additionalProperties, schema.hasDefaults {
                for (name, member) in members where self.properties[name] == nil {
                    members[name] = schema.defaulted(member)
                }
            }
            return .object(members)
        case .array(let elements):
            guard let items else { return value }
            return .array(elements.map(items.defaulted))
        default: return value
        }
    }
}
