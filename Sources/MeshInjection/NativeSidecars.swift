package import KubeAPI

/// Init containers that stay (`restartPolicy: Always`): they start before the app and end after it.
package enum NativeSidecars {
    /// Kubernetes 1.33 has them for good.
    private static let minorMin = 33

    /// Whether a Node's kubelet runs them.
    package static func run(on node: KubeObject) -> Bool {
        // v1.33.1+k3s1
        let version = node.status.at("nodeInfo", "kubeletVersion")?.string ?? ""
        let parts = version.drop { $0 == "v" }.split(separator: ".")
        guard parts.count >= 2, let major = Int(parts[0]), let minor = Int(parts[1].prefix { $0.isNumber }) else {
            return false
        }
        return major > 1 || (major == 1 && minor >= Self.minorMin)
    }
}
