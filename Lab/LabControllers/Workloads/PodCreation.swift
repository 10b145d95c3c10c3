internal import KubeAPI
internal import KubeClient
internal import Synchronization

/// Creates pods for a workload, tells of each in an event, and remembers why creation was refused.
struct PodCreation: Sendable {
    private let context: ControllerContext
    private let component: String
    private let refusals = Refusals()

    private final class Refusals: Sendable {
        let byOwner = Mutex<[String: String]>([:])
    }

    init(_ context: ControllerContext, component: String) {
        self.context = context
        self.component = component
    }

    /// Why the last pod of this owner was refused; nil when it was not.
    func failure(_ owner: KubeObject) -> String? { self.refusals.byOwner.withLock { $0[owner.uid] } }

    /// How many creations go out together.
    private static let concurrentMax = 16

    /// Does a workload's writes. A refused pod does not keep its status from being written; the refusal is thrown at
    /// the end.
    func perform(_ writes: [Write], for owner: KubeObject) async throws {
        var pods: [KubeObject] = []
        var others: [Write] = []
        for write in writes {
            if case .create(.pods, let pod) = write { pods.append(pod) } else { others.append(write) }
        }
        let refusal = await self.create(pods, for: owner)
        let hadFailure = self.failure(owner)
        self.refusals.byOwner.withLock { $0[owner.uid] = refusal.map { "\($0)" } }
        // The status was derived from what existed before: the new pods bring the next look.
        try await self.context.perform(others)
        if let refusal { throw refusal }
        if hadFailure != nil, !pods.isEmpty { throw RecoveredFromRefusal() }
    }

    /// The refusal is over; a status that still tells of it has to be written again.
    private struct RecoveredFromRefusal: Error, CustomStringConvertible {
        var description: String { "pods are created again" }
    }

    private func create(_ pods: [KubeObject], for owner: KubeObject) async -> (any Error)? {
        var rest = pods[...]
        while !rest.isEmpty {
            let group = rest.prefix(Self.concurrentMax)
            rest = rest.dropFirst(group.count)
            let failures = await withTaskGroup(of: (any Error)?.self) { tasks in
                for pod in group { tasks.addTask { await self.create(pod, for: owner) } }
                return await tasks.reduce(into: [any Error]()) { if let error = $1 { $0.append(error) } }
            }
            // The next ones would be refused, too.
            if let failure = failures.first { return failure }
        }
        return nil
    }

    private func create(_ pod: KubeObject, for owner: KubeObject) async -> (any Error)? {
        do {
            let created = try await self.context.cluster.create(.pods, pod)
            self.context.view.cache(.pods).updated(created)
            self.context.events.record(
                EventNote(owner, "SuccessfulCreate", "Created pod: \(created.name)", by: self.component))
            return nil
        } catch let error as StatusError
            where error.details.at("causes")?[0]?["reason"]?.string == "NamespaceTerminating"
        {
            return nil
        } catch {
            self.context.events.record(
                EventNote(owner, isWarning: true, "FailedCreate", "Error creating: \(error)", by: self.component))
            return error
        }
    }
}
