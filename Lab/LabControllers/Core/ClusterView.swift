package import KubeAPI
package import KubeClient
package import Logging
internal import Synchronization

/// What the controllers know about the cluster: one cache per type, shared by all of them, each fed by one informer.
package final class ClusterView: Sendable {
    private let cluster: any KubeCluster
    private let log: Logger
    private let caches = Mutex<[ResourceType: ObjectCache]>([:])
    private let wanted: AsyncStream<ResourceType>
    private let wantedContinuation: AsyncStream<ResourceType>.Continuation

    package init(_ cluster: any KubeCluster, log: Logger) {
        self.cluster = cluster
        self.log = log
        (self.wanted, self.wantedContinuation) = AsyncStream.makeStream()
    }

    /// Names of indexes.
    package enum By {
        /// uid of the controlling owner
        package static let controller = "controller"
        /// namespace, of objects without a controlling owner
        package static let orphan = "orphan"
        /// uid of any owner
        package static let owner = "owner"
        package static let uid = "uid"
        /// `spec.nodeName`, of pods; empty for pods without one
        package static let node = "node"
        /// `namespace/service`, of EndpointSlices
        package static let service = "service"
    }

    private static let commonIndexes = [
        ObjectCache.Index(By.controller) { object in
            object.controllerReference?["uid"]?.string.map { [$0] } ?? []
        },
        ObjectCache.Index(By.orphan) { $0.controllerReference == nil ? [$0.namespace] : [] },
        ObjectCache.Index(By.owner) { $0.ownerReferences.compactMap { $0["uid"]?.string } },
        ObjectCache.Index(By.uid) { [$0.uid] },
    ]

    /// The cache of a type. The first call starts to follow it, once ``run()`` runs.
    package func cache(_ type: ResourceType) -> ObjectCache {
        let (cache, isNew) = self.caches.withLock { caches in
            if let cache = caches[type] { return (cache, false) }
            var indexes = Self.commonIndexes
            if type == .pods { indexes.append(.init(By.node) { [$0.spec["nodeName"]?.string ?? ""] }) }
            if type == .endpointSlices {
                indexes.append(
                    .init(By.service) { slice in
                        slice.labels[EndpointSlices.serviceLabel].map { ["\(slice.namespace)/\($0)"] } ?? []
                    })
            }
            let cache = ObjectCache(indexes: indexes)
            caches[type] = cache
            return (cache, true)
        }
        if isNew { self.wantedContinuation.yield(type) }
        return cache
    }

    /// The types followed so far.
    package var types: [ResourceType] { self.caches.withLock { Array($0.keys) } }

    /// Follows every type that was asked for, until cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await type in self.wanted {
                let cache = self.cache(type)
                group.addTask { await self.follow(type, cache) }
            }
        }
    }

    private func follow(_ type: ResourceType, _ cache: ObjectCache) async {
        let log = self.log
        let events = Informer(self.cluster, type).events { error in
            // Being told to end is no trouble.
            if !(error is CancellationError) { log.warning("cannot follow \(type): \(error)") }
        }
        for await event in events {
            switch event {
            case .snapshot(let objects): cache.replaceAll(objects.map { Self.typed($0, type) })
            case .updated(let object): cache.updated(Self.typed(object, type))
            case .deleted(let object): cache.deleted(object)
            }
        }
    }

    /// Items of a list may come without the kind that the list already names.
    private static func typed(_ object: KubeObject, _ type: ResourceType) -> KubeObject {
        guard object.kind.isEmpty else { return object }
        var object = object
        object.json["apiVersion"] = .string(type.apiVersion)
        object.json["kind"] = .string(type.kind)
        return object
    }
}
