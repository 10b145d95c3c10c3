internal import KubeAPI

/// RFC 6902: a list of operations on places named by RFC 6901 pointers; all of them or none.
struct JSONPatch {
    static let operationsMax = 10_000

    private var operations: [Operation] = []

    private enum Operation {
        case add([String], JSONValue), remove([String]), replace([String], JSONValue), test([String], JSONValue)
        case move(from: [String], to: [String]), copy(from: [String], to: [String])
    }

    /// The patch is well formed but does not fit the document.
    private static let inapplicable = StatusError(
        code: 422, reason: "Invalid", message: "the server rejected our request due to an error in our request",
        details: [:])

    /// - Throws: 400 for what is no patch.
    init(_ json: JSONValue) throws(StatusError) {
        guard case .array(let elements) = json else {
            throw .badRequest("error decoding patch: a JSON patch is an array of operations")
        }
        guard elements.count <= Self.operationsMax else {
            throw StatusError(
                code: 413, reason: "RequestEntityTooLarge",
                message:
                    "The allowed maximum operations in a JSON patch is \(Self.operationsMax), got \(elements.count)")
        }
        for element in elements {
            let path = try Self.pointer(element["path"])
            func value() throws(StatusError) -> JSONValue {
                guard let value = element["value"] else {
                    throw .badRequest("error decoding patch: an operation lacks its value: \(element)")
                }
                return value
            }
            switch element["op"]?.string {
            case "add": self.operations.append(.add(path, try value()))
            case "remove": self.operations.append(.remove(path))
            case "replace": self.operations.append(.replace(path, try value()))
            case "test": self.operations.append(.test(path, element["value"] ?? .null))
            case "move": self.operations.append(.move(from: try Self.pointer(element["from"]), to: path))
            case "copy": self.operations.append(.copy(from: try Self.pointer(element["from"]), to: path))
            default: throw .badRequest("error decoding patch: unexpected kind: \(element["op"] ?? "missing")")
            }
        }
    }

    private static func pointer(_ value: JSONValue?) throws(StatusError) -> [String] {
        guard let text = value?.string else { throw .badRequest("error decoding patch: an operation lacks its path") }
        if text.isEmpty { return [] }
        guard text.hasPrefix("/") else {
            throw .badRequest("error decoding patch: the path \(text) does not start with /")
        }
        return text.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map {
            String($0.replacing("~1", with: "/").replacing("~0", with: "~"))
        }
    }

    /// - Throws: 422 when an operation does not fit.
    func apply(to document: JSONValue) throws(StatusError) -> JSONValue {
        var document = document
        for operation in self.operations {
            switch operation {
            case .add(let path, let value): try Self.add(&document, path[...], value)
            case .remove(let path): _ = try Self.remove(&document, path[...])
            case .replace(let path, let value): try Self.replace(&document, path[...], value)
            case .test(let path, let value):
                let found = try? Self.get(document, path[...])
                guard (found ?? .null) == value else { throw Self.inapplicable }
            case .move(let from, let to):
                let value = try Self.remove(&document, from[...])
                try Self.add(&document, to[...], value)
            case .copy(let from, let to):
                try Self.add(&document, to[...], try Self.get(document, from[...]))
            }
        }
        return document
    }

    private static func index(_ text: String, count: Int) throws(StatusError) -> Int {
        guard let index = Int(text), index >= 0, index < count, String(index) == text else { throw self.inapplicable }
        return index
    }

    private static func get(_ value: JSONValue, _ path: ArraySlice<String>) throws(StatusError) -> JSONValue {
        guard let first = path.first else { return value }
        switch value {
        case .object(let members):
            guard let member = members[first] else { throw self.inapplicable }
            return try self.get(member, path.dropFirst())
        case .array(let elements):
            return try self.get(elements[try self.index(first, count: elements.count)], path.dropFirst())
        default: throw self.inapplicable
        }
    }

    /// Runs `change` on the container that holds the last step of the path.
    private static func change(
        _ value: inout JSONValue, _ path: ArraySlice<String>,
        _ change: (inout JSONValue, String) throws(StatusError) -> Void
    ) throws(StatusError) {
        guard let first = path.first else { throw self.inapplicable }
        if path.count == 1 { return try change(&value, first) }
        switch value {
        case .object(var members):
            guard var member = members[first] else { throw self.inapplicable }
            try self.change(&member, path.dropFirst(), change)
            members[first] = member
            value = .object(members)
        case .array(var elements):
            let index = try self.index(first, count: elements.count)
            try self.change(&elements[index], path.dropFirst(), change)
            value = .array(elements)
        default: throw self.inapplicable
        }
    }

    private static func add(
        _ document: inout JSONValue, _ path: ArraySlice<String>, _ new: JSONValue
    ) throws(StatusError) {
        if path.isEmpty {
            document = new
            return
        }
        try self.change(&document, path) { (container, key) throws(StatusError) in
            switch container {
            case .object(var members):
                members[key] = new
                container = .object(members)
            case .array(var elements):
                let at = key == "-" ? elements.count : try Self.index(key, count: elements.count + 1)
                elements.insert(new, at: at)
                container = .array(elements)
            default: throw Self.inapplicable
            }
        }
    }

    private static func remove(
        _ document: inout JSONValue, _ path: ArraySlice<String>
    ) throws(StatusError) -> JSONValue {
        let old = try self.get(document, path)
        try self.change(&document, path) { (container, key) throws(StatusError) in
            switch container {
            case .object(var members):
                members[key] = nil
                container = .object(members)
            case .array(var elements):
                elements.remove(at: try Self.index(key, count: elements.count))
                container = .array(elements)
            default: throw Self.inapplicable
            }
        }
        return old
    }

    private static func replace(
        _ document: inout JSONValue, _ path: ArraySlice<String>, _ new: JSONValue
    ) throws(StatusError) {
        if path.isEmpty {
            document = new
            return
        }
        try self.change(&document, path) { (container, key) throws(StatusError) in
            switch container {
            case .object(var members):
                guard members[key] != nil else { throw Self.inapplicable }
                members[key] = new
                container = .object(members)
            case .array(var elements):
                elements[try Self.index(key, count: elements.count)] = new
                container = .array(elements)
            default: throw Self.inapplicable
            }
        }
    }
}
