internal import KubeAPI

/// The refusals of the API, worded as clients expect them.
extension StatusError {
    static func notFound(_ kind: ResourceKind, _ name: String) -> StatusError {
        .notFound(resource: kind.type.plural, group: kind.group, name)
    }
    static func notFound(resource: String, group: String, _ name: String) -> StatusError {
        let qualified = group.isEmpty ? resource : "\(resource).\(group)"
        return StatusError(
            code: 404, reason: "NotFound", message: "\(qualified) \"\(name)\" not found",
            details: .details(resource, group, name))
    }
    static let noSuchPath = StatusError(
        code: 404, reason: "NotFound", message: "the server could not find the requested resource", details: [:])
    static let methodNotAllowed = StatusError(
        code: 405, reason: "MethodNotAllowed",
        message: "the server does not allow this method on the requested resource", details: [:])
    static let unauthorized = StatusError(code: 401, reason: "Unauthorized", message: "Unauthorized")

    static func badRequest(_ message: String) -> StatusError {
        StatusError(code: 400, reason: "BadRequest", message: message)
    }
    static func unsupportedMediaType(_ message: String) -> StatusError {
        StatusError(code: 415, reason: "UnsupportedMediaType", message: message)
    }
    static func alreadyExists(_ kind: ResourceKind, _ name: String) -> StatusError {
        StatusError(
            code: 409, reason: "AlreadyExists", message: "\(kind.qualified) \"\(name)\" already exists",
            details: .details(kind.type.plural, kind.group, name))
    }
    static func conflict(_ kind: ResourceKind, _ name: String, _ why: String? = nil) -> StatusError {
        let text =
            why
            ?? "the object has been modified; please apply your changes to the latest version and try again"
        return StatusError(
            code: 409, reason: "Conflict",
            message: "Operation cannot be fulfilled on \(kind.qualified) \"\(name)\": \(text)",
            details: .details(kind.type.plural, kind.group, name))
    }
    static func forbidden(_ kind: ResourceKind, _ name: String, _ why: String, causes: [FieldError] = [])
        -> StatusError
    {
        var details = JSONValue.details(kind.type.plural, kind.group, name)
        if !causes.isEmpty { details["causes"] = .array(causes.map(\.cause)) }
        let subject = name.isEmpty ? kind.qualified : "\(kind.qualified) \"\(name)\""
        return StatusError(
            code: 403, reason: "Forbidden", message: "\(subject) is forbidden: \(why)", details: details)
    }
    static func invalid(_ kind: ResourceKind, _ name: String, _ errors: [FieldError]) -> StatusError {
        .invalid(kind: kind.type.kind, group: kind.group, name, errors)
    }
    static func invalid(kind: String, group: String, _ name: String, _ errors: [FieldError]) -> StatusError {
        let qualified = group.isEmpty ? kind : "\(kind).\(group)"
        let texts = errors.map(\.description)
        var details = JSONValue.details(kind, group, name)
        details["causes"] = .array(errors.map(\.cause))
        return StatusError(
            code: 422, reason: "Invalid",
            message: "\(qualified) \"\(name)\" is invalid: "
                + (texts.count == 1 ? texts[0] : "[\(texts.joined(separator: ", "))]"),
            details: details)
    }
    static func invalidOptions(_ type: String, _ errors: [FieldError]) -> StatusError {
        .invalid(kind: type, group: "meta.k8s.io", "", errors)
    }
    static func expired(_ from: UInt64, _ oldest: UInt64) -> StatusError {
        StatusError(code: 410, reason: "Expired", message: "too old resource version: \(from) (\(oldest))")
    }
    static func tooLargeVersion(_ from: UInt64, _ current: UInt64) -> StatusError {
        StatusError(
            code: 504, reason: "Timeout", message: "Too large resource version: \(from), current: \(current)",
            details: [
                "causes": [["reason": "ResourceVersionTooLarge", "message": "Too large resource version"]],
                "retryAfterSeconds": 1,
            ])
    }
    static func internalError(_ message: String) -> StatusError {
        StatusError(
            code: 500, reason: "InternalError", message: "Internal error occurred: \(message)",
            details: ["causes": [["message": .string(message)]]])
    }
    static func unavailable(_ message: String) -> StatusError {
        StatusError(code: 503, reason: "ServiceUnavailable", message: message)
    }
}

extension JSONValue {
    fileprivate static func details(_ kind: String, _ group: String, _ name: String) -> JSONValue {
        var details: JSONValue = ["kind": .string(kind)]
        if !name.isEmpty { details["name"] = .string(name) }
        if !group.isEmpty { details["group"] = .string(group) }
        return details
    }

    /// The Status of a success without an object to show.
    static func success(_ kind: ResourceKind, _ name: String, uid: String) -> JSONValue {
        var details = JSONValue.details(kind.type.plural, kind.group, name)
        details["uid"] = .string(uid)
        return ["kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Success", "details": details]
    }
}

/// One complaint about one field, worded as Kubernetes words it.
struct FieldError: Error, Hashable, Sendable, CustomStringConvertible {
    var field: String
    var reason: String
    var detail: String

    var description: String { self.field.isEmpty ? self.detail : "\(self.field): \(self.detail)" }
    var cause: JSONValue {
        ["reason": .string(self.reason), "message": .string(self.detail), "field": .string(self.field)]
    }

    static func required(_ field: String, _ detail: String = "") -> FieldError {
        FieldError(
            field: field, reason: "FieldValueRequired",
            detail: detail.isEmpty ? "Required value" : "Required value: \(detail)")
    }
    static func invalid(_ field: String, _ value: JSONValue, _ detail: String) -> FieldError {
        FieldError(field: field, reason: "FieldValueInvalid", detail: "Invalid value: \(value): \(detail)")
    }
    static func typeInvalid(_ field: String, _ value: JSONValue, _ detail: String) -> FieldError {
        FieldError(field: field, reason: "FieldValueTypeInvalid", detail: "Invalid value: \(value): \(detail)")
    }
    static func notSupported(_ field: String, _ value: JSONValue, _ supported: [String]) -> FieldError {
        FieldError(
            field: field, reason: "FieldValueNotSupported",
            detail: "Unsupported value: \(value): supported values: "
                + supported.map { "\"\($0)\"" }.joined(separator: ", "))
    }
    static func duplicate(_ field: String, _ value: JSONValue) -> FieldError {
        FieldError(field: field, reason: "FieldValueDuplicate", detail: "Duplicate value: \(value)")
    }
    static func forbidden(_ field: String, _ detail: String) -> FieldError {
        FieldError(field: field, reason: "FieldValueForbidden", detail: "Forbidden: \(detail)")
    }
    static func tooLong(_ field: String, bytesMax: Int) -> FieldError {
        FieldError(
            field: field, reason: "FieldValueTooLong", detail: "Too long: may not be more than \(bytesMax) bytes")
    }
    static func tooMany(_ field: String, _ count: Int, max: Int) -> FieldError {
        FieldError(
            field: field, reason: "FieldValueTooMany", detail: "Too many: \(count): must have at most \(max) items")
    }
}

extension StatusError {
    static let tooLarge = StatusError(
        code: 413, reason: "RequestEntityTooLarge",
        message: "Request entity too large: limit is \(APIRequest.bodyBytesMax)")
}
