/// Where things are on the node, as its processes see the file system.
///
/// In a node's own mount namespace these are the well-known places, private to the node. A kubelet in a namespace that
/// it shares with others (a test) keeps all of it below one directory.
package struct NodePaths: Hashable, Sendable {
    /// Where CNI configurations are looked for; the first valid file in the order of names wins.
    package var cniConfigurations: String
    /// Where CNI plugins are looked for, in order.
    package var cniPlugins: [String]
    /// Results of CNI ADD, needed again at DEL.
    package var cniResults: String
    /// Network namespaces of pods: files that hold them.
    package var networkNamespaces: String
    /// Volumes and containers of pods: `pods/<uid>/`.
    package var kubelet: String
    /// `<namespace>_<pod>_<uid>/<container>/<restart>.log`
    package var podLogs: String
    /// State of runc.
    package var runc: String
    /// A tmpfs for what containers write: the upper layers of their file systems. It must be another file system than
    /// `/`, which is the lower layer of all of them.
    package var scratch: String
    /// Host images of `docker.io/...` applications: directories that the Makefile prepares.
    package var resolvConf: String

    package static func node(_ configuration: NodeConfiguration) -> NodePaths {
        NodePaths(
            cniConfigurations: "/etc/cni/net.d", cniPlugins: ["/opt/cni/bin", "/usr/bin"],
            cniResults: "/var/lib/cni/results", networkNamespaces: "/run/netns", kubelet: "/var/lib/kubelet",
            podLogs: "/var/log/pods", runc: "/var/lib/kubelet/runc", scratch: "/var/lib/kubelet/scratch",
            resolvConf: "/etc/resolv.conf")
    }

    package static func below(_ root: String, cniPlugins: String) -> NodePaths {
        NodePaths(
            cniConfigurations: "\(root)/cni/net.d", cniPlugins: [cniPlugins], cniResults: "\(root)/cni/results",
            networkNamespaces: "\(root)/netns", kubelet: "\(root)/kubelet", podLogs: "\(root)/log/pods",
            runc: "\(root)/runc", scratch: "\(root)/scratch", resolvConf: "/etc/resolv.conf")
    }

    package func pod(_ uid: String) -> String { "\(self.kubelet)/pods/\(uid)" }
}
