internal import Foundation
internal import MeshChannel
internal import MeshProcess
internal import MeshXDS

// Where the control plane is, how it proves itself, and what it is told about us.

extension ProxyConfiguration {
    static let rootFile = "./var/run/secrets/istio/root-cert.pem"
    static let tokenFile = "./var/run/secrets/tokens/istio-token"

    static func endpoint(
        _ kind: String, _ reader: EnvironmentReader, _ token: ControlPlaneEndpoint.Token, _ clusterID: String,
        _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint {
        let isInCluster = reader.text("KUBERNETES_SERVICE_HOST") != nil
        let address =
            reader.variables["\(kind)_ADDRESS"]
            ?? (isInCluster ? "https://istiod.istio-system.svc:15012" : "https://localhost:15012")
        var headers: [String: String] = [:]
        for (name, value) in reader.all(prefix: "\(kind)_HEADER_") { headers[name.lowercased()] = value }
        let endpoint = ControlPlaneEndpoint(
            address: address, alternativeHost: reader.text("ALT_\(kind)_HOSTNAME"),
            roots: try Self.roots("\(kind)_ROOT_CA", reader, fileExists), token: token, clusterID: clusterID,
            headers: headers)
        guard let endpoint else {
            throw InvalidSetting(
                "\(kind)_ADDRESS", address,
                wanted: "the control plane as https://host:port, e.g. "
                    + "https://istiod.istio-system.svc:15012")
        }
        return endpoint
    }

    static func roots(
        _ name: String, _ reader: EnvironmentReader, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Roots {
        guard let value = reader.text(name) else { return .file(Self.rootFile) }
        if value == "SYSTEM" { return .system }
        if value.contains("-----BEGIN CERTIFICATE-----") { return .pem(value) }
        guard fileExists(value) else {
            throw InvalidSetting(name, value, wanted: "the path of a file that exists, SYSTEM, or certificates as PEM")
        }
        return .file(value)
    }

    static func token(
        _ reader: EnvironmentReader, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Token {
        guard let value = reader.text("AUTH_TOKEN") else {
            return fileExists(Self.tokenFile) ? .file(Self.tokenFile) : .none
        }
        guard fileExists(value) else {
            // Not the value itself: it may be a token, and this goes into a log.
            throw InvalidSetting("AUTH_TOKEN", "...", wanted: "the path of a token file that exists")
        }
        return .file(value)
    }

    static func metadata(_ reader: EnvironmentReader) throws(InvalidSetting) -> [String: MetadataValue] {
        var metadata = reader.all(prefix: "ISTIO_META_").mapValues { MetadataValue.string($0) }
        for (name, text) in reader.all(prefix: "ISTIO_METAJSON_") {
            guard let value = try? JSONDecoder().decode(DecodedJSON.self, from: Data(text.utf8)) else {
                throw InvalidSetting("ISTIO_METAJSON_\(name)", text, wanted: "JSON")
            }
            metadata[name] = value.value
        }
        return metadata
    }
}
