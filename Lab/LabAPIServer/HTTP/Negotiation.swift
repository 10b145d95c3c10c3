internal import KubeAPI

/// Which form of an answer a client wants, from its Accept header.
enum Representation: Equatable {
    case json, yaml, table, partial

    /// The first clause that can be served.
    ///
    /// - Parameter allowsTransforms: Tables and partial metadata exist only for resources.
    /// - Throws: 406 when nothing fits.
    static func chosen(accept: String?, allowsTransforms: Bool) throws(StatusError) -> Representation {
        guard let accept, !accept.isEmpty else { return .json }
        for clause in accept.split(separator: ",") {
            let parts = clause.split(separator: ";").map { String($0.drop { $0 == " " }).lowercased() }
            guard let type = parts.first?.filter({ $0 != " " }) else { continue }
            var parameters: [String: String] = [:]
            for part in parts.dropFirst() {
                let pair = part.split(separator: "=", maxSplits: 1)
                if pair.count == 2 { parameters[String(pair[0])] = String(pair[1]) }
            }
            switch type {
            case "application/json", "*/*", "application/*":
                guard let transform = parameters["as"] else { return .json }
                guard allowsTransforms, parameters["g"] == "meta.k8s.io", parameters["v"] == "v1" else { continue }
                if transform == "table" { return .table }
                if transform.hasPrefix("partialobjectmetadata") { return .partial }
            case "application/yaml": return .yaml
            case "text/*", "text/plain": return .json
            default: continue
            }
        }
        throw StatusError(
            code: 406, reason: "NotAcceptable",
            message: "only the following media types are accepted: application/json, application/yaml")
    }
}
