import Foundation
public import KubeAPI
import Yams

extension JSONValue {
    /// Reads one YAML document with the rules that kubectl applies: YAML 1.1 booleans (`yes`, `on` …), string keys.
    /// - Throws: the parser's error with line and column, or ``YAMLUnsupported``.
    public init(yaml text: String) throws {
        guard let node = try Yams.compose(yaml: text) else {
            self = .null
            return
        }
        try self.init(node)
    }

    /// All documents of a YAML stream that hold something, in order.
    public static func documents(yaml text: String) throws -> [JSONValue] {
        var documents: [JSONValue] = []
        let parser = try Parser(yaml: text)
        while let node = try parser.nextRoot() {
            let document = try JSONValue(node)
            if document != .null { documents.append(document) }
        }
        return documents
    }

    private init(_ node: Node) throws {
        switch node {
        case .scalar(let scalar):
            self = Self.scalar(scalar)
        case .sequence(let sequence):
            self = .array(try sequence.map { try JSONValue($0) })
        case .mapping(let mapping):
            var members: [String: JSONValue] = [:]
            var merged: [String: JSONValue] = [:]
            for (key, value) in mapping {
                guard let scalar = key.scalar else {
                    throw YAMLUnsupported(description: "a YAML mapping key must be a scalar")
                }
                if scalar.string == "<<", scalar.style == .plain {
                    // A merge key: its members stand in for those that the mapping does not name itself.
                    let parent = try JSONValue(value)
                    for source in parent.array ?? [parent] {
                        merged.merge(source.object ?? [:], uniquingKeysWith: { first, _ in first })
                    }
                } else {
                    members[scalar.string] = try JSONValue(value)
                }
            }
            self = .object(merged.merging(members, uniquingKeysWith: { $1 }))
        case .alias:
            throw YAMLUnsupported(description: "unresolved YAML alias")
        }
    }

    /// Explicit tags (`!!str 5`) are not looked at: no Kubernetes manifest has them.
    private static func scalar(_ scalar: Node.Scalar) -> JSONValue {
        guard scalar.style == .plain || scalar.style == .any else { return .string(scalar.string) }
        switch scalar.string {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y": return .bool(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N": return .bool(false)
        default: break
        }
        if let value = Int64(scalar.string), !scalar.string.hasPrefix("+") { return .int(value) }
        if scalar.string.hasPrefix("0o"), let value = Int64(scalar.string.dropFirst(2), radix: 8) { return .int(value) }
        if scalar.string.hasPrefix("0x"), let value = Int64(scalar.string.dropFirst(2), radix: 16) {
            return .int(value)
        }
        let first = scalar.string.utf8.first ?? 0
        if (48...57).contains(first) || first == UInt8(ascii: "-") || first == UInt8(ascii: "."),
            scalar.string.utf8.allSatisfy({ (48...57).contains($0) || ".eE+-".utf8.contains($0) }),
            let value = Double(scalar.string), value.isFinite
        {
            return .double(value)
        }
        return .string(scalar.string)
    }

    /// Block-style YAML with sorted keys: what a person can read and `kubectl apply -f -` accepts.
    public var yaml: String {
        get throws {
            try Yams.serialize(node: self.yamlNode, width: -1, allowUnicode: true, sortKeys: true)
        }
    }

    private var yamlNode: Node {
        switch self {
        case .null: Node("null", Tag(.null))
        case .bool(let value): Node(value ? "true" : "false", Tag(.bool))
        case .int(let value): Node(String(value), Tag(.int))
        case .double(let value): Node(String(value), Tag(.float))
        case .string(let value): Self.stringNode(value)
        case .array(let elements): Node(elements.map(\.yamlNode))
        case .object(let members):
            Node(members.sorted { $0.key < $1.key }.map { (Self.stringNode($0.key), $0.value.yamlNode) })
        }
    }

    /// Quoted when the plain text would be read back as something else.
    private static func stringNode(_ value: String) -> Node {
        let isPlain = Self.scalar(Node.Scalar(value)) == .string(value)
        let style: Node.Scalar.Style = value.contains("\n") ? .literal : (isPlain ? .any : .doubleQuoted)
        return .scalar(Node.Scalar(value, Tag(.str), style))
    }
}

public struct YAMLUnsupported: Error, CustomStringConvertible {
    public let description: String
}
