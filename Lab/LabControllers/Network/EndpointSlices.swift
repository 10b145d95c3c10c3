package import KubeAPI

/// Which endpoints a Service has: a pure function of the Service, its pods and what was written before.
package enum EndpointSlices {
    package static let component = "endpoint-slice-controller"
    package static let serviceLabel = "kubernetes.io/service-name"
    package static let managedByLabel = "endpointslice.kubernetes.io/managed-by"
    package static let manager = "endpointslice-controller.k8s.io"
    static let headlessLabel = "service.kubernetes.io/headless"
    static let endpointsMax = 100

    /// Whether the Service's endpoints are ours to write; without a selector they are the user's.
    package static func selector(of service: KubeObject) -> LabelSelector? {
        guard service.spec["type"]?.string != "ExternalName", let labels = service.spec["selector"]?.object,
            !labels.isEmpty
        else { return nil }
        return LabelSelector(matchLabels: service.spec["selector"]?.stringMap ?? [:])
    }

    /// - Parameters:
    ///   - pods: of the Service's namespace.
    ///   - slices: all slices of the Service.
    ///   - zones: zone of each node that has one.
    package static func plan(
        _ service: KubeObject, pods: [KubeObject], slices: [KubeObject], endpoints: KubeObject?, zones: [String: String]
    ) -> [Write] {
        guard let selector = self.selector(of: service), !service.isBeingDeleted else { return [] }
        let publishesAll = service.spec["publishNotReadyAddresses"]?.bool == true
        let selected = pods.filter { pod in
            selector.matches(pod.labels) && pod.podIP != nil && !pod.isPodFinished
        }
        // Named target ports may mean different numbers in different pods; each set of numbers has slices of its own.
        var groups: [JSONValue: [JSONValue]] = [:]
        for pod in selected {
            groups[Self.ports(service, pod), default: []].append(Self.endpoint(pod, publishesAll, zones))
        }
        if groups.isEmpty { groups[.array([])] = [] }
        var wanted = groups.sorted { $0.key.description < $1.key.description }.flatMap { ports, endpoints in
            stride(from: 0, to: max(endpoints.count, 1), by: Self.endpointsMax).map { start in
                (ports: ports, endpoints: Array(endpoints[start..<min(start + Self.endpointsMax, endpoints.count)]))
            }
        }
        var writes: [Write] = []
        // Keep slices whose ports stay, so that clients see few changes.
        for slice in slices where slice.labels[Self.managedByLabel] == Self.manager && !slice.isBeingDeleted {
            let ports = slice.json["ports"] ?? .array([])
            let index = wanted.firstIndex { $0.ports == ports } ?? wanted.indices.first
            guard let index else {
                writes.append(.delete(.endpointSlices, slice, .background))
                continue
            }
            let content = wanted.remove(at: index)
            var changed = slice
            Self.fill(&changed, service, content.ports, content.endpoints)
            if changed != slice { writes.append(.replace(.endpointSlices, changed)) }
        }
        for content in wanted {
            var slice = KubeObject([
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": [
                    "generateName": .string("\(service.name)-"), "namespace": .string(service.namespace),
                    "ownerReferences": [service.controllerReferenceToSelf],
                ],
                "addressType": "IPv4",
            ])
            Self.fill(&slice, service, content.ports, content.endpoints)
            writes.append(.create(.endpointSlices, slice))
        }
        if let legacy = Self.legacy(service, selected, publishesAll, before: endpoints) { writes.append(legacy) }
        return writes
    }

    private static func fill(
        _ slice: inout KubeObject, _ service: KubeObject, _ ports: JSONValue, _ endpoints: [JSONValue]
    ) {
        var labels = service.labels
        labels[Self.serviceLabel] = service.name
        labels[Self.managedByLabel] = Self.manager
        if service.spec["clusterIP"]?.string == "None" { labels[Self.headlessLabel] = "" }
        slice.set("metadata", "labels", to: JSONValue(labels))
        slice.json["ports"] = ports
        slice.json["endpoints"] = .array(endpoints)
    }

    /// The slice ports of a Service as this pod serves them; a named port that the pod lacks is left out.
    package static func ports(_ service: KubeObject, _ pod: KubeObject) -> JSONValue {
        let ports = (service.spec["ports"]?.array ?? []).compactMap { port -> JSONValue? in
            let number: Int64?
            if let name = port["targetPort"]?.string, Int64(name) == nil {
                number = Self.containerPort(named: name, port["protocol"]?.string ?? "TCP", pod)
            } else {
                number = port["targetPort"]?.int ?? port["targetPort"]?.string.flatMap { Int64($0) }
            }
            let resolved =
                number.flatMap { $0 > 0 ? $0 : nil } ?? (port["targetPort"]?.string == nil ? port["port"]?.int : nil)
            guard let resolved else { return nil }
            var entry: JSONValue = [
                "name": port["name"] ?? "", "port": .int(resolved), "protocol": port["protocol"] ?? "TCP",
            ]
            entry["appProtocol"] = port["appProtocol"]
            return entry
        }
        return .array(ports)
    }

    private static func containerPort(named name: String, _ proto: String, _ pod: KubeObject) -> Int64? {
        let sidecars = (pod.spec["initContainers"]?.array ?? []).filter { $0["restartPolicy"]?.string == "Always" }
        for container in (pod.spec["containers"]?.array ?? []) + sidecars {
            for port in container["ports"]?.array ?? []
            where port["name"]?.string == name && (port["protocol"]?.string ?? "TCP") == proto {
                return port["containerPort"]?.int
            }
        }
        return nil
    }

    private static func endpoint(_ pod: KubeObject, _ publishesAll: Bool, _ zones: [String: String]) -> JSONValue {
        let serving = pod.isPodReady || (publishesAll && !pod.isBeingDeleted)
        var endpoint: JSONValue = [
            "addresses": [.string(pod.podIP ?? "")],
            "conditions": [
                "ready": .bool(publishesAll || (pod.isPodReady && !pod.isBeingDeleted)), "serving": .bool(serving),
                "terminating": .bool(pod.isBeingDeleted),
            ],
            "targetRef": Self.reference(pod),
        ]
        if !pod.nodeName.isEmpty { endpoint["nodeName"] = .string(pod.nodeName) }
        endpoint["zone"] = zones[pod.nodeName].map { .string($0) }
        if let host = Self.hostname(pod) { endpoint["hostname"] = .string(host) }
        return endpoint
    }

    /// Only pods with a subdomain have a DNS name of their own.
    private static func hostname(_ pod: KubeObject) -> String? {
        guard let subdomain = pod.spec["subdomain"]?.string, !subdomain.isEmpty else { return nil }
        return pod.spec["hostname"]?.string.flatMap { $0.isEmpty ? nil : $0 }
    }

    private static func reference(_ pod: KubeObject) -> JSONValue {
        [
            "kind": "Pod", "namespace": .string(pod.namespace), "name": .string(pod.name), "uid": .string(pod.uid),
        ]
    }

    /// The older Endpoints object of the same name.
    private static func legacy(
        _ service: KubeObject, _ pods: [KubeObject], _ publishesAll: Bool, before: KubeObject?
    ) -> Write? {
        var groups: [JSONValue: (ready: [JSONValue], notReady: [JSONValue])] = [:]
        for pod in pods where !pod.isBeingDeleted || publishesAll {
            var address: JSONValue = ["ip": .string(pod.podIP ?? ""), "targetRef": Self.reference(pod)]
            if !pod.nodeName.isEmpty { address["nodeName"] = .string(pod.nodeName) }
            if let host = Self.hostname(pod) { address["hostname"] = .string(host) }
            let ports = Self.legacyPorts(Self.ports(service, pod))
            if pod.isPodReady || publishesAll {
                groups[ports, default: ([], [])].ready.append(address)
            } else {
                groups[ports, default: ([], [])].notReady.append(address)
            }
        }
        let subsets = groups.sorted { $0.key.description < $1.key.description }.map { ports, addresses -> JSONValue in
            var subset: JSONValue = [:]
            if !addresses.ready.isEmpty { subset["addresses"] = .array(addresses.ready) }
            if !addresses.notReady.isEmpty { subset["notReadyAddresses"] = .array(addresses.notReady) }
            if ports.array?.isEmpty == false { subset["ports"] = ports }
            return subset
        }
        var labels = service.labels
        labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
        if service.spec["clusterIP"]?.string == "None" { labels[Self.headlessLabel] = "" }
        guard let before else {
            return .create(
                .endpoints,
                KubeObject(
                    .endpoints, namespace: service.namespace, name: service.name, labels: labels,
                    subsets.isEmpty ? [:] : ["subsets": .array(subsets)]))
        }
        var changed = before
        changed.set("metadata", "labels", to: JSONValue(labels))
        changed.json["subsets"] = subsets.isEmpty ? nil : .array(subsets)
        return changed == before ? nil : .replace(.endpoints, changed)
    }

    private static func legacyPorts(_ ports: JSONValue) -> JSONValue {
        .array(
            (ports.array ?? []).map { port in
                var port = port
                if port["name"]?.string == "" { port["name"] = nil }
                return port
            })
    }
}

