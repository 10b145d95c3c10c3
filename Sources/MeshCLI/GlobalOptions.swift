import ArgumentParser
import Foundation
import KubeClient

/// Flags that every command has; names are istioctl's.
struct GlobalOptions: ParsableArguments {
    @Option(name: [.customShort("c"), .long], help: "Kubeconfig file (default: as kubectl).")
    var kubeconfig: String?

    @Option(help: "Context of the kubeconfig (default: its current one).")
    var context: String?

    @Option(name: [.customShort("i"), .customLong("istioNamespace")], help: "Namespace of the mesh.")
    var istioNamespace = "istio-system"

    func connect() throws -> KubeClient {
        let environment = ProcessInfo.processInfo.environment
        let path = try KubeConfiguration.kubeconfigPath(explicit: self.kubeconfig, environment: environment)
        return try KubeClient(
            KubeConfiguration.kubeconfig(path: path, context: self.context),
            userAgent: "martlet/\(MartletVersion.current)")
    }

    /// Runs `body` with a client and closes it, whatever happens.
    func withCluster<Result>(_ body: (KubeClient) async throws -> Result) async throws -> Result {
        let client = try self.connect()
        do {
            let result = try await body(client)
            try await client.shutdown()
            return result
        } catch {
            try? await client.shutdown()
            throw error
        }
    }
}

/// A failure whose text is all that a person needs.
package struct CommandError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
