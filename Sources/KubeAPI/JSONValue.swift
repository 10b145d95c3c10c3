/// A JSON tree. Kubernetes objects are kept whole in this form, so that fields newer than us survive a round trip.
/// Integers and floating-point numbers stay apart: `3` never comes back as `3.0`.
public enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])
}

/// Not by `nil`: `condition ? nil : value` would quietly mean a JSON null where absence is meant. Write `.null`.
extension JSONValue: ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(integerLiteral value: Int64) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }
}

extension JSONValue {
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    public var object: [String: JSONValue]? { if case .object(let value) = self { value } else { nil } }
    public var isNull: Bool { self == .null }

    /// An integer, also one that was written as `3.0`.
    public var int: Int64? {
        switch self {
        case .int(let value): value
        case .double(let value): Int64(exactly: value)
        default: nil
        }
    }
    public var double: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The member of an object; nil for a missing member and for anything that is no object.
    /// Setting on `.null` makes an object; setting on another scalar or an array replaces it. Setting nil removes.
    public subscript(key: String) -> JSONValue? {
        get { if case .object(let members) = self { members[key] } else { nil } }
        set {
            guard case .object(var members) = self else {
                if let newValue { self = .object([key: newValue]) }
                return
            }
            self = .null  // give up our reference, so that the change below is made in place
            members[key] = newValue
            self = .object(members)
        }
    }

    /// The element of an array; nil out of range.
    public subscript(index: Int) -> JSONValue? {
        if case .array(let elements) = self, elements.indices.contains(index) { elements[index] } else { nil }
    }

    /// Walks object members: `value.at("spec", "template", "metadata")`.
    public func at(_ path: String...) -> JSONValue? { self.at(path) }

    public func at(_ path: some Collection<String>) -> JSONValue? {
        var value = self
        for key in path {
            guard let next = value[key] else { return nil }
            value = next
        }
        return value
    }

    /// Sets (or with nil removes) a member deep inside, making objects on the way.
    public mutating func set(_ path: [String], to value: JSONValue?) {
        guard let first = path.first else {
            self = value ?? .null
            return
        }
        if path.count == 1 {
            self[first] = value
        } else {
            var child = self[first] ?? .null
            if child == .null {
                if value == nil { return }
                child = [:]
            }
            self[first] = .null
            child.set(Array(path.dropFirst()), to: value)
            self[first] = child
        }
    }

    /// The members of an object of strings, e.g. labels; members of other types are left out.
    public var stringMap: [String: String] { (self.object ?? [:]).compactMapValues(\.string) }

    public init(_ map: [String: String]) { self = .object(map.mapValues { .string($0) }) }
    public init(_ strings: some Sequence<String>) { self = .array(strings.map { .string($0) }) }
}