/// Keeps EndpointSlices and Endpoints; ``EndpointSlices`` decides.
package struct EndpointSliceController: Controller {
    private let context: ControllerContext
    package init(_ context: ControllerContext) { self.context = context }

    package var name: String { EndpointSlices.component }

    package var concerns: [Concern] {
        let services = self.context.view.cache(.services)
        return [
            .each(.services),
            // Old and new state of a pod are both asked, so a label that went is noticed.
            Concern(.pods) { pod in
                services.list(namespace: pod.namespace)
                    .filter { EndpointSlices.selector(of: $0)?.matches(pod.labels) == true }.map { ObjectKey($0) }
            },
            Concern(.endpointSlices) { slice in
                guard slice.labels[EndpointSlices.managedByLabel] == EndpointSlices.manager,
                    let service = slice.labels[EndpointSlices.serviceLabel]
                else { return [] }
                return [ObjectKey(slice.namespace, service)]
            },
            Concern(.endpoints) { [ObjectKey($0)] },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let service = view.cache(.services).get(key) else {
            // Slices have an owner; Endpoints have only the name.
            if let orphan = view.cache(.endpoints).get(key),
                orphan.labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"
            {
                try await self.context.perform([.delete(.endpoints, orphan, .background)])
            }
            return nil
        }
        var zones: [String: String] = [:]
        for node in view.cache(.nodes).list() { zones[node.name] = node.labels["topology.kubernetes.io/zone"] }
        try await self.context.perform(
            EndpointSlices.plan(
                service, pods: view.cache(.pods).list(namespace: key.namespace),
                slices: view.cache(.endpointSlices).list(ClusterView.By.service, "\(key)"),
                endpoints: view.cache(.endpoints).get(key), zones: zones))
        return nil
    }
}
