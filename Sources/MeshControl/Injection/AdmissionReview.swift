internal import Foundation
internal import KubeAPI

/// What the API server asks a webhook, and what it is answered: `admission.k8s.io/v1`.
struct AdmissionReview {
    struct Unreadable: Error, CustomStringConvertible {
        let description: String
    }

    let uid: String
    /// `CREATE`, `UPDATE` …
    let operation: String
    let namespace: String
    let kind: String
    /// Null for a deletion.
    let object: JSONValue

    init(_ body: [UInt8]) throws(Unreadable) {
        let json: JSONValue
        do {
            json = try JSONValue(parsing: body)
        } catch {
            throw Unreadable(description: "the body is no JSON: \(error)")
        }
        guard json["kind"]?.string == "AdmissionReview", json["apiVersion"]?.string == Self.apiVersion,
            let request = json["request"], let uid = request["uid"]?.string
        else { throw Unreadable(description: "the body is no AdmissionReview of \(Self.apiVersion) with a request") }
        self.uid = uid
        self.operation = request["operation"]?.string ?? ""
        self.namespace = request["namespace"]?.string ?? ""
        self.kind = request.at("kind", "kind")?.string ?? ""
        self.object = request["object"] ?? .null
    }

    private static let apiVersion = "admission.k8s.io/v1"

    private func answer(_ response: [String: JSONValue]) -> JSONValue {
        var response = response
        response["uid"] = .string(self.uid)
        return ["kind": "AdmissionReview", "apiVersion": .string(Self.apiVersion), "response": .object(response)]
    }

    /// - Parameter patch: the operations of RFC 6902.
    func allowed(patch: JSONValue? = nil, warnings: [String] = []) -> JSONValue {
        var response: [String: JSONValue] = ["allowed": true]
        if let patch, patch.array?.isEmpty == false {
            response["patchType"] = "JSONPatch"
            response["patch"] = .string(Data(patch.encoded).base64EncodedString())
        }
        if !warnings.isEmpty { response["warnings"] = JSONValue(warnings) }
        return self.answer(response)
    }

    /// - Parameter code: an HTTP status; 422 for an object that is wrong, 500 for a configuration of ours that is.
    func refused(_ message: String, code: Int = 422) -> JSONValue {
        let reason = code == 422 ? "Invalid" : "InternalError"
        return self.answer([
            "allowed": false,
            "status": [
                "status": "Failure", "message": .string(message), "reason": .string(reason), "code": .int(Int64(code)),
            ],
        ])
    }
}
