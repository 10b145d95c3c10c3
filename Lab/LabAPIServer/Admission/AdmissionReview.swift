internal import Foundation
internal import KubeAPI

/// The question to a webhook and its answer: `admission.k8s.io/v1`.
enum AdmissionReview {
    static let apiVersion = "admission.k8s.io/v1"

    /// - Parameters:
    ///   - kind: the version that the webhook's rule asks for.
    ///   - object: what mutating webhooks before this one made of the object, in that version.
    static func request(
        _ attributes: AdmissionAttributes, as kind: ResourceKind, uid: String, object: JSONValue?, old: JSONValue?
    ) -> JSONValue {
        func gvk(_ kind: ResourceKind) -> JSONValue {
            ["group": .string(kind.group), "version": .string(kind.type.version), "kind": .string(kind.type.kind)]
        }
        func gvr(_ kind: ResourceKind) -> JSONValue {
            [
                "group": .string(kind.group), "version": .string(kind.type.version),
                "resource": .string(kind.type.plural),
            ]
        }
        let optionsKind =
            switch attributes.operation {
            case .create: "CreateOptions"
            case .update: "UpdateOptions"
            case .delete: "DeleteOptions"
            }
        var options: JSONValue = ["kind": .string(optionsKind), "apiVersion": "meta.k8s.io/v1"]
        if attributes.operation != .delete { options["fieldManager"] = .string(attributes.options.fieldManager) }
        var request: JSONValue = [
            "uid": .string(uid), "kind": gvk(kind), "resource": gvr(kind),
            "requestKind": gvk(attributes.kind), "requestResource": gvr(attributes.kind),
            "name": .string(attributes.key.name), "operation": .string(attributes.operation.rawValue),
            "userInfo": attributes.options.caller.json, "object": object ?? .null, "oldObject": old ?? .null,
            "dryRun": .bool(attributes.options.isDryRun), "options": options,
        ]
        if !attributes.key.namespace.isEmpty { request["namespace"] = .string(attributes.key.namespace) }
        if !attributes.subresource.isEmpty {
            request["subResource"] = .string(attributes.subresource)
            request["requestSubResource"] = .string(attributes.subresource)
        }
        return ["kind": "AdmissionReview", "apiVersion": .string(self.apiVersion), "request": request]
    }

    /// The answer is none: the webhook is broken, which `failurePolicy` judges.
    struct Unusable: Error, CustomStringConvertible {
        let description: String
    }

    struct Response: Sendable {
        var isAllowed: Bool
        var patch: JSONValue?
        var warnings: [String]
        /// The `status` of a refusal.
        var status: JSONValue
    }

    /// - Parameter allowsPatch: whether the webhook may change the object.
    static func response(_ bytes: [UInt8], uid: String, allowsPatch: Bool) throws(Unusable) -> Response {
        func unusable(_ why: String) -> Unusable { Unusable(description: "received invalid webhook response: \(why)") }
        let review: JSONValue
        do {
            review = try JSONValue(parsing: bytes)
        } catch {
            throw unusable("\(error)")
        }
        guard review["kind"]?.string == "AdmissionReview", review["apiVersion"]?.string == self.apiVersion else {
            throw unusable(
                "expected webhook response of \(self.apiVersion), Kind=AdmissionReview, got \(review["apiVersion"]?.string ?? ""), Kind=\(review["kind"]?.string ?? "")"
            )
        }
        guard let response = review["response"], case .object = response else {
            throw unusable("webhook response was absent")
        }
        guard response["uid"]?.string == uid else {
            throw unusable("expected response.uid=\"\(uid)\", got \"\(response["uid"]?.string ?? "")\"")
        }
        var patch: JSONValue?
        if let text = response["patch"]?.string, !text.isEmpty {
            guard allowsPatch else { throw unusable("this webhook may not patch") }
            guard response["patchType"]?.string == "JSONPatch" else {
                throw unusable(
                    "webhook returned response.patchType of \"\(response["patchType"]?.string ?? "")\", expected \"JSONPatch\""
                )
            }
            guard let data = Data(base64Encoded: text), let json = try? JSONValue(parsing: Array(data)) else {
                throw unusable("response.patch is no base64 of JSON")
            }
            patch = json
        }
        return Response(
            isAllowed: response["allowed"]?.bool ?? false, patch: patch,
            warnings: response["warnings"]?.array?.compactMap(\.string) ?? [], status: response["status"] ?? [:])
    }

    /// What the client is told.
    static func denial(by webhook: String, _ status: JSONValue) -> StatusError {
        let message = status["message"]?.string ?? ""
        let reason = status["reason"]?.string ?? ""
        let text =
            !message.isEmpty
            ? "denied the request: \(message)"
            : reason.isEmpty ? "denied the request without explanation" : "denied the request: \(reason)"
        let code = Int(clamping: status["code"]?.int ?? 0)
        let isRefusal = (400...599).contains(code)
        return StatusError(
            code: isRefusal ? code : 403, reason: reason.isEmpty && !isRefusal ? "Forbidden" : reason,
            message: "admission webhook \"\(webhook)\" \(text)", details: status["details"] ?? .null)
    }
}
