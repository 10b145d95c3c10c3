internal import KubeAPI
internal import Yams

/// Bodies of requests, by their media type.
enum RequestBody {
    /// Not standardised as one; a missing type is JSON, as several clients send none.
    static func decode(_ request: APIRequest, isCustom: Bool = false) throws(StatusError) -> JSONValue {
        if request.body.isEmpty { return .null }
        switch request.contentType {
        case nil, "application/json", "*/*", "text/plain", "application/x-www-form-urlencoded":
            return try self.json(request.body)
        case "application/yaml", "text/yaml", "application/x-yaml": return try self.yaml(request.body)
        case "application/vnd.kubernetes.protobuf" where !isCustom:
            do {
                return try ProtobufBody.decode(request.body)
            } catch {
                throw .badRequest("the protobuf body cannot be decoded: \(error)")
            }
        case let type?:
            throw .unsupportedMediaType(
                "the body of the request was in an unknown format (\(type)) - accepted media types include: application/json, application/yaml"
                    + (isCustom ? "" : ", application/vnd.kubernetes.protobuf"))
        }
    }

    static func json(_ bytes: [UInt8]) throws(StatusError) -> JSONValue {
        do {
            return try JSONValue(parsing: bytes)
        } catch {
            throw .badRequest("the body cannot be decoded: \(error)")
        }
    }

    /// JSON or YAML.
    static func yaml(_ bytes: [UInt8]) throws(StatusError) -> JSONValue {
        if let json = try? JSONValue(parsing: bytes) { return json }
        let node: Node?
        do {
            node = try Yams.compose(yaml: String(decoding: bytes, as: UTF8.self))
        } catch {
            throw .badRequest("the body is no YAML: \(error)")
        }
        guard let node else { return .null }
        return try self.value(node, depth: 0)
    }

    private static let depthMax = 200

    private static func value(_ node: Node, depth: Int) throws(StatusError) -> JSONValue {
        if depth > self.depthMax { throw .badRequest("the YAML body nests deeper than \(self.depthMax)") }
        switch node {
        case .mapping(let mapping):
            var members: [String: JSONValue] = [:]
            for (key, value) in mapping { members[key.scalar?.string ?? ""] = try self.value(value, depth: depth + 1) }
            return .object(members)
        case .sequence(let sequence):
            var elements: [JSONValue] = []
            for element in sequence { elements.append(try self.value(element, depth: depth + 1)) }
            return .array(elements)
        case .scalar(let scalar):
            // Only plain scalars have types; quotes make text.
            guard scalar.style == .plain || scalar.style == .any else { return .string(scalar.string) }
            if node.null != nil { return .null }
            if let flag = node.bool { return .bool(flag) }
            if let number = node.int { return .int(Int64(number)) }
            if let number = node.float, number.isFinite { return .double(number) }
            return .string(scalar.string)
        case .alias: throw .badRequest("the YAML body has an alias without its anchor")
        }
    }

    static func yamlText(_ json: JSONValue) -> String {
        (try? Yams.serialize(node: self.node(json), sortKeys: true)) ?? json.description
    }

    private static func node(_ json: JSONValue) -> Node {
        switch json {
        case .null: Node("null", Tag(.null))
        case .bool(let value): Node(value ? "true" : "false", Tag(.bool))
        case .int(let value): Node(String(value), Tag(.int))
        case .double(let value): Node(String(value), Tag(.float))
        case .string(let value): Node(value, Tag(.str), .doubleQuoted)
        case .array(let elements): Node(elements.map(self.node), Tag(.seq))
        case .object(let members):
            Node(members.sorted { $0.key < $1.key }.map { (Node($0.key), self.node($0.value)) }, Tag(.map))
        }
    }
}
