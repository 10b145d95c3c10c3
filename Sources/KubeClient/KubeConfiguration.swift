public import Foundation
import KubeAPI
import Yams

/// Where the API server is and how to prove who we are: from a kubeconfig file, or from a pod's service account.
public struct KubeConfiguration: Sendable {
    public enum Credential: Sendable {
        case none
        case token(String)
        /// Read again at least once a minute: projected tokens are replaced while we run.
        case tokenFile(String)
        /// PEM.
        case clientCertificate(chain: String, key: String)
    }
    public enum Trust: Sendable {
        /// PEM certificates.
        case authorities(String)
        case system
    }

    /// `https://host:port`, no trailing slash.
    public var server: String
    public var trust: Trust
    public var credential: Credential
    /// The namespace that commands mean when none is given.
    public var namespace: String
    /// The kubeconfig's context, or `in-cluster`.
    public var context: String

    public init(
        server: String, trust: Trust, credential: Credential, namespace: String = "default",
        context: String = "in-cluster"
    ) {
        self.server = server
        self.trust = trust
        self.credential = credential
        self.namespace = namespace
        self.context = context
    }

    public struct Invalid: Error, CustomStringConvertible {
        public let description: String
        public init(_ description: String) { self.description = description }
    }

    /// The files and variables that every pod has.
    public static let serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// - Parameter directory: where the service account is mounted; tests pass their own.
    public static func inCluster(
        environment: [String: String], directory: String = serviceAccountDirectory
    ) throws -> KubeConfiguration {
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty,
            let port = environment["KUBERNETES_SERVICE_PORT"], !port.isEmpty
        else {
            throw Invalid(
                "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
                    + "outside a pod, name a kubeconfig with KUBECONFIG or --kubeconfig")
        }
        func read(_ name: String) throws -> String {
            do {
                return try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)
            } catch {
                throw Invalid(
                    "cannot read \(directory)/\(name) (\(error.localizedDescription)); "
                        + "does the pod set automountServiceAccountToken: false?")
            }
        }
        return KubeConfiguration(
            server: "https://\(host.contains(":") ? "[\(host)]" : host):\(port)",
            trust: .authorities(try read("ca.crt")), credential: .tokenFile("\(directory)/token"),
            namespace: (try? read("namespace")) ?? "default")
    }

    /// The kubeconfig that kubectl would use: `explicit`, else `$KUBECONFIG` (its first file that exists), else
    /// `~/.kube/config`.
    public static func kubeconfigPath(explicit: String?, environment: [String: String]) throws -> String {
        if let explicit, !explicit.isEmpty {
            guard FileManager.default.fileExists(atPath: explicit) else {
                throw Invalid("kubeconfig \(explicit) does not exist")
            }
            return explicit
        }
        if let list = environment["KUBECONFIG"], !list.isEmpty {
            let paths = list.split(separator: ":").map(String.init)
            guard let path = paths.first(where: FileManager.default.fileExists) else {
                throw Invalid(
                    "no file of KUBECONFIG=\(list) exists; make a cluster with: martlet lab create, or pass --kubeconfig FILE"
                )
            }
            return path
        }
        let path = "\(environment["HOME"] ?? NSHomeDirectory())/.kube/config"
        guard FileManager.default.fileExists(atPath: path) else {
            throw Invalid(
                "no kubeconfig: \(path) does not exist and KUBECONFIG is not set; "
                    + "make a cluster with: martlet lab create, or pass --kubeconfig FILE")
        }
        return path
    }

    public static func kubeconfig(path: String, context wanted: String? = nil) throws -> KubeConfiguration {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw Invalid("cannot read kubeconfig \(path): \(error.localizedDescription)")
        }
        return try KubeConfiguration(
            kubeconfig: text, context: wanted, relativeTo: URL(fileURLWithPath: path).deletingLastPathComponent())
    }

    /// - Parameter directory: what relative file names in the kubeconfig are relative to.
    public init(kubeconfig text: String, context wanted: String?, relativeTo directory: URL) throws {
        let document: JSONValue
        do {
            document = try JSONValue(yaml: text)
        } catch {
            throw Invalid("the kubeconfig is no YAML: \(error)")
        }
        func entry(_ list: String, _ kind: String, _ name: String) throws -> JSONValue {
            guard let found = document[list]?.array?.first(where: { $0["name"]?.string == name })?[kind] else {
                throw Invalid("the kubeconfig has no \(kind) named \"\(name)\"")
            }
            return found
        }
        let name = wanted ?? document["current-context"]?.string ?? ""
        guard !name.isEmpty else { throw Invalid("the kubeconfig has no current-context; pass --context NAME") }
        let context = try entry("contexts", "context", name)
        let cluster = try entry("clusters", "cluster", context["cluster"]?.string ?? "")
        let user = try context["user"]?.string.map { try entry("users", "user", $0) } ?? [:]
        guard let server = cluster["server"]?.string, server.hasPrefix("https://") else {
            throw Invalid(
                "cluster of context \"\(name)\" has no https:// server; credentials are not sent in the clear")
        }
        func pem(_ object: JSONValue, _ key: String) throws -> String? {
            if let encoded = object["\(key)-data"]?.string {
                guard let data = Data(base64Encoded: encoded) else { throw Invalid("\(key)-data is not base64") }
                return String(decoding: data, as: UTF8.self)
            }
            guard let file = object[key]?.string, !file.isEmpty else { return nil }
            let url = URL(fileURLWithPath: file, relativeTo: directory)
            guard let text = try? String(contentsOf: url, encoding: .utf8) else {
                throw Invalid("cannot read \(key) file \(url.path)")
            }
            return text
        }
        if cluster["insecure-skip-tls-verify"]?.bool == true {
            throw Invalid("insecure-skip-tls-verify is refused: give the cluster's certificate-authority-data")
        }
        if user["exec"] != nil || user["auth-provider"] != nil {
            throw Invalid("exec credential plugins are not supported: use a token or a client certificate")
        }
        let credential: Credential
        if let token = user["token"]?.string, !token.isEmpty {
            credential = .token(token)
        } else if let file = user["tokenFile"]?.string {
            credential = .tokenFile(URL(fileURLWithPath: file, relativeTo: directory).path)
        } else if let chain = try pem(user, "client-certificate"), let key = try pem(user, "client-key") {
            credential = .clientCertificate(chain: chain, key: key)
        } else {
            credential = .none
        }
        self.init(
            server: server.hasSuffix("/") ? String(server.dropLast()) : server,
            trust: try pem(cluster, "certificate-authority").map(Trust.authorities) ?? .system,
            credential: credential, namespace: context["namespace"]?.string ?? "default", context: name)
    }
}
