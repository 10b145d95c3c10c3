internal import Foundation
package import KubeAPI

/// Decodes request bodies in Kubernetes' protobuf encoding to the JSON they stand for.
package enum ProtobufBody {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    private static let magic: [UInt8] = [0x6b, 0x38, 0x73, 0x00]  // "k8s" NUL
    private static let depthMax = 64

    /// - Throws: ``Failure`` for truncated or malformed bytes and for kinds without a field table.
    package static func decode(_ bytes: [UInt8]) throws(Failure) -> JSONValue {
        guard bytes.starts(with: self.magic) else { throw Failure(description: "it does not start with k8s\\0") }
        var envelope = WireReader(bytes[4...])
        var (apiVersion, kind) = ("", "")
        var raw: ArraySlice<UInt8> = []
        while let (number, value) = try envelope.next() {
            switch (number, value) {
            case (1, .bytes(let meta)):
                var reader = WireReader(meta)
                while let (number, value) = try reader.next() {
                    guard case .bytes(let text) = value else { continue }
                    if number == 1 { apiVersion = String(decoding: text, as: UTF8.self) }
                    if number == 2 { kind = String(decoding: text, as: UTF8.self) }
                }
            case (2, .bytes(let object)): raw = object
            default: break
            }
        }
        let name = ProtobufSchema.messageName(apiVersion: apiVersion, kind: kind)
        guard ProtobufSchema.messages[name] != nil else {
            throw Failure(description: "\(apiVersion) \(kind) cannot be sent as protobuf here; send JSON")
        }
        var object = JSONValue.object(try self.members(of: raw, name, depth: 0))
        object["apiVersion"] = .string(apiVersion)
        object["kind"] = .string(kind)
        return object
    }

    private static func members(
        of bytes: ArraySlice<UInt8>, _ message: String, depth: Int
    ) throws(Failure) -> [String: JSONValue] {
        if depth > self.depthMax { throw Failure(description: "messages nest deeper than \(self.depthMax)") }
        guard let schema = ProtobufSchema.messages[message] else { return [:] }
        var reader = WireReader(bytes)
        var members: [String: JSONValue] = [:]
        while let (number, value) = try reader.next() {
            guard let at = schema.byNumber[number] else { continue }
            let field = schema.fields[at]
            if field.isMap {
                guard case .bytes(let entry) = value else { throw Failure(description: "\(field.name) is no map") }
                let (key, element) = try self.entry(entry, field, depth: depth)
                var map = members[field.name]?.object ?? [:]
                map[key] = element
                members[field.name] = .object(map)
            } else if field.isInline, case .message(let inner) = field.type, case .bytes(let body) = value {
                members.merge(try self.members(of: body, inner, depth: depth + 1)) { $1 }
            } else if field.isRepeated {
                var list = members[field.name]?.array ?? []
                list += try self.elements(value, field, depth: depth)
                members[field.name] = .array(list)
            } else if let json = try self.value(value, field.type, depth: depth) {
                if !field.isPointer, self.isZero(json) { continue }
                members[field.name] = json
            }
        }
        return members
    }

    private static func isZero(_ json: JSONValue) -> Bool {
        json == .string("") || json == .int(0) || json == .bool(false) || json == .double(0)
    }

    private static func entry(
        _ bytes: ArraySlice<UInt8>, _ field: ProtobufSchema.Field, depth: Int
    ) throws(Failure) -> (String, JSONValue) {
        var reader = WireReader(bytes)
        var key = ""
        var element: JSONValue?
        while let (number, value) = try reader.next() {
            if number == 1, case .bytes(let text) = value { key = String(decoding: text, as: UTF8.self) }
            if number == 2 { element = try self.value(value, field.type, depth: depth) }
        }
        return (key, element ?? (field.type == .string || field.type == .bytes ? "" : [:]))
    }

    private static func elements(
        _ value: WireReader.Value, _ field: ProtobufSchema.Field, depth: Int
    ) throws(Failure) -> [JSONValue] {
        if case .bytes(let packed) = value, field.type == .integer || field.type == .bool {
            var reader = WireReader(packed)
            var list: [JSONValue] = []
            while !reader.isAtEnd { list.append(.int(Int64(bitPattern: try reader.varint()))) }
            return list
        }
        return [try self.value(value, field.type, depth: depth) ?? .null]
    }

    private static func value(
        _ value: WireReader.Value, _ type: ProtobufSchema.FieldType, depth: Int
    ) throws(Failure) -> JSONValue? {
        switch (type, value) {
        case (.string, .bytes(let bytes)): return .string(String(decoding: bytes, as: UTF8.self))
        case (.bytes, .bytes(let bytes)): return .string(Data(bytes).base64EncodedString())
        case (.bool, .number(let number)): return .bool(number != 0)
        case (.integer, .number(let number)): return .int(Int64(bitPattern: number))
        case (.double, .number(let bits)): return .double(Double(bitPattern: bits))
        case (.message(let name), .bytes(let bytes)): return try self.message(bytes, name, depth: depth)
        default: throw Failure(description: "a field has an unexpected wire type")
        }
    }

    private static func message(
        _ bytes: ArraySlice<UInt8>, _ name: String, depth: Int
    ) throws(Failure) -> JSONValue? {
        func fields() throws(Failure) -> (numbers: [Int: UInt64], texts: [Int: [ArraySlice<UInt8>]]) {
            var reader = WireReader(bytes)
            var numbers: [Int: UInt64] = [:]
            var texts: [Int: [ArraySlice<UInt8>]] = [:]
            while let (number, value) = try reader.next() {
                switch value {
                case .number(let value): numbers[number] = value
                case .bytes(let value): texts[number, default: []].append(value)
                }
            }
            return (numbers, texts)
        }
        func text(_ bytes: ArraySlice<UInt8>?) -> String { String(decoding: bytes ?? [], as: UTF8.self) }
        switch name {
        case "meta/v1.Time", "meta/v1.MicroTime":
            if bytes.isEmpty { return nil }
            let numbers = try fields().numbers
            let seconds = Timestamp.text(secondsSince1970: Int64(bitPattern: numbers[1] ?? 0))
            if name == "meta/v1.Time" { return .string(seconds) }
            let micros = String((numbers[2] ?? 0) / 1000 % 1_000_000)
            let padded = String(repeating: "0", count: 6 - micros.count) + micros
            return .string(seconds.dropLast() + ".\(padded)Z")
        case "am/api.resource.Quantity": return .string(text(try fields().texts[1]?.last))
        case "am/util.intstr.IntOrString":
            let (numbers, texts) = try fields()
            return numbers[1] ?? 0 == 0 ? .int(Int64(bitPattern: numbers[2] ?? 0)) : .string(text(texts[3]?.last))
        case "meta/v1.Duration":
            let seconds = Int64(bitPattern: try fields().numbers[1] ?? 0) / 1_000_000_000
            return .string("\(seconds / 3600)h\(seconds / 60 % 60)m\(seconds % 60)s")
        case "meta/v1.FieldsV1", "am/runtime.RawExtension", "apiextensions.v1.JSON":
            guard let raw = try fields().texts[1]?.last, !raw.isEmpty else { return nil }
            do {
                return try JSONValue(parsing: Array(raw))
            } catch {
                throw Failure(description: "embedded JSON: \(error)")
            }
        case let name where name.hasSuffix("ExtraValue") || name.hasSuffix(".Verbs"):
            return .array((try fields().texts[1] ?? []).map { .string(text($0)) })
        default: return .object(try self.members(of: bytes, name, depth: depth + 1))
        }
    }
}

