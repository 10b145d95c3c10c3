internal import Foundation
package import KubeAPI
internal import KubeClient

/// The user's kubeconfig: gets one context more, or one less. All others stay as they are.
package struct KubeconfigFile {
    package let path: String
    /// Who owns a new file; nil for us.
    private var owner: (user: Int, group: Int)?

    package init(path: String) { self.path = path }

    /// The file that kubectl of the user would use: the first one of `$KUBECONFIG`, else `~/.kube/config`. Under sudo it
    /// is the calling user's, or kubectl without sudo would not find the cluster.
    init(environment: [String: String]) {
        if let list = environment["KUBECONFIG"], let first = list.split(separator: ":").first {
            self.path = String(first)
        } else if let user = environment["SUDO_USER"], user != "root", let home = NSHomeDirectoryForUser(user) {
            self.path = "\(home)/.kube/config"
        } else {
            self.path = "\(environment["HOME"] ?? NSHomeDirectory())/.kube/config"
        }
        if let user = environment["SUDO_UID"].flatMap({ Int($0) }),
            let group = environment["SUDO_GID"].flatMap({ Int($0) }),
            user != 0, !self.path.hasPrefix("/root/")
        {
            self.owner = (user, group)
        }
    }

    private func load() throws(LabError) -> JSONValue {
        guard let text = Files.read(self.path) else {
            if FileManager.default.fileExists(atPath: self.path) {
                throw LabError("cannot read the kubeconfig \(self.path)")
            }
            return ["apiVersion": "v1", "kind": "Config"]
        }
        if text.allSatisfy(\.isWhitespace) { return ["apiVersion": "v1", "kind": "Config"] }
        do {
            let config = try JSONValue(yaml: text)
            guard config.object != nil else { throw LabError("no mapping") }
            return config
        } catch {
            throw LabError(
                "the kubeconfig \(self.path) cannot be read (\(error)) and was left alone; "
                    + "get the cluster's own with: martlet lab kubeconfig get")
        }
    }

    private func save(_ config: JSONValue) throws {
        let directory = (self.path as NSString).deletingLastPathComponent
        let isNew = !FileManager.default.fileExists(atPath: directory)
        let mode =
            (try? FileManager.default.attributesOfItem(atPath: self.path))?[.posixPermissions] as? Int ?? 0o600
        // A link to the file proper stays a link.
        let target = (try? FileManager.default.destinationOfSymbolicLink(atPath: self.path)).map {
            $0.hasPrefix("/") ? $0 : "\(directory)/\($0)"
        }
        try Files.write(try config.yaml, to: target ?? self.path, mode: mode)
        if let owner {
            let attributes: [FileAttributeKey: Any] = [
                .ownerAccountID: owner.user, .groupOwnerAccountID: owner.group,
            ]
            try FileManager.default.setAttributes(attributes, ofItemAtPath: target ?? self.path)
            if isNew { try FileManager.default.setAttributes(attributes, ofItemAtPath: directory) }
        }
    }

    /// Takes over the clusters, users and contexts of `other`, replacing those of the same names.
    package func merge(_ other: JSONValue, switchContext: Bool) throws {
        try self.save(Self.merged(try self.load(), other, switchContext: switchContext))
    }

    package static func merged(_ config: JSONValue, _ other: JSONValue, switchContext: Bool) -> JSONValue {
        var config = config
        for list in ["clusters", "users", "contexts"] {
            let added = other[list]?.array ?? []
            let names = Set(added.compactMap { $0["name"]?.string })
            let kept = (config[list]?.array ?? []).filter { !names.contains($0["name"]?.string ?? "") }
            config[list] = .array(kept + added)
        }
        if switchContext || config["current-context"]?.string ?? "" == "" {
            config["current-context"] = other["current-context"]
        }
        return config
    }

    /// Takes out a context, its cluster and its user; does nothing when the context is not there.
    package func remove(context: String) throws {
        guard FileManager.default.fileExists(atPath: self.path) else { return }
        let config = try self.load()
        let smaller = Self.without(config, context: context)
        if smaller != config { try self.save(smaller) }
    }

    static func without(_ config: JSONValue, context name: String) -> JSONValue {
        var config = config
        let contexts = config["contexts"]?.array ?? []
        guard let context = contexts.first(where: { $0["name"]?.string == name }) else { return config }
        let left = contexts.filter { $0["name"]?.string != name }
        config["contexts"] = .array(left)
        for (list, member) in [("clusters", "cluster"), ("users", "user")] {
            let used = Set(left.compactMap { $0.at("context", member)?.string })
            guard let gone = context.at("context", member)?.string, !used.contains(gone) else { continue }
            config[list] = .array((config[list]?.array ?? []).filter { $0["name"]?.string != gone })
        }
        if config["current-context"]?.string == name { config["current-context"] = "" }
        return config
    }
}
