import CLabNode
import Foundation

/// Makes a node out of fresh namespaces: its link to the cluster's bridge, and directories that are its own although
/// it sees the host's file system.
///
/// Everything here belongs to the namespaces, so it needs no undoing: it is gone with the last process of the node.
struct NodeSandbox: Sendable {
    static let standardPlugins = "/usr/lib/cni"

    let configuration: NodeConfiguration
    let paths: NodePaths
    let commands: CommandRunner

    init(_ configuration: NodeConfiguration, _ paths: NodePaths, _ commands: CommandRunner) {
        self.configuration = configuration
        self.paths = paths
        self.commands = commands
    }

    /// Private directories, and the directory below the state directory that each is. Several names of one directory
    /// exist because distributions disagree (k3s has its own), and a mesh told of any of them must find the real one.
    static let privateDirectories: [(path: String, state: String)] = [
        ("/etc/cni", "etc-cni"), ("/opt/cni", "opt-cni"), ("/var/lib/cni", "cni"), ("/run/netns", "netns"),
        ("/var/run/istio-cni", "istio-cni"), ("/var/run/ztunnel", "ztunnel"), ("/var/lib/kubelet", "kubelet"),
        ("/var/log/pods", "pod-logs"), ("/var/log/containers", "container-logs"), ("/var/lib/rancher", "rancher"),
        ("/var/lib/istio", "istio"),
    ]
    /// Second names of directories inside the private ones.
    static let aliases: [(path: String, of: String)] = [
        ("/var/lib/rancher/k3s/agent/etc/cni", "/etc/cni"), ("/var/lib/rancher/k3s/data/cni", "/opt/cni/bin"),
    ]

    /// Called once, in pid 1 of the node, before anything else runs in it.
    func enter(hostNetworkNamespace: Int32) async throws {
        _ = signal(SIGPIPE, SIG_IGN)
        try self.makeDirectories()
        try await self.makeNetwork(hostNetworkNamespace: hostNetworkNamespace)
        close(hostNetworkNamespace)
    }

    /// Parts of the host's file system that a node may write to without the host noticing: what is written is kept in
    /// memory and gone with the node. `/usr/bin` is here because a mesh installs its plugin into /bin of a k3d node.
    static let shieldedDirectories = ["/etc", "/opt", "/run", "/usr/bin", "/var"]

