internal import KubeAPI
internal import Logging
internal import MeshTelemetry

/// The validating webhook `/validate`: refuses objects of Istio's kinds that nothing could follow.
struct ValidationService: Sendable {
    private let logger: Logger

    init(logger: Logger) { self.logger = logger }

    var route: EndpointRoute {
        EndpointRoute("/validate", coversBelow: true, methods: ["POST"]) { request in
            do throws(AdmissionReview.Unreadable) {
                return .json(self.answer(try AdmissionReview(request.body)).encoded)
            } catch {
                return .text("\(error)\n", status: 400)
            }
        }
    }

    func answer(_ review: AdmissionReview) -> JSONValue {
        guard review.object.object != nil else { return review.allowed() }
        let object = KubeObject(review.object)
        let findings = ConfigValidator.check(object)
        if findings.errors.isEmpty { return review.allowed(warnings: findings.warnings) }
        self.logger.info(
            "refused an object",
            metadata: [
                "kind": "\(object.kind)", "object": "\(review.namespace)/\(object.name)",
                "why": "\(findings.errors.joined(separator: "; "))",
            ])
        return review.refused("configuration is invalid: " + findings.errors.joined(separator: "; "))
    }
}
