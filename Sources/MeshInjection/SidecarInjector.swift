package import KubeAPI

/// Puts a sidecar into a pod: a pure function from the pod as its author wrote it to the pod as it runs.
package struct SidecarInjector: Sendable {
    package static let builtInTemplate = "sidecar"
    package static let status = "sidecar.istio.io/status"
    private static let defaultContainers = [
        "kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container",
    ]

    package let settings: InjectionSettings
    package let mesh: InjectionMesh

    package init(_ settings: InjectionSettings, _ mesh: InjectionMesh) {
        self.settings = settings
        self.mesh = mesh
    }

    package func decision(_ pod: KubeObject, namespace: String) -> InjectionDecision {
        InjectionDecision(pod: pod, namespace: namespace, self.settings)
    }

    /// - Parameters:
    ///   - pod: with `metadata` and `spec`; also a workload's template.
    ///   - owner: whom it belongs to, when the pod itself does not say it yet.
    /// - Throws: for annotations and templates that cannot be followed.
    package func inject(
        _ pod: JSONValue, namespace: String, owner: PodOwner? = nil
    ) throws(InjectionError) -> JSONValue {
        let object = KubeObject(pod)
        let options = try ProxyOptions(object.annotations, self.mesh, self.settings)
        let owner = owner ?? PodOwner(object)
        var result = pod
        for name in self.templates(object) {
            if name == Self.builtInTemplate {
                result = try self.addSidecar(to: result, namespace: namespace, owner, options)
                continue
            }
            guard let template = self.settings.templates[name] else {
                let known = ([Self.builtInTemplate] + self.settings.templates.keys.sorted()).joined(separator: ", ")
                throw InjectionError(
                    "annotation inject.istio.io/templates: \"\(name)\" is no template; known: \(known)")
            }
            do throws(StrategicMerge.Unreadable) { result = try StrategicMerge.merge(template, onto: result) } catch {
                throw InjectionError("template \(name): \(error)")
            }
        }
        self.label(&result, owner, options, injectedInto: pod)
        return result
    }

    private func templates(_ pod: KubeObject) -> [String] {
        guard let text = pod.annotations["inject.istio.io/templates"], !text.isEmpty else {
            return self.settings.defaultTemplates
        }
        return text.split(separator: ",").map { String($0.filter { $0 != " " }) }
    }

    // MARK: The sidecar

    private func addSidecar(
        to pod: JSONValue, namespace: String, _ owner: PodOwner, _ options: ProxyOptions
    ) throws(InjectionError) -> JSONValue {
        var pod = pod
        let own = try Self.takeOverride(&pod)
        var probes = ProbeRewriting(port: options.statusPort)
        let rewrites =
            try options.flag("sidecar.istio.io/rewriteAppHTTPProbers", "sidecarInjectorWebhook.rewriteAppHTTPProbe")
            ?? true
        if rewrites {
            for list in ["containers", "initContainers"] {
                guard var containers = pod.at("spec", list)?.array else { continue }
                for index in containers.indices { probes.rewrite(&containers[index]) }
                pod.set(["spec", list], to: .array(containers))
            }
        }
        let template = SidecarTemplate(
            pod: KubeObject(pod), owner: owner, namespace: namespace, options: options, mesh: self.mesh,
            probes: probes.environment)
        let isNative = try self.isNative(options)
        var proxy = try template.container(isNative: isNative)
        if let own {
            do throws(StrategicMerge.Unreadable) {
                let merged = try StrategicMerge.merge(["containers": [own]], onto: ["containers": [proxy]])
                proxy = merged["containers"]?[0] ?? proxy
            } catch {
                throw InjectionError("the pod's container \(SidecarTemplate.proxy): \(error)")
            }
        }
        var first = pod.at("spec", "initContainers")?.array ?? []
        var containers = pod.at("spec", "containers")?.array ?? []
        let rules = try template.rulesContainer()
        if isNative {
            // First, so that the pod's own init containers are part of the mesh.
            first = (rules.map { [$0] } ?? []) + [proxy] + first
        } else {
            // Last, as what comes before has no proxy that would answer.
            first += rules.map { [$0] } ?? []
            containers = options.holdsApplication ? [proxy] + containers : containers + [proxy]
        }
        if !first.isEmpty { pod.set(["spec", "initContainers"], to: .array(first)) }
        pod.set(["spec", "containers"], to: .array(containers))
        let volumes = try template.volumes()
        let names = volumes.compactMap { $0["name"]?.string }
        let others = (pod.at("spec", "volumes")?.array ?? []).filter { !names.contains($0["name"]?.string ?? "") }
        pod.set(["spec", "volumes"], to: .array(others + volumes))
        self.addPullSecrets(&pod)
        return pod
    }

    private func isNative(_ options: ProxyOptions) throws(InjectionError) -> Bool {
        if let own = try options.flag("sidecar.istio.io/nativeSidecar") { return own }
        return self.settings.flag("sidecarInjectorWebhook.nativeSidecars") ?? self.mesh.runsNativeSidecars
    }

    private func addPullSecrets(_ pod: inout JSONValue) {
        let wanted = (self.settings.value("global.imagePullSecrets")?.array ?? []).compactMap(\.string)
        guard !wanted.isEmpty else { return }
        var secrets = pod.at("spec", "imagePullSecrets")?.array ?? []
        for name in wanted where !secrets.contains(where: { $0["name"]?.string == name }) {
            secrets.append(["name": .string(name)])
        }
        pod.set(["spec", "imagePullSecrets"], to: .array(secrets))
    }

    /// Removes what the author wrote about the sidecar's container, which goes over our own.
    private static func takeOverride(_ pod: inout JSONValue) throws(InjectionError) -> JSONValue? {
        var found: JSONValue?
        for list in ["containers", "initContainers"] {
            guard var containers = pod.at("spec", list)?.array else { continue }
            guard let index = containers.firstIndex(where: { $0["name"]?.string == SidecarTemplate.proxy }) else {
                continue
            }
            var own = containers.remove(at: index)
            // A word that only says: the usual one.
            if own["image"]?.string == "auto" { own["image"] = nil }
            found = own
            pod.set(
                ["spec", list],
                to: containers.isEmpty && list == "initContainers" ? JSONValue?.none : .array(containers))
        }
        return found
    }

    // MARK: Labels and annotations

    private func label(
        _ pod: inout JSONValue, _ owner: PodOwner, _ options: ProxyOptions, injectedInto original: JSONValue
    ) {
        let labels = KubeObject(original).labels
        func add(_ name: String, _ value: String) {
            if pod.at("metadata", "labels", name) == nil { pod.set(["metadata", "labels", name], to: .string(value)) }
        }
        add("security.istio.io/tlsMode", "istio")
        let name = labels["service.istio.io/canonical-name"] ?? labels["app.kubernetes.io/name"] ?? labels["app"]
        add("service.istio.io/canonical-name", Self.labelValue(name ?? owner.name))
        let revision = labels["app.kubernetes.io/version"] ?? labels["version"]
        add("service.istio.io/canonical-revision", revision ?? "latest")
        if options.metadata["ISTIO_META_ENABLE_HBONE"] == "true" { add("networking.istio.io/tunnel", "http") }

        var annotations = self.settings.injectedAnnotations
        for name in KubeObject(original).annotations.keys { annotations[name] = nil }
        if let merge = PrometheusMerge(KubeObject(original), options, self.mesh) {
            annotations.merge(merge.annotations) { $1 }
        }
        annotations["istio.io/rev"] = self.mesh.revision
        annotations[Self.status] = self.status(pod, original)
        if let app = (original.at("spec", "containers")?.array ?? []).compactMap({ $0["name"]?.string })
            .first(where: { $0 != SidecarTemplate.proxy })
        {
            for name in Self.defaultContainers where KubeObject(original).annotations[name] == nil {
                annotations[name] = app
            }
        }
        for (name, value) in annotations { pod.set(["metadata", "annotations", name], to: .string(value)) }
    }

    /// 63 bytes, of which the last is no punctuation.
    private static func labelValue(_ text: String) -> String {
        String(text.prefix(63).reversed().drop { ".-_".contains($0) }.reversed())
    }

    /// What was added, for people and for the CNI plugin.
    private func status(_ pod: JSONValue, _ original: JSONValue) -> String {
        func added(_ list: String) -> JSONValue {
            let before = (original.at("spec", list)?.array ?? []).map { $0["name"] }
            let names = (pod.at("spec", list)?.array ?? []).filter { entry in
                !before.contains(entry["name"]) || (list != "volumes" && entry["name"]?.string == SidecarTemplate.proxy)
            }.compactMap { $0["name"] }
            return names.isEmpty ? .null : .array(names)
        }
        let status: JSONValue = [
            "initContainers": added("initContainers"), "containers": added("containers"), "volumes": added("volumes"),
            "imagePullSecrets": added("imagePullSecrets"), "revision": .string(self.mesh.revision),
        ]
        return status.description
    }
}
