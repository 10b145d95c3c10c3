internal import Foundation
package import MeshChannel
package import MeshXDS

// Where the control plane is, how it proves itself, and what it is told about us.

extension EnvironmentReader {
    package static let rootFile = "./var/run/secrets/istio/root-cert.pem"
    package static let tokenFile = "./var/run/secrets/tokens/istio-token"

    /// - Parameter kind: `XDS` or `CA`: `XDS_ADDRESS`, `XDS_ROOT_CA`, `ALT_XDS_HOSTNAME`, `XDS_HEADER_*`.
    package func endpoint(
        _ kind: String, token: ControlPlaneEndpoint.Token, clusterID: String, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint {
        let isInCluster = self.text("KUBERNETES_SERVICE_HOST") != nil
        let address =
            self.variables["\(kind)_ADDRESS"]
            ?? (isInCluster ? "https://istiod.istio-system.svc:15012" : "https://localhost:15012")
        var headers: [String: String] = [:]
        for (name, value) in self.all(prefix: "\(kind)_HEADER_") { headers[name.lowercased()] = value }
        let endpoint = ControlPlaneEndpoint(
            address: address, alternativeHost: self.text("ALT_\(kind)_HOSTNAME"),
            roots: try self.roots("\(kind)_ROOT_CA", fileExists), token: token, clusterID: clusterID,
            headers: headers)
        guard let endpoint else {
            throw InvalidSetting(
                "\(kind)_ADDRESS", address,
                wanted: "the control plane as https://host:port, e.g. "
                    + "https://istiod.istio-system.svc:15012")
        }
        return endpoint
    }

    private func roots(
        _ name: String, _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Roots {
        guard let value = self.text(name) else { return .file(Self.rootFile) }
        if value == "SYSTEM" { return .system }
        if value.contains("-----BEGIN CERTIFICATE-----") { return .pem(value) }
        guard fileExists(value) else {
            throw InvalidSetting(name, value, wanted: "the path of a file that exists, SYSTEM, or certificates as PEM")
        }
        return .file(value)
    }

    /// `AUTH_TOKEN`, or the usual file.
    package func token(
        _ fileExists: (String) -> Bool
    ) throws(InvalidSetting) -> ControlPlaneEndpoint.Token {
        guard let value = self.text("AUTH_TOKEN") else {
            return fileExists(Self.tokenFile) ? .file(Self.tokenFile) : .none
        }
        guard fileExists(value) else {
            // Not the value itself: it may be a token, and this goes into a log.
            throw InvalidSetting("AUTH_TOKEN", "...", wanted: "the path of a token file that exists")
        }
        return .file(value)
    }

    /// `ISTIO_META_*` and `ISTIO_METAJSON_*`.
    package func metadata() throws(InvalidSetting) -> [String: MetadataValue] {
        var metadata = self.all(prefix: "ISTIO_META_").mapValues { MetadataValue.string($0) }
        for (name, text) in self.all(prefix: "ISTIO_METAJSON_") {
            guard let value = try? JSONDecoder().decode(DecodedJSON.self, from: Data(text.utf8)) else {
                throw InvalidSetting("ISTIO_METAJSON_\(name)", text, wanted: "JSON")
            }
            metadata[name] = value.value
        }
        return metadata
    }
}
