/// What the API answers when it refuses: the `Status` object of a failed request.
public struct StatusError: Error, Hashable, Sendable, CustomStringConvertible {
    public var code: Int
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Expired` ...
    public var reason: String
    public var message: String
    /// The `details` object; null when there is none.
    public var details: JSONValue

    public init(code: Int, reason: String, message: String, details: JSONValue = .null) {
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
    }

    /// Reads a `Status` body; anything else becomes an error with the bare HTTP status.
    public init(code: Int, body: JSONValue) {
        self.init(
            code: code, reason: body["reason"]?.string ?? "Unknown",
            message: body["message"]?.string ?? "the server answered with HTTP status \(code)",
            details: body["details"] ?? .null)
    }

    public var json: JSONValue {
        var status: JSONValue = [
            "kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Failure",
            "message": .string(self.message), "reason": .string(self.reason), "code": .int(Int64(self.code)),
        ]
        if self.details != .null { status["details"] = self.details }
        return status
    }

    public var description: String { self.message }
    public var isNotFound: Bool { self.code == 404 }
    public var isAlreadyExists: Bool { self.code == 409 && self.reason == "AlreadyExists" }
    public var isConflict: Bool { self.code == 409 && self.reason == "Conflict" }
    /// The resource version is too old to watch from: list again.
    public var isExpired: Bool { self.code == 410 }
}
