import Foundation
import KubeClient
import Testing

@Suite("A kubeconfig")
struct KubeConfigurationTests {
    let text = """
        apiVersion: v1
        kind: Config
        current-context: one
        clusters:
        - {name: c, cluster: {server: "https://127.0.0.1:6550/", certificate-authority-data: \(Data("PEM".utf8).base64EncodedString())}}
        - {name: plain, cluster: {server: "http://127.0.0.1:1"}}
        contexts:
        - {name: one, context: {cluster: c, user: u, namespace: foo}}
        - {name: two, context: {cluster: plain, user: u}}
        - {name: three, context: {cluster: nowhere, user: u}}
        users:
        - {name: u, user: {token: secret}}
        """

    private func read(_ context: String? = nil) throws -> KubeConfiguration {
        try KubeConfiguration(kubeconfig: self.text, context: context, relativeTo: URL(fileURLWithPath: "/"))
    }

    @Test("gives server, trust, token and namespace of its current context")
    func current() throws {
        let configuration = try read()
        #expect(configuration.server == "https://127.0.0.1:6550")
        #expect(configuration.namespace == "foo")
        guard case .authorities("PEM") = configuration.trust, case .token("secret") = configuration.credential else {
            Issue.record("\(configuration)")
            return
        }
    }

    @Test("is refused with the thing that is missing", arguments: ["two", "three", "four"])
    func refused(context: String) {
        #expect(throws: KubeConfiguration.Invalid.self) { try read(context) }
    }

    @Test("is looked for where kubectl looks")
    func path() {
        #expect(throws: KubeConfiguration.Invalid.self) {
            try KubeConfiguration.kubeconfigPath(explicit: nil, environment: ["HOME": "/nonexistent"])
        }
        #expect(throws: KubeConfiguration.Invalid.self) {
            try KubeConfiguration.kubeconfigPath(explicit: "/nonexistent/config", environment: [:])
        }
        #expect(throws: KubeConfiguration.Invalid.self) {
            try KubeConfiguration.inCluster(environment: [:])
        }
    }
}
