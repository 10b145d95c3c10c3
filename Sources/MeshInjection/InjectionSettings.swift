package import KubeAPI
internal import KubeClient

/// Why a configuration cannot be used, or a pod not be injected as its annotations want it.
package struct InjectionError: Error, Hashable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Who gets a sidecar, and what it looks like: the ConfigMap `istio-sidecar-injector`.
///
/// Its keys and values are Istio's. The sidecar itself is built in; `templates` holds more of them as YAML patches of a
/// pod, without any template language.
package struct InjectionSettings: Hashable, Sendable {
    package static let configMapName = "istio-sidecar-injector"

    /// `policy: enabled`: pods that the webhook is asked about and that say nothing get a sidecar.
    package var injectsByDefault = true
    package var neverInject: [LabelSelector] = []
    package var alwaysInject: [LabelSelector] = []
    package var defaultTemplates = [SidecarInjector.builtInTemplate]
    /// Patches of a pod, by name.
    package var templates: [String: JSONValue] = [:]
    package var injectedAnnotations: [String: String] = [:]
    /// `values`, read with ``value(_:)``.
    package var values: JSONValue = [:]

    package init() {}

    /// - Parameter data: of the ConfigMap: `config` is YAML, `values` JSON or YAML.
    package init(data: [String: String]) throws(InjectionError) {
        let config = try Self.mapping("config", data["config"] ?? "")
        self.values = try Self.mapping("values", data["values"] ?? "")
        switch config["policy"]?.string {
        case "enabled", nil: self.injectsByDefault = true
        case "disabled": self.injectsByDefault = false
        case let other?: throw InjectionError("policy \"\(other)\": wanted enabled or disabled")
        }
        self.neverInject = try Self.selectors("neverInjectSelector", config)
        self.alwaysInject = try Self.selectors("alwaysInjectSelector", config)
        self.injectedAnnotations = config["injectedAnnotations"]?.stringMap ?? [:]
        if let names = config["defaultTemplates"]?.array, !names.isEmpty {
            self.defaultTemplates = names.compactMap(\.string)
        }
        for (name, text) in config["templates"]?.object ?? [:] {
            guard name != SidecarInjector.builtInTemplate else {
                throw InjectionError(
                    "templates.\(name): this one is built in; put what you want to add into a template of another name, "
                        + "and both names into defaultTemplates")
            }
            guard let yaml = text.string, !yaml.contains("{{") else {
                throw InjectionError(
                    "templates.\(name): wanted a text with a YAML patch of a pod; {{...}} is not evaluated")
            }
            self.templates[name] = try Self.mapping("templates.\(name)", yaml)
        }
    }

    private static func mapping(_ name: String, _ yaml: String) throws(InjectionError) -> JSONValue {
        let json: JSONValue
        do {
            json = try JSONValue(yaml: yaml)
        } catch {
            throw InjectionError("\(name) is no readable YAML: \(error)")
        }
        if json.isNull { return [:] }
        guard json.object != nil else { throw InjectionError("\(name) is no mapping") }
        return json
    }

    private static func selectors(_ name: String, _ config: JSONValue) throws(InjectionError) -> [LabelSelector] {
        var selectors: [LabelSelector] = []
        for json in config[name]?.array ?? [] {
            do throws(LabelSelector.Invalid) { selectors.append(try LabelSelector(json)) } catch {
                throw InjectionError("\(name): \(error)")
            }
        }
        return selectors
    }

    /// `global.proxy.image`; empty texts count as missing.
    func value(_ path: String) -> JSONValue? {
        guard let value = self.values.at(path.split(separator: ".").map(String.init)), value != .null, value != ""
        else { return nil }
        return value
    }

    /// The network that pods of this cluster are in.
    package var network: String { self.text("global.network") ?? "" }
    package var clusterID: String? { self.text("global.multiCluster.clusterName") }
    package var clusterDomain: String? { self.text("global.proxy.clusterDomain") }
    /// Of the sidecar.
    package var image: String? { self.text("global.proxy.image") }

    func text(_ path: String) -> String? { self.value(path).map(\.plainText) }
    func flag(_ path: String) -> Bool? {
        self.value(path).flatMap { $0.bool ?? $0.string.flatMap(Words.boolean) }
    }
}

/// What the injector knows of the mesh besides.
package struct InjectionMesh: Hashable, Sendable {
    /// MeshConfig, as it was written.
    package var meshConfig: JSONValue = [:]
    package var controlPlaneNamespace = "istio-system"
    package var trustDomain = "cluster.local"
    package var domainSuffix = "cluster.local"
    package var clusterID = "Kubernetes"
    package var network = ""
    package var revision = "default"
    /// Whether every node can run init containers that stay (`restartPolicy: Always`).
    package var runsNativeSidecars = false

    package init() {}
}

extension JSONValue {
    /// A scalar as it would be written into an environment variable or an argument.
    var plainText: String { self.string ?? self.description }
}

enum Words {
    /// What annotations and labels may say.
    static func boolean(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "true", "yes", "on", "y", "1": true
        case "false", "no", "off", "n", "0": false
        default: nil
        }
    }
}
