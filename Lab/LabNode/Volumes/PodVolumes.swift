import CLabNode
import Foundation
import KubeAPI

/// A pod's volumes on this node: makes them, keeps their contents fresh, unmounts them.
actor PodVolumes {
    struct Unmountable: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    private let pod: KubeObject
    private let directory: String
    private let source: PodObjects
    private var tokens: [String: (token: String, renewAt: Date)] = [:]
    private var mounted: [String] = []

    init(_ pod: KubeObject, directory: String, source: PodObjects) {
        self.pod = pod
        self.directory = directory
        self.source = source
    }

    private func path(_ volume: String) -> String { "\(self.directory)/volumes/\(volume)" }

    /// Makes every volume. Call again after a failure: what exists stays.
    func prepare(_ downward: DownwardAPI) async throws {
        for volume in self.pod.spec["volumes"]?.array ?? [] {
            let name = volume["name"]?.string ?? ""
            do { try await self.prepare(volume, name, downward) } catch {
                throw Unmountable(description: "MountVolume.SetUp failed for volume \"\(name)\" : \(error)")
            }
        }
    }

    private func prepare(_ volume: JSONValue, _ name: String, _ downward: DownwardAPI) async throws {
        let path = self.path(name)
        if let empty = volume["emptyDir"] {
            try self.makeEmptyDirectory(path, empty)
        } else if let hostPath = volume["hostPath"] {
            try Self.check(hostPath)
        } else if let claim = volume["persistentVolumeClaim"]?["claimName"]?.string {
            // The lab's only storage: a directory of the node by the claim's name.
            let shared = "\(self.directory)/../../claims/\(self.pod.namespace)/\(claim)"
            try FileManager.default.createDirectory(atPath: shared, withIntermediateDirectories: true)
        } else if !ProjectedFiles.sources(volume).isEmpty || volume["projected"] != nil {
            _ = try await self.project(volume, path, downward)
        } else {
            let kind = volume.object?.keys.first { $0 != "name" } ?? "none"
            throw Unmountable(description: "volumes of the kind \"\(kind)\" are not supported by the lab")
        }
    }

    private func makeEmptyDirectory(_ path: String, _ empty: JSONValue) throws {
        if FileManager.default.fileExists(atPath: path) { return }
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        if empty["medium"]?.string == "Memory" {
            let limit = empty["sizeLimit"].flatMap(Quantity.init).map { ",size=\($0.wholeUnits)" } ?? ""
            try mount("tmpfs", on: path, type: "tmpfs", data: "mode=0777\(limit)")
            self.mounted.append(path)
        }
        chmod(path, 0o777)
        if let group = self.group {
            chown(path, 0, group)
            chmod(path, 0o2777)
        }
    }

    private var group: UInt32? { self.pod.spec.at("securityContext", "fsGroup")?.int.map { UInt32(clamping: $0) } }

    static func check(_ hostPath: JSONValue) throws {
        let path = hostPath["path"]?.string ?? ""
        var info = stat()
        let exists = stat(path, &info) == 0
        let kind = info.st_mode & S_IFMT
        func require(_ wanted: mode_t, _ what: String) throws {
            if !exists || kind != wanted {
                throw Unmountable(description: "hostPath type check failed: \(path) is not a \(what)")
            }
        }
        switch hostPath["type"]?.string ?? "" {
        case "":
            // As a runtime's bind mount does: a missing directory appears.
            if !exists { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        case "DirectoryOrCreate":
            if !exists { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
            if exists { try require(S_IFDIR, "directory") }
        case "FileOrCreate":
            if !exists { try writeText("", to: path) }
            if exists { try require(S_IFREG, "file") }
        case "Directory": try require(S_IFDIR, "directory")
        case "File": try require(S_IFREG, "file")
        case "Socket": try require(S_IFSOCK, "socket")
        case "CharDevice": try require(S_IFCHR, "character device")
        case "BlockDevice": try require(S_IFBLK, "block device")
        case let other: throw Unmountable(description: "hostPath type \"\(other)\" is unknown")
        }
    }

    private func project(_ volume: JSONValue, _ path: String, _ downward: DownwardAPI) async throws -> Bool {
        for (kind, wanted) in ProjectedFiles.sources(volume) where kind == "serviceAccountToken" {
            try await self.renew(wanted)
        }
        let objects = try await self.source.objects(
            ProjectedFiles.references(volume), namespace: self.pod.namespace)
        let files = try ProjectedFiles(
            objects: objects, downward: downward, tokens: self.tokens.mapValues(\.token)
        ).files(volume)
        return try AtomicDirectory.write(files, to: path, group: self.group)
    }

    /// A new token at 80 % of its life, at the latest after a day.
    private func renew(_ wanted: JSONValue) async throws {
        let key = ProjectedFiles.tokenKey(wanted)
        if let known = self.tokens[key], known.renewAt > Date() { return }
        let (token, life) = try await self.source.token(for: self.pod, wanted)
        self.tokens[key] = (token, Date().addingTimeInterval(min(life * 0.8, 86400)))
    }

    /// Brings changed ConfigMaps, Secrets, labels and due tokens to the files. What fails stays as it was.
    func refresh(_ downward: DownwardAPI) async -> [any Error] {
        var failures: [any Error] = []
        for volume in self.pod.spec["volumes"]?.array ?? [] where !ProjectedFiles.sources(volume).isEmpty {
            do { _ = try await self.project(volume, self.path(volume["name"]?.string ?? ""), downward) } catch {
                failures.append(error)
            }
        }
        return failures
    }

    /// The binds of a container, with its variables for `subPathExpr`.
    func mounts(
        _ container: ContainerSpec, variables: [String: String]
    ) throws -> [ContainerBundle.Mount] {
        try (container.json["volumeMounts"]?.array ?? []).map { wanted in
            let name = wanted["name"]?.string ?? ""
            guard let volume = (self.pod.spec["volumes"]?.array ?? []).first(where: { $0["name"]?.string == name })
            else { throw Unmountable(description: "the pod has no volume \"\(name)\"") }
            var source = volume["hostPath"]?["path"]?.string ?? self.path(name)
            if let claim = volume["persistentVolumeClaim"]?["claimName"]?.string {
                source = "\(self.directory)/../../claims/\(self.pod.namespace)/\(claim)"
            }
            let subPath =
                wanted["subPathExpr"]?.string.map { VariableExpansion.expand($0, variables) }
                ?? wanted["subPath"]?.string ?? ""
            if !subPath.isEmpty { source = try Self.inside(source, subPath) }
            let isReadOnly =
                wanted["readOnly"]?.bool ?? false
                || !ProjectedFiles.sources(volume).isEmpty
            return ContainerBundle.Mount(
                source: URL(fileURLWithPath: source).standardizedFileURL.path,
                target: wanted["mountPath"]?.string ?? "",
                isReadOnly: isReadOnly, propagation: wanted["mountPropagation"]?.string ?? "None")
        }
    }

    /// A path below a volume, after links; made as a directory when it does not exist.
    private static func inside(_ volume: String, _ subPath: String) throws -> String {
        guard !subPath.split(separator: "/").contains("..") else {
            throw Unmountable(description: "subPath \"\(subPath)\" leaves the volume")
        }
        let path = "\(volume)/\(subPath)"
        if !FileManager.default.fileExists(atPath: path) {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        let (real, root) = (Self.resolved(path), Self.resolved(volume))
        guard real == root || real.hasPrefix("\(root)/") else {
            throw Unmountable(description: "subPath \"\(subPath)\" leaves the volume through a link")
        }
        return real
    }

    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        // SAFETY: realpath's buffer is a C string that we own and free.
        defer { free(real) }
        return String(cString: real)
    }

    func remove() {
        for path in self.mounted { _ = clabnode_unmount(path) }
        self.mounted = []
        try? FileManager.default.removeItem(atPath: "\(self.directory)/volumes")
    }
}