/// Reads protobuf's wire format, one field at a time.
struct WireReader {
    enum Value {
        case number(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.rest = bytes }

    var isAtEnd: Bool { self.rest.isEmpty }

    mutating func next() throws(ProtobufBody.Failure) -> (number: Int, value: Value)? {
        if self.rest.isEmpty { return nil }
        let tag = try self.varint()
        guard let number = Int(exactly: tag >> 3), number > 0 else {
            throw ProtobufBody.Failure(description: "a field has the number 0")
        }
        switch tag & 7 {
        case 0: return (number, .number(try self.varint()))
        case 1: return (number, .number(try self.fixed(8)))
        case 2:
            guard let count = Int(exactly: try self.varint()), count <= self.rest.count else {
                throw ProtobufBody.Failure(description: "a field is longer than the body")
            }
            defer { self.rest = self.rest.dropFirst(count) }
            return (number, .bytes(self.rest.prefix(count)))
        case 5: return (number, .number(try self.fixed(4)))
        default: throw ProtobufBody.Failure(description: "a field has the unknown wire type \(tag & 7)")
        }
    }

    mutating func varint() throws(ProtobufBody.Failure) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = self.rest.popFirst() else {
                throw ProtobufBody.Failure(description: "a number is cut off")
            }
            if shift < 64 { value |= UInt64(byte & 0x7f) << shift }
            if byte & 0x80 == 0 { return value }
        }
        throw ProtobufBody.Failure(description: "a number is longer than ten bytes")
    }

    private mutating func fixed(_ count: Int) throws(ProtobufBody.Failure) -> UInt64 {
        guard self.rest.count >= count else { throw ProtobufBody.Failure(description: "a number is cut off") }
        defer { self.rest = self.rest.dropFirst(count) }
        return self.rest.prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
