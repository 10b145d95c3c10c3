internal import KubeAPI
internal import Synchronization

/// Which kinds are served right now: the built-in ones and those of established CustomResourceDefinitions.
///
/// Readers take an immutable ``View``; a CRD write publishes a new one before its answer goes out.
package final class Registry: Sendable {
    struct View: Sendable {
        /// In discovery order: built-in groups first, CRD groups after them by name.
        var kinds: [ResourceKind]
        private var byPath: [String: Int] = [:]

        init(_ kinds: [ResourceKind]) {
            self.kinds = kinds
            for (index, kind) in kinds.enumerated() {
                self.byPath["\(kind.group)/\(kind.type.version)/\(kind.type.plural)"] = index
            }
        }

        func find(group: String, version: String, plural: String) -> ResourceKind? {
            self.byPath["\(group)/\(version)/\(plural)"].map { self.kinds[$0] }
        }
        func find(_ type: ResourceType) -> ResourceKind? {
            self.find(group: type.group, version: type.version, plural: type.plural)
        }
        func find(apiVersion: String, kind: String) -> ResourceKind? {
            self.kinds.first { $0.type.kind == kind && $0.type.apiVersion == apiVersion }
        }

        /// Named groups with their versions, each with its kinds; the core group is named "".
        var groups: [(name: String, versions: [(version: String, kinds: [ResourceKind])])] {
            var groups: [(name: String, versions: [(version: String, kinds: [ResourceKind])])] = []
            for kind in self.kinds {
                let at = groups.firstIndex { $0.name == kind.group } ?? groups.count
                if at == groups.count { groups.append((kind.group, [])) }
                let versionAt =
                    groups[at].versions.firstIndex { $0.version == kind.type.version } ?? groups[at].versions.count
                if versionAt == groups[at].versions.count { groups[at].versions.append((kind.type.version, [])) }
                groups[at].versions[versionAt].kinds.append(kind)
            }
            return groups
        }
    }

    private let current = Mutex(View(BuiltinKinds.all))
    /// Made when somebody asks, thrown away when the kinds change.
    private let documents = Mutex<[String: OpenAPI.Document]?>(nil)

    /// OpenAPI documents of what is served now, by path.
    var openAPI: [String: OpenAPI.Document] {
        self.documents.withLock { documents in
            if let documents { return documents }
            let made = OpenAPI.documents(self.view)
            documents = made
            return made
        }
    }

    package init() {}

    var view: View { self.current.withLock { $0 } }

    /// Replaces everything that came from CRDs.
    func publish(custom: [ResourceKind]) {
        let sorted = custom.sorted { left, right in
            if left.group != right.group { return left.group < right.group }
            if left.type.version != right.type.version {
                return VersionOrder.isPreferred(left.type.version, over: right.type.version)
            }
            return left.type.plural < right.type.plural
        }
        self.current.withLock { $0 = View(BuiltinKinds.all + sorted) }
        self.documents.withLock { $0 = nil }
    }
}

/// Kubernetes' order of API versions: stable before beta before alpha, each newest first, anything else last by name.
enum VersionOrder {
    static func isPreferred(_ left: String, over right: String) -> Bool {
        let (a, b) = (Self.rank(left), Self.rank(right))
        if a.stage != b.stage { return a.stage > b.stage }
        if a.stage == 0 { return left < right }
        return (a.major, a.minor) > (b.major, b.minor)
    }

    private static func rank(_ version: String) -> (stage: Int, major: Int, minor: Int) {
        guard version.hasPrefix("v") else { return (0, 0, 0) }
        let body = version.dropFirst()
        if let major = Int(body) { return (3, major, 0) }
        for (word, stage) in [("beta", 2), ("alpha", 1)] {
            if let range = body.firstRange(of: word), let major = Int(body[..<range.lowerBound]),
                let minor = Int(body[range.upperBound...])
            {
                return (stage, major, minor)
            }
        }
        return (0, 0, 0)
    }
}
