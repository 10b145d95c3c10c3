internal import KubeAPI
internal import KubeClient

/// What one pod's sidecar is to be like: MeshConfig's `defaultConfig`, the pod's annotation `proxy.istio.io/config` over
/// it, and the pod's other annotations.
struct ProxyOptions {
    /// Istio's ProxyConfig.
    let config: JSONValue
    let annotations: [String: String]
    let settings: InjectionSettings

    init(_ annotations: [String: String], _ mesh: InjectionMesh, _ settings: InjectionSettings) throws(InjectionError) {
        self.annotations = annotations
        self.settings = settings
        var config = mesh.meshConfig["defaultConfig"] ?? [:]
        if let yaml = annotations["proxy.istio.io/config"], !yaml.isEmpty {
            let own: JSONValue
            do {
                own = try JSONValue(yaml: yaml)
            } catch {
                throw InjectionError("annotation proxy.istio.io/config is no readable YAML: \(error)")
            }
            guard own.object != nil || own.isNull else {
                throw InjectionError("annotation proxy.istio.io/config is no mapping")
            }
            config = Self.merged(own, over: config)
        }
        self.config = config
    }

    private static func merged(_ top: JSONValue, over base: JSONValue) -> JSONValue {
        guard case .object(let members) = top else { return top == .null ? base : top }
        var result = base.object ?? [:]
        for (name, value) in members { result[name] = self.merged(value, over: result[name] ?? .null) }
        return .object(result)
    }

    var metadata: [String: String] {
        (self.config["proxyMetadata"]?.object ?? [:]).mapValues(\.plainText)
    }

    func text(_ annotation: String, _ value: String) -> String? {
        if let own = self.annotations[annotation] { return own }
        return value.isEmpty ? nil : self.settings.text(value)
    }

    func flag(_ annotation: String, _ value: String = "") throws(InjectionError) -> Bool? {
        guard let own = self.annotations[annotation] else { return value.isEmpty ? nil : self.settings.flag(value) }
        guard let flag = Words.boolean(own) else {
            throw InjectionError("annotation \(annotation): \"\(own)\" is neither true nor false")
        }
        return flag
    }

    func number(_ annotation: String, _ value: String, fallback: Int64) throws(InjectionError) -> Int64 {
        guard let text = self.text(annotation, value) else { return fallback }
        guard let number = Int64(text), (0...Int64(Int32.max)).contains(number) else {
            throw InjectionError("annotation \(annotation): \"\(text)\" is no number of 0 or more")
        }
        return number
    }

    var holdsApplication: Bool {
        self.config["holdApplicationUntilProxyStarts"]?.bool
            ?? self.settings.flag("global.proxy.holdApplicationUntilProxyStarts") ?? false
    }

    /// Of the agent, where probes and metrics of the app are served.
    var statusPort: Int64 {
        self.config["statusPort"]?.int ?? self.settings.value("global.proxy.statusPort")?.int ?? 15020
    }

    /// Worker threads; 0 and nothing leave it to the agent.
    var concurrency: Int64? { self.config["concurrency"]?.int.flatMap { $0 > 0 ? $0 : nil } }

    enum Interception: String { case redirect = "REDIRECT", none = "NONE" }

    func interception() throws(InjectionError) -> Interception {
        let annotation = "sidecar.istio.io/interceptionMode"
        let text = self.annotations[annotation] ?? self.config["interceptionMode"]?.string ?? "REDIRECT"
        guard let mode = Interception(rawValue: text) else {
            throw InjectionError("\(annotation) \"\(text)\": wanted REDIRECT or NONE; other modes are not supported")
        }
        return mode
    }

    func resources() throws(InjectionError) -> JSONValue {
        let configured = self.settings.value("global.proxy.resources") ?? [:]
        let names = [
            ("requests", "cpu", "sidecar.istio.io/proxyCPU"), ("requests", "memory", "sidecar.istio.io/proxyMemory"),
            ("limits", "cpu", "sidecar.istio.io/proxyCPULimit"),
            ("limits", "memory", "sidecar.istio.io/proxyMemoryLimit"),
        ]
        let own = names.filter { self.annotations[$0.2] != nil }
        if own.isEmpty { return configured }
        // As in Istio: whoever names one resource names them all.
        var resources: JSONValue = [:]
        for (group, name, annotation) in own {
            let text = self.annotations[annotation] ?? ""
            guard text.wholeMatch(of: /[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?/) != nil else {
                throw InjectionError("annotation \(annotation): \"\(text)\" is no quantity such as 100m or 128Mi")
            }
            resources.set([group, name], to: .string(text))
        }
        return resources
    }
}
