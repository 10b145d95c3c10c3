internal import KubeAPI

/// The messages of ``ProtobufFields``, parsed once.
enum ProtobufSchema {
    enum FieldType: Sendable, Hashable {
        case string, bytes, bool, integer, double
        case message(String)
    }

    struct Field: Sendable {
        let number: Int
        let name: String
        let type: FieldType
        let isMap, isRepeated, isPointer, isInline: Bool
    }

    struct Message: Sendable {
        var fields: [Field] = []
        var byNumber: [Int: Int] = [:]
    }

    static let messages: [String: Message] = {
        var messages: [String: Message] = [:]
        var name = ""
        for line in ProtobufFields.text.split(separator: "\n") {
            guard line.hasPrefix(" ") else {
                name = String(line)
                messages[name] = Message()
                continue
            }
            let words = line.split(separator: " ")
            guard words.count >= 3, let number = Int(words[0]) else { continue }
            var type = words[2]
            let isMap = type.hasPrefix("map<")
            if isMap { type = type.dropFirst(4).dropLast() }
            let flags = words.count > 3 ? words[3] : ""
            let field = Field(
                number: number, name: String(words[1]), type: ProtobufSchema.type(String(type)), isMap: isMap,
                isRepeated: flags.contains("r"), isPointer: flags.contains("p"), isInline: flags.contains("i"))
            messages[name, default: Message()].byNumber[number] = messages[name]?.fields.count ?? 0
            messages[name, default: Message()].fields.append(field)
        }
        return messages
    }()

    private static func type(_ text: String) -> FieldType {
        switch text {
        case "string": .string
        case "bytes": .bytes
        case "bool": .bool
        case "int32", "int64", "uint32", "uint64": .integer
        case "double", "float": .double
        default: .message(text)
        }
    }

    /// The message of a kind: `apps/v1` and `Deployment` make `apps.v1.Deployment`.
    static func messageName(apiVersion: String, kind: String) -> String {
        if kind == "DeleteOptions" { return "meta/v1.DeleteOptions" }
        let parts = apiVersion.split(separator: "/")
        if parts.count == 1 { return "core.\(apiVersion).\(kind)" }
        return "\(parts[0].split(separator: ".")[0]).\(parts[1]).\(kind)"
    }

    /// Messages whose JSON is no object with these members.
    static func isSpecial(_ message: String) -> Bool {
        if message.hasSuffix("ExtraValue") || message.hasSuffix(".Verbs") { return true }
        return [
            "meta/v1.Time", "meta/v1.MicroTime", "meta/v1.FieldsV1", "meta/v1.Duration", "am/api.resource.Quantity",
            "am/util.intstr.IntOrString", "am/runtime.RawExtension",
        ].contains(message) || self.messages[message] == nil
    }

    /// Paths of members the kind does not have. Empty for kinds without a table.
    static func unknownFields(in object: JSONValue, kind: ResourceKind) -> [String] {
        let name = self.messageName(apiVersion: kind.type.apiVersion, kind: kind.type.kind)
        guard self.messages[name] != nil else { return [] }
        var unknown: [String] = []
        self.check(object, name, path: "", &unknown)
        return unknown
    }

    /// All fields with inline ones hoisted, by JSON name.
    private static let hoisted: [String: [String: Field]] = messages.mapValues { message in
        var fields: [String: Field] = [:]
        func add(_ message: Message) {
            for field in message.fields {
                if field.isInline, case .message(let inner) = field.type, let inlined = Self.messages[inner] {
                    add(inlined)
                } else {
                    fields[field.name] = field
                }
            }
        }
        add(message)
        return fields
    }

    private static func check(_ value: JSONValue, _ message: String, path: String, _ unknown: inout [String]) {
        guard case .object(let members) = value, !self.isSpecial(message), let fields = self.hoisted[message] else {
            return
        }
        for (name, member) in members {
            if path.isEmpty, name == "apiVersion" || name == "kind" { continue }
            let place = path.isEmpty ? name : "\(path).\(name)"
            guard let field = fields[name] else {
                if place != "metadata.selfLink" { unknown.append(place) }
                continue
            }
            guard case .message(let inner) = field.type else { continue }
            if field.isRepeated {
                for (index, element) in (member.array ?? []).enumerated() {
                    self.check(element, inner, path: "\(place)[\(index)]", &unknown)
                }
            } else if !field.isMap {
                self.check(member, inner, path: place, &unknown)
            }
        }
    }

    // MARK: OpenAPI

    /// A schema for `kubectl explain`; the messages it refers to go into `schemas`.
    static func openAPI(_ kind: ResourceKind, into schemas: inout [String: JSONValue]) -> JSONValue? {
        let name = self.messageName(apiVersion: kind.type.apiVersion, kind: kind.type.kind)
        guard self.messages[name] != nil else { return nil }
        return self.schema(name, &schemas)
    }

    private static func schema(_ message: String, _ schemas: inout [String: JSONValue]) -> JSONValue {
        var properties: [String: JSONValue] = [:]
        for field in (self.hoisted[message] ?? [:]).values {
            var type = self.schema(field.type, &schemas)
            if field.isRepeated { type = ["type": "array", "items": type] }
            if field.isMap { type = ["type": "object", "additionalProperties": type] }
            properties[field.name] = type
        }
        return ["type": "object", "properties": .object(properties)]
    }

    private static func schema(_ type: FieldType, _ schemas: inout [String: JSONValue]) -> JSONValue {
        switch type {
        case .string: return ["type": "string"]
        case .bytes: return ["type": "string", "format": "byte"]
        case .bool: return ["type": "boolean"]
        case .integer: return ["type": "integer"]
        case .double: return ["type": "number"]
        case .message("meta/v1.Time"), .message("meta/v1.MicroTime"): return ["type": "string", "format": "date-time"]
        case .message("am/api.resource.Quantity"): return ["type": "string"]
        case .message("am/util.intstr.IntOrString"): return ["type": "string", "format": "int-or-string"]
        case .message("meta/v1.ObjectMeta"):
            return ["allOf": [["$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]]]
        case .message(let name) where self.isSpecial(name): return ["type": "object"]
        case .message(let name):
            let id = name.replacing("/", with: ".")
            if schemas[id] == nil {
                schemas[id] = ["type": "object"]  // stands in while the message is being described, for cycles
                schemas[id] = self.schema(name, &schemas)
            }
            return ["allOf": [["$ref": .string("#/components/schemas/\(id)")]]]
        }
    }
}
