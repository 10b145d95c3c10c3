package import KubeAPI

/// The files of a volume whose contents come from the API: configMap, secret, downwardAPI, projected. Pure: the
/// objects and tokens are fetched before.
package struct ProjectedFiles {
    package struct File: Hashable, Sendable {
        package init(bytes: [UInt8], mode: UInt32) {
            self.bytes = bytes
            self.mode = mode
        }

        package var bytes: [UInt8]
        package var mode: UInt32
    }
    package init(objects: [String: KubeObject], downward: DownwardAPI, tokens: [String: String]) {
        self.objects = objects
        self.downward = downward
        self.tokens = tokens
    }

    package struct Missing: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// By `kind/name`; a missing object is absent.
    package var objects: [String: KubeObject]
    package var downward: DownwardAPI
    /// By ``tokenKey(_:)``.
    package var tokens: [String: String]

    /// A `serviceAccountToken` source as a dictionary key: two sources with the same wishes share a token.
    package static func tokenKey(_ source: JSONValue) -> String {
        "\(source["audience"]?.string ?? "")\n\(source["expirationSeconds"]?.int ?? 3600)"
    }

    /// The sources of a volume, each `(kind of source, source)`; empty for volumes with other contents.
    package static func sources(_ volume: JSONValue) -> [(kind: String, source: JSONValue)] {
        let kinds = ["configMap", "secret", "downwardAPI", "serviceAccountToken"]
        func of(_ json: JSONValue) -> [(kind: String, source: JSONValue)] {
            kinds.compactMap { kind in json[kind].flatMap { $0 == .null ? nil : (kind, $0) } }
        }
        return volume["projected"].map { ($0["sources"]?.array ?? []).flatMap(of) } ?? of(volume)
    }

    /// The objects that a volume needs.
    package static func references(_ volume: JSONValue) -> [(kind: String, name: String)] {
        self.sources(volume).compactMap { kind, source in
            switch kind {
            case "configMap": source["name"]?.string.map { ("ConfigMap", $0) }
            // A secret volume says secretName, a projected source says name.
            case "secret": (source["secretName"] ?? source["name"])?.string.map { ("Secret", $0) }
            default: nil
            }
        }
    }

    /// By path inside the volume.
    package func files(_ volume: JSONValue) throws -> [String: File] {
        var files: [String: File] = [:]
        for (kind, source) in Self.sources(volume) {
            let standard = (volume["projected"] ?? source)["defaultMode"]?.int ?? 0o644
            switch kind {
            case "configMap": try self.add("ConfigMap", source["name"], source, standard, to: &files)
            case "secret":
                try self.add("Secret", source["secretName"] ?? source["name"], source, standard, to: &files)
            case "serviceAccountToken":
                guard let token = self.tokens[Self.tokenKey(source)] else {
                    throw Missing(description: "no service account token yet")
                }
                let path = try Self.checked(source["path"]?.string ?? "token")
                files[path] = File(bytes: Array(token.utf8), mode: UInt32(standard))
            default:
                for item in source["items"]?.array ?? [] {
                    let text =
                        try item.at("fieldRef", "fieldPath")?.string.map { try self.downward.field($0) }
                        ?? self.resource(item)
                    files[try Self.checked(item["path"]?.string ?? "")] = File(
                        bytes: Array(text.utf8), mode: UInt32(item["mode"]?.int ?? standard))
                }
            }
        }
        return files
    }

    private func resource(_ item: JSONValue) throws -> String {
        let reference = item["resourceFieldRef"] ?? [:]
        let name = reference["containerName"]?.string ?? ""
        let pod = self.downward.pod
        guard let container = (pod.mainContainers + pod.initContainers).first(where: { $0.name == name }) else {
            throw Missing(description: "resourceFieldRef names no container of the pod: \"\(name)\"")
        }
        return try self.downward.resource(reference, in: container)
    }

    private func add(
        _ kind: String, _ name: JSONValue?, _ source: JSONValue, _ standard: Int64, to files: inout [String: File]
    ) throws {
        let name = name?.string ?? ""
        let isOptional = source["optional"]?.bool ?? false
        guard let object = self.objects["\(kind)/\(name)"] else {
            if isOptional { return }
            throw Missing(description: "\(kind.lowercased()) \"\(name)\" not found")
        }
        let data = ObjectData.bytes(object)
        guard let items = source["items"]?.array, !items.isEmpty else {
            for (key, bytes) in data { files[try Self.checked(key)] = File(bytes: bytes, mode: UInt32(standard)) }
            return
        }
        for item in items {
            let key = item["key"]?.string ?? ""
            guard let bytes = data[key] else {
                if isOptional { continue }
                throw Missing(description: "references non-existent \(kind.lowercased()) key: \(key)")
            }
            files[try Self.checked(item["path"]?.string ?? key)] = File(
                bytes: bytes, mode: UInt32(item["mode"]?.int ?? standard))
        }
    }

    /// Paths come from users and must stay inside the volume.
    private static func checked(_ path: String) throws -> String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard !path.isEmpty, !path.hasPrefix("/"), !parts.contains(".."), !path.hasPrefix("..") else {
            throw Missing(description: "the path \"\(path)\" leaves the volume")
        }
        return path
    }
}
