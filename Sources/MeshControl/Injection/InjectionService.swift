internal import KubeAPI
package import KubeClient
internal import Logging
internal import MeshInjection
internal import MeshTelemetry
internal import Synchronization

/// Which nodes can run init containers that stay: all of them must, as nobody knows yet where a pod will go.
package final class NodeVersions: Sendable {
    private let nodes = Mutex<[String: Bool]>([:])

    package init() {}

    /// False for a cluster without nodes.
    package var runNativeSidecars: Bool { self.nodes.withLock { !$0.isEmpty && $0.values.allSatisfy { $0 } } }

    package func observe(_ event: InformerEvent) {
        self.nodes.withLock { nodes in
            switch event {
            case .snapshot(let all): nodes = Dictionary(all.map { ($0.name, Self.can($0)) }, uniquingKeysWith: { $1 })
            case .updated(let node): nodes[node.name] = Self.can(node)
            case .deleted(let node): nodes[node.name] = nil
            }
        }
    }

    private static func can(_ node: KubeObject) -> Bool { NativeSidecars.run(on: node) }
}

/// The mutating webhook `/inject`: puts sidecars into new pods, as the ConfigMap `istio-sidecar-injector` says.
final class InjectionService: Sendable {
    /// Paths below `/inject` say more about the cluster that asks: `/inject/cluster/west/net/west-1`.
    static let path = "/inject"

    private let cluster: any KubeCluster
    private let namespace: String
    private let settings: SettingsHolder
    private let nodes: NodeVersions
    /// Nil: where the nodes can run them.
    private let wantsNativeSidecars: Bool?
    private let logger: Logger
    /// Nil: not read yet, or there is none.
    private let current = Mutex<InjectionSettings?>(nil)
    private let metrics: InjectionMetrics

    init(
        _ cluster: any KubeCluster, namespace: String, settings: SettingsHolder, nodes: NodeVersions,
        wantsNativeSidecars: Bool? = nil, metrics: InjectionMetrics, logger: Logger
    ) {
        self.cluster = cluster
        self.namespace = namespace
        self.settings = settings
        self.nodes = nodes
        self.wantsNativeSidecars = wantsNativeSidecars
        self.metrics = metrics
        self.logger = logger
    }

    var route: EndpointRoute {
        EndpointRoute(Self.path, coversBelow: true, methods: ["POST"]) { request in
            do throws(AdmissionReview.Unreadable) {
                let review = try AdmissionReview(request.body)
                return .json(self.answer(review, path: request.path).encoded)
            } catch {
                return .text("\(error)\n", status: 400)
            }
        }
    }

    /// Follows the ConfigMap until the task is cancelled.
    func run() async {
        let options = ListOptions(fieldSelector: "metadata.name=\(InjectionSettings.configMapName)")
        for await event in Informer(self.cluster, .configMaps, namespace: self.namespace, options).events() {
            switch event {
            case .snapshot(let all): self.take(all.first { $0.name == InjectionSettings.configMapName })
            case .updated(let map) where map.name == InjectionSettings.configMapName: self.take(map)
            case .deleted(let map) where map.name == InjectionSettings.configMapName: self.take(nil)
            case .updated, .deleted: break
            }
        }
    }

    private func take(_ map: KubeObject?) {
        guard let map else { return self.current.withLock { $0 = nil } }
        do throws(InjectionError) {
            let settings = try InjectionSettings(data: map.json["data"]?.stringMap ?? [:])
            self.current.withLock { $0 = settings }
        } catch {
            self.logger.error(
                "the configuration of injection is not used; the former one stays in force",
                metadata: ["configMap": "\(map.key)", "why": "\(error)"])
        }
    }

    private func mesh(path: String, _ injection: InjectionSettings) -> InjectionMesh {
        let settings = self.settings.current
        var mesh = InjectionMesh()
        mesh.meshConfig = settings.meshConfig
        mesh.controlPlaneNamespace = settings.controlPlaneNamespace
        mesh.trustDomain = settings.trustDomain
        mesh.domainSuffix = settings.domainSuffix
        mesh.clusterID = settings.clusterID
        mesh.revision = settings.revision
        mesh.network = injection.network
        mesh.runsNativeSidecars = self.wantsNativeSidecars ?? self.nodes.runNativeSidecars
        let words = path.dropFirst(Self.path.count).split(separator: "/").map(String.init)
        for (name, value) in zip(words, words.dropFirst()) {
            if name == "cluster" { mesh.clusterID = value }
            if name == "net" { mesh.network = value }
        }
        return mesh
    }

    func answer(_ review: AdmissionReview, path: String) -> JSONValue {
        guard let injection = self.current.withLock({ $0 }) else {
            self.metrics.failed()
            return review.refused(
                "sidecars cannot be injected: the ConfigMap \(self.namespace)/\(InjectionSettings.configMapName) is missing "
                    + "or cannot be used; install again, or see the log of istiod",
                code: 500)
        }
        guard review.kind == "Pod", review.object.object != nil else { return review.allowed() }
        let pod = KubeObject(review.object)
        let injector = SidecarInjector(injection, self.mesh(path: path, injection))
        let decision = injector.decision(pod, namespace: review.namespace)
        let subject: Logger.Metadata = [
            "namespace": "\(review.namespace)", "pod": "\(PodOwner(pod).name)", "why": "\(decision.reason)",
        ]
        guard decision.injects else {
            self.metrics.skipped()
            self.logger.debug("a pod gets no sidecar", metadata: subject)
            return review.allowed()
        }
        do throws(InjectionError) {
            let injected = try injector.inject(review.object, namespace: review.namespace)
            self.metrics.injected()
            self.logger.info("a pod gets a sidecar", metadata: subject)
            return review.allowed(patch: JSONDifference.patch(from: review.object, to: injected))
        } catch {
            self.metrics.failed()
            self.logger.warning(
                "a sidecar cannot be injected", metadata: subject.merging(["error": "\(error)"]) { $1 })
            return review.refused("sidecar injection: \(error)")
        }
    }
}

/// Istio's counters of injections.
struct InjectionMetrics: Sendable {
    private let requests, successes, failures, skips: CounterFamily

    init(_ registry: MetricsRegistry) {
        self.requests = registry.counter("sidecar_injection_requests_total", "Pods that the injector was asked about")
        self.successes = registry.counter("sidecar_injection_success_total", "Pods that got a sidecar")
        self.failures = registry.counter("sidecar_injection_failure_total", "Pods whose sidecar could not be made")
        self.skips = registry.counter("sidecar_injection_skip_total", "Pods that are to have none")
    }

    func injected() { self.count(self.successes) }
    func failed() { self.count(self.failures) }
    func skipped() { self.count(self.skips) }

    private func count(_ family: CounterFamily) {
        self.requests.with().add()
        family.with().add()
    }
}