    private func makeDirectories() throws {
        let files = FileManager.default
        let scratch = self.paths.scratch
        try files.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        try mount("tmpfs", on: scratch, type: "tmpfs", data: "mode=0711,size=75%")
        // The shields would hide these from us; they are reached through descriptors and put back on top.
        var kept = [self.configuration.stateDirectory, self.configuration.runDirectory]
        // Shallow ones first: the catalogue's directory may hold the state directory.
        if let file = self.configuration.imagesFile { kept.append((file as NSString).deletingLastPathComponent) }
        kept.sort { $0.count < $1.count }
        let state = open(self.configuration.stateDirectory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(state) }
        let descriptors = kept.map { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { for descriptor in descriptors { close(descriptor) } }
        for directory in Self.shieldedDirectories {
            let layers = "\(scratch)/shields/\(directory.split(separator: "/").joined(separator: "-"))"
            for part in ["upper", "work"] {
                try files.createDirectory(atPath: "\(layers)/\(part)", withIntermediateDirectories: true)
            }
            chmod("\(layers)/upper", 0o755)
        }
        for directory in Self.shieldedDirectories {
            // Once the shield of /var or /run is up, the path of the scratch directory leads elsewhere.
            let layers =
                "/proc/self/fd/\(state)/scratch/shields/"
                + directory.split(separator: "/").joined(separator: "-")
            try mount(
                "overlay", on: directory, type: "overlay",
                data: "lowerdir=\(directory),upperdir=\(layers)/upper,workdir=\(layers)/work")
        }
        for (path, descriptor) in zip(kept, descriptors) {
            try files.createDirectory(atPath: path, withIntermediateDirectories: true)
            try mount(
                "/proc/self/fd/\(descriptor)", on: path, flags: clabnode_mount_bind | clabnode_mount_recursive)
        }
        for (path, state) in Self.privateDirectories {
            let source = "\(self.configuration.stateDirectory)/\(state)"
            // What lies on a tmpfs on a real node does not survive its death.
            if path.hasPrefix("/run/") || path.hasPrefix("/var/run/") { try? files.removeItem(atPath: source) }
            try files.createDirectory(atPath: source, withIntermediateDirectories: true)
            try files.createDirectory(atPath: path, withIntermediateDirectories: true)
            try mount(source, on: path, flags: clabnode_mount_bind)
        }
        try files.createDirectory(atPath: "/opt/cni/bin", withIntermediateDirectories: true)
        for plugin in (try? files.contentsOfDirectory(atPath: Self.standardPlugins)) ?? [] {
            let copy = "/opt/cni/bin/\(plugin)"
            if files.fileExists(atPath: copy) { continue }
            try files.copyItem(atPath: "\(Self.standardPlugins)/\(plugin)", toPath: copy)
        }
        for (path, of) in Self.aliases {
            try files.createDirectory(atPath: path, withIntermediateDirectories: true)
            try files.createDirectory(atPath: of, withIntermediateDirectories: true)
            try mount(of, on: path, flags: clabnode_mount_bind)
        }
        // As on a real node: what a pod mounts with Bidirectional, and every new pod namespace, reaches the others.
        // Only within this node: the mounts were made private when its namespace was.
        try mount("none", on: "/", flags: clabnode_mount_shared | clabnode_mount_recursive)
    }

    private func makeNetwork(hostNetworkNamespace: Int32) async throws {
        let configuration = self.configuration
        let host = "/proc/self/fd/\(hostNetworkNamespace)"
        // A descriptor of ours is passed by its path, because programs are started with three descriptors only.
        let visible = host.replacing("self", with: "\(getpid())")
        let port = configuration.hostInterface
        try writeText(configuration.nodeName, to: "/proc/sys/kernel/hostname")
        try await self.commands.check(["ip", "link", "set", "lo", "up"])
        // What a node of the same name left when it was killed: its peer is gone, but going takes the kernel a moment.
        _ = try await self.commands.run(["nsenter", "--net=\(visible)", "ip", "link", "delete", port])
        try await self.commands.check([
            "ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", visible,
        ])
        try await self.commands.check([
            "nsenter", "--net=\(visible)", "ip", "link", "set", port, "master", configuration.bridge, "up",
        ])
        try await self.commands.check([
            "ip", "address", "add", "\(configuration.nodeIP)/\(configuration.prefixLength)", "dev", "eth0",
        ])
        try await self.commands.check(["ip", "link", "set", "eth0", "up"])
        try await self.commands.check(["ip", "route", "add", "default", "via", configuration.gateway])
        try writeText("1", to: "/proc/sys/net/ipv4/ip_forward")
        // Pods answer from addresses that are not on the interface the question came by.
        for interface in ["all", "default"] {
            try writeText("0", to: "/proc/sys/net/ipv4/conf/\(interface)/rp_filter")
        }
    }
}

/// mount(2), with the reason on failure.
func mount(
    _ source: String, on target: String, type: String? = nil, flags: UInt = 0, data: String? = nil
) throws(SystemError) {
    let code = clabnode_mount(source, target, type, flags, data)
    if code < 0 { throw SystemError("mounting \(type ?? source) on \(target)", code: -code) }
}

/// Writes in place: also for files of /proc, which cannot be replaced.
func writeText(_ text: String, to path: String, mode: mode_t = 0o644) throws(SystemError) {
    try writeBytes(Array(text.utf8), to: path, mode: mode)
}

func writeBytes(_ bytes: [UInt8], to path: String, mode: mode_t = 0o644) throws(SystemError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw SystemError("opening \(path)", code: errno) }
    defer { close(descriptor) }
    guard writeAll(descriptor, bytes) else { throw SystemError("writing \(path)", code: errno) }
}
