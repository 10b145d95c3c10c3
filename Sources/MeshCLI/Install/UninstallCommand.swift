import ArgumentParser
import KubeAPI
import KubeClient

struct UninstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "uninstall",
        abstract: "Take the mesh out of the cluster: pods leave it first, without a restart, then its parts go.")

    @OptionGroup var global: GlobalOptions
    @Flag(help: "Remove everything, cluster-wide objects and the mesh's kinds (and so its policies) included.")
    var purge = false
    @Option(name: [.short, .long], help: "Remove this revision's parts; kinds and policies stay.") var revision: String?
    @Flag(name: [.customShort("y"), .long], help: "Do not ask.") var skipConfirmation = false
    @Option(help: "How long pods may take to leave the mesh.") var timeout = "120s"

    func run() async throws {
        guard self.purge || self.revision != nil else {
            throw CommandError("say what to remove: --revision default, or --purge for everything")
        }
        if let revision, revision != "default" { throw CommandError("there is no revision \"\(revision)\"") }
        guard let limit = InstallCommand.duration(self.timeout) else {
            throw ValidationError("--timeout: \"\(self.timeout)\" is no duration like 120s")
        }
        let terminal = Terminal()
        try await self.global.withCluster { cluster in
            if !self.skipConfirmation,
                !terminal.confirm("All pods leave the mesh and its parts are removed. Proceed?")
            {
                terminal.plain("Cancelled.")
                throw ExitCode(1)
            }
            try await Uninstaller(
                cluster: cluster, namespace: self.global.istioNamespace, includesKinds: self.purge, limit: limit,
                terminal: terminal
            ).run()
        }
    }
}

/// Removes in an order that leaves no pod redirected to a proxy that is gone: node agents first (deleting their
/// DaemonSet tells them to let every pod go), then the proxies, then the rest.
struct Uninstaller: Sendable {
    let cluster: any KubeCluster
    let namespace: String
    let includesKinds: Bool
    let limit: Duration
    let terminal: Terminal

    private static let redirection = "ambient.istio.io/redirection"

    func run() async throws {
        let selector = ListOptions(labelSelector: Components.componentLabel)
        var removed = 0
        // First: with nobody to ask, they would keep pods from being made.
        for type: ResourceType in [.mutatingWebhookConfigurations, .validatingWebhookConfigurations] {
            for object in try await self.cluster.list(type, namespace: nil, selector).items {
                removed += try await self.remove(type, name: object.name)
            }
        }
        removed += try await self.remove(.daemonSets, name: "istio-cni-node")
        try await self.awaitNoEnrolledPod()
        try await self.awaitGone(.daemonSets, name: "istio-cni-node")
        removed += try await self.remove(.daemonSets, name: "ztunnel")
        try await self.awaitGone(.daemonSets, name: "ztunnel")
        var types: [ResourceType] = [
            .deployments, .daemonSets, .services, .configMaps, .serviceAccounts, .roleBindings, .roles,
            .clusterRoleBindings, .clusterRoles,
        ]
        if self.includesKinds { types.append(.customResourceDefinitions) }
        for type in types {
            for object in try await self.cluster.list(type, namespace: nil, selector).items
            where type != .customResourceDefinitions || !Components.isForeign(object) {
                removed += try await self.remove(type, namespace: object.namespace, name: object.name)
            }
        }
        removed += try await self.removeWaypoints()
        if removed == 0 {
            self.terminal.warn("nothing to remove: no object carries the label \(Components.componentLabel)")
        }
        self.terminal.done("Uninstall complete")
    }

    /// What the control plane made for Gateways, now that it cannot make it again. The Gateways themselves are the users';
    /// their proxies could do nothing without a control plane.
    private func removeWaypoints() async throws -> Int {
        let made = ListOptions(labelSelector: "gateway.istio.io/managed=istio.io-mesh-controller")
        var removed = 0
        for type: ResourceType in [
            .deployments, .services, .serviceAccounts, .horizontalPodAutoscalers, .podDisruptionBudgets,
        ] {
            for object in try await self.cluster.list(type, namespace: nil, made).items {
                removed += try await self.remove(type, namespace: object.namespace, name: object.name)
            }
        }
        guard self.includesKinds else { return removed }
        let ours = ["istio.io/mesh-controller", "istio.io/unmanaged-gateway", "martlet.dev/envoy-waypoint"]
        do {
            for object in try await self.cluster.list(.gatewayClasses).items
            where ["istio-waypoint", "istio-remote", "martlet-envoy-waypoint"].contains(object.name)
                && ours.contains(object.spec["controllerName"]?.string ?? "")
            {
                removed += try await self.remove(.gatewayClasses, name: object.name)
            }
        } catch let error as StatusError where error.isNotFound {
            // The kind went with the others.
        }
        return removed
    }

    /// - Returns: 1 when there was something to remove.
    private func remove(_ type: ResourceType, namespace: String? = nil, name: String) async throws -> Int {
        let namespace = type.isNamespaced ? (namespace ?? self.namespace) : nil
        do {
            try await self.cluster.delete(
                type, namespace: namespace, name: name, DeleteOptions(propagation: .foreground))
            self.terminal.plain("  Removed \(type.apiVersion), Kind=\(type.kind)/\(name).\(namespace ?? "")")
            return 1
        } catch let error as StatusError where error.isNotFound {
            return 0
        }
    }

    private func awaitGone(_ type: ResourceType, name: String) async throws {
        try await self.poll("\(type.kind)/\(name) to end") {
            try await self.cluster.find(type, namespace: self.namespace, name: name) == nil ? nil : "it still runs"
        }
    }

    private func awaitNoEnrolledPod() async throws {
        try await self.poll("pods to leave the mesh") {
            let pods = try await self.cluster.list(.pods).items
                .filter { $0.annotations[Self.redirection] != nil && !$0.isBeingDeleted }
            return pods.isEmpty ? nil : "\(pods.count) left: \(pods.prefix(5).map(\.key).joined(separator: ", "))"
        }
        self.terminal.done("No pod is captured any more")
    }

    private func poll(_ what: String, _ remaining: () async throws -> String?) async throws {
        let started = ContinuousClock.now
        while let text = try await remaining() {
            guard ContinuousClock.now - started < self.limit else {
                throw CommandError(
                    "waited \(self.limit.brief) for \(what); \(text). Look at: kubectl logs -n \(self.namespace) -l k8s-app=istio-cni-node"
                )
            }
            self.terminal.progress("Waiting for \(what) (\(text))")
            try await Task.sleep(for: .milliseconds(200))
        }
    }
}
