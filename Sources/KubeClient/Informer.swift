public import KubeAPI

/// What an ``Informer`` tells its reader, in order.
public enum InformerEvent: Sendable {
    /// Everything that exists now; whatever was known before and is not in it is gone. Comes first, and again
    /// whenever the watch had to start over.
    case snapshot([KubeObject])
    case updated(KubeObject)
    case deleted(KubeObject)
}

/// Follows all objects of one type: lists, watches, and starts over by itself when the server breaks off.
///
/// The stream ends only with the task that reads it. A type that the server does not serve (a CRD that is missing)
/// counts as empty and is asked for again every few seconds.
public struct Informer: Sendable {
    let cluster: any KubeCluster
    /// The versions in which the objects are asked for; the first that is served counts.
    let types: [ResourceType]
    let namespace: String?
    let options: ListOptions

    public init(
        _ cluster: any KubeCluster, _ type: ResourceType, namespace: String? = nil,
        _ options: ListOptions = ListOptions()
    ) {
        self.cluster = cluster
        self.types = [type]
        self.namespace = namespace
        self.options = options
    }

    /// - Parameter types: one kind in several versions, of which a cluster serves some: the first of those counts.
    public init(_ cluster: any KubeCluster, anyOf types: [ResourceType]) {
        precondition(!types.isEmpty, "an informer of nothing")
        self.cluster = cluster
        self.types = types
        self.namespace = nil
        self.options = ListOptions()
    }

    /// The first wait after a failure, doubled up to ``waitMax``.
    static let waitMin = Duration.milliseconds(100)
    static let waitMax = Duration.seconds(10)

    public func events(onTrouble: @escaping @Sendable (any Error) -> Void = { _ in }) -> AsyncStream<InformerEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: InformerEvent.self)
        let task = Task {
            await self.follow(continuation, onTrouble)
            continuation.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    private func follow(
        _ reader: AsyncStream<InformerEvent>.Continuation, _ onTrouble: @Sendable (any Error) -> Void
    ) async {
        var wait = Self.waitMin
        var attempt = 0
        while !Task.isCancelled {
            let type = self.types[attempt % self.types.count]
            do {
                let list = try await self.cluster.list(type, namespace: self.namespace, self.options)
                reader.yield(.snapshot(list.items))
                wait = Self.waitMin
                try await self.watch(type, from: list.resourceVersion, reader)
                continue
            } catch let error as StatusError where error.isExpired {
                continue
            } catch let error as StatusError where error.isNotFound {
                attempt += 1
                if attempt % self.types.count != 0 { continue }
                reader.yield(.snapshot([]))
            } catch {
                if Task.isCancelled { return }
                onTrouble(error)
            }
            try? await Task.sleep(for: wait)
            wait = min(wait * 2, Self.waitMax)
        }
    }

    /// Watches again from where the last watch ended; returns never, throws when a new list is needed.
    private func watch(
        _ type: ResourceType, from resourceVersion: String, _ reader: AsyncStream<InformerEvent>.Continuation
    ) async throws {
        var version = resourceVersion
        while true {
            try Task.checkCancellation()
            let started = ContinuousClock.now
            let events = try await self.cluster.watch(
                type, namespace: self.namespace, from: version, self.options)
            for try await event in events {
                switch event {
                case .added(let object), .modified(let object):
                    version = object.resourceVersion
                    reader.yield(.updated(object))
                case .deleted(let object):
                    version = object.resourceVersion
                    reader.yield(.deleted(object))
                case .bookmark(let seen):
                    version = seen
                }
            }
            // A server that ends watches at once must not be hammered.
            if ContinuousClock.now - started < .seconds(1) { try await Task.sleep(for: Self.waitMin) }
        }
    }
}
