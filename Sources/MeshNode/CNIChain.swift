package import KubeAPI
internal import MeshCNI

/// The node's CNI configuration as a JSON tree, and what becomes of it when our plugin joins or leaves its chain.
package enum CNIChain {
    /// A file is usable when it is a list with plugins, or a single plugin with a type.
    package static func isValid(_ json: JSONValue) -> Bool {
        if let plugins = json["plugins"]?.array {
            return json["name"]?.string != nil && !plugins.isEmpty && plugins.allSatisfy { $0["type"]?.string != nil }
        }
        return json["type"]?.string != nil
    }

    package static func isOurs(_ plugin: JSONValue) -> Bool { plugin["type"]?.string == CNIConfiguration.pluginName }

    /// Our entry is in it, as it should be.
    package static func contains(_ entry: JSONValue, in json: JSONValue) -> Bool {
        json["plugins"]?.array?.contains(entry) == true
    }

    /// The file with our entry last, in place of an older one. A single plugin becomes a list (which needs the extension
    /// `.conflist`): the name and version are what the reference gives it.
    package static func inserting(_ entry: JSONValue, into json: JSONValue) -> JSONValue {
        guard let plugins = json["plugins"]?.array else {
            var single = json
            single["cniVersion"] = nil
            return ["name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": .array([single, entry])]
        }
        var list = json
        list["plugins"] = .array(plugins.filter { !Self.isOurs($0) } + [entry])
        return list
    }

    /// The file without us; nil when nothing of ours was in it.
    package static func removing(from json: JSONValue) -> JSONValue? {
        guard let plugins = json["plugins"]?.array, plugins.contains(where: Self.isOurs) else { return nil }
        var list = json
        list["plugins"] = .array(plugins.filter { !Self.isOurs($0) })
        return list
    }

    /// Every plugin of the primary is in our copy of it, in the same order and with the same settings.
    package static func follows(_ owned: JSONValue, primary: JSONValue, entry: JSONValue) -> Bool {
        Self.inserting(entry, into: primary)["plugins"] == owned["plugins"]
    }
}
