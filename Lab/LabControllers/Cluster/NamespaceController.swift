internal import KubeAPI
internal import KubeClient

/// Empties namespaces that are being deleted and lets them go.
package struct NamespaceController: Controller {
    static let component = "namespace-controller"
    private let context: ControllerContext
    private let catalogue: ResourceCatalogue

    package init(_ context: ControllerContext, _ catalogue: ResourceCatalogue) {
        self.context = context
        self.catalogue = catalogue
    }

    package var name: String { Self.component }

    /// Anything that goes may have been the last thing; which namespaces wait is looked up at once.
    package var concerns: [Concern] {
        let namespaces = self.context.view.cache(.namespaces)
        return [.each(.namespaces)]
            + self.catalogue.namespaced.map { type in
                Concern(type) { object in
                    let key = ObjectKey("", object.namespace)
                    return namespaces.get(key)?.isBeingDeleted == true ? [key] : []
                }
            }
    }

    /// Custom objects are not among the concerns, so a namespace that waits for them is looked at again.
    private static let waitForOthers = Duration.milliseconds(200)

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        guard let namespace = self.context.view.cache(.namespaces).get(key), namespace.isBeingDeleted else {
            return nil
        }
        var remaining: [String: Int] = [:]
        var finalizers: [String: Int] = [:]
        var failures: [String] = []
        for type in await self.catalogue.all() where type.isNamespaced && type != .events {
            do {
                for object in try await self.context.cluster.list(type, namespace: key.name).items {
                    remaining["\(type)", default: 0] += 1
                    for finalizer in object.finalizers { finalizers[finalizer, default: 0] += 1 }
                    if object.isBeingDeleted { continue }
                    try await self.remove(type, object, &remaining)
                }
            } catch let error as StatusError where error.isNotFound || error.code == 405 {
                continue
            } catch {
                failures.append("\(type): \(error)")
            }
        }
        if remaining.isEmpty, failures.isEmpty {
            for event in try await self.context.cluster.list(.events, namespace: key.name).items {
                _ = try? await self.context.cluster.delete(.events, namespace: key.name, name: event.name)
            }
            // The newest state: our own view may lag behind the conditions written below.
            guard var latest = try await self.context.cluster.find(.namespaces, name: key.name), latest.isBeingDeleted
            else { return nil }
            latest.set("spec", "finalizers", to: [])
            _ = try await self.context.cluster.replace(.namespaces, latest, subresource: "finalize")
            return nil
        }
        try await self.explain(namespace, remaining, finalizers, failures)
        return Self.waitForOthers
    }

    private func remove(_ type: ResourceType, _ object: KubeObject, _ remaining: inout [String: Int]) async throws {
        do {
            let answer = try await self.context.cluster.delete(
                type, namespace: object.namespace, name: object.name,
                DeleteOptions(propagation: .background, uid: object.uid))
            if answer.uid == object.uid, answer.isBeingDeleted { return }
        } catch let error as StatusError where error.isNotFound {
            // Somebody else was faster.
        }
        if let count = remaining["\(type)"] { remaining["\(type)"] = count > 1 ? count - 1 : nil }
    }

    private func explain(
        _ namespace: KubeObject, _ remaining: [String: Int], _ finalizers: [String: Int], _ failures: [String]
    ) async throws {
        let now = self.context.now()
        var conditions = Conditions(namespace.status["conditions"])
        conditions.set(
            "NamespaceDeletionContentFailure", !failures.isEmpty,
            reason: failures.isEmpty ? "ContentDeleted" : "ContentDeletionFailed",
            message: failures.isEmpty
                ? "All content successfully deleted, may be waiting on finalization"
                : "Failed to delete all resource types: \(failures.joined(separator: "; "))", now: now)
        let left = remaining.sorted { $0.key < $1.key }.map { "\($0.key) has \($0.value) resource instances" }
        conditions.set(
            "NamespaceContentRemaining", !left.isEmpty, reason: left.isEmpty ? "ContentRemoved" : "SomeResourcesRemain",
            message: left.isEmpty
                ? "All content successfully removed"
                : "Some resources are remaining: \(left.joined(separator: ", "))", now: now)
        let held = finalizers.sorted { $0.key < $1.key }.map { "\($0.key) in \($0.value) resource instances" }
        conditions.set(
            "NamespaceFinalizersRemaining", !held.isEmpty,
            reason: held.isEmpty ? "ContentHasNoFinalizers" : "SomeFinalizersRemain",
            message: held.isEmpty
                ? "All content-preserving finalizers finished"
                : "Some content in the namespace has finalizers remaining: \(held.joined(separator: ", "))", now: now)
        guard conditions.json != namespace.status["conditions"] else { return }
        var changed = namespace
        changed.set("status", "conditions", to: conditions.json)
        try await self.context.perform([.replaceStatus(.namespaces, changed)])
    }
}
