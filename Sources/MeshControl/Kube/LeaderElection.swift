import Foundation
import KubeAPI
package import KubeClient
package import Logging

/// Runs something in one replica at a time, by a Lease that its holder keeps renewing.
///
/// A follower trusts its own clock only: it takes over when the Lease has not changed for its whole duration, seen
/// from here. A leader that cannot renew stops before anyone may take over.
package struct LeaderElection: Sendable {
    package struct Timing: Sendable {
        package var lease = Duration.seconds(15)
        package var renewWithin = Duration.seconds(10)
        package var retry = Duration.seconds(2)
        package init() {}
    }

    private let cluster: any KubeCluster
    private let namespace, name, identity: String
    private let timing: Timing
    private let logger: Logger

    package init(
        _ cluster: any KubeCluster, namespace: String, name: String, identity: String, timing: Timing = Timing(),
        logger: Logger
    ) {
        self.cluster = cluster
        self.namespace = namespace
        self.name = name
        self.identity = identity
        self.timing = timing
        self.logger = logger
    }

    /// Calls `work` each time this replica becomes the leader, and cancels it when it no longer is. Returns when
    /// the task is cancelled, having given the Lease up.
    package func run(_ work: @escaping @Sendable () async -> Void) async {
        var seen: (version: String, at: ContinuousClock.Instant)?
        while !Task.isCancelled {
            do {
                if let lease = try await self.acquire(&seen) {
                    self.logger.info("became leader", metadata: ["lease": "\(self.name)"])
                    await self.lead(lease, work)
                    self.logger.info("no longer leader", metadata: ["lease": "\(self.name)"])
                    seen = nil
                }
            } catch {
                self.logger.warning(
                    "cannot read or write the Lease", metadata: ["lease": "\(self.name)", "why": "\(error)"])
            }
            try? await Task.sleep(for: self.timing.retry)
        }
    }

    private func acquire(
        _ seen: inout (version: String, at: ContinuousClock.Instant)?
    ) async throws -> KubeObject? {
        let now = ContinuousClock.now
        guard let lease = try await self.cluster.find(.leases, namespace: self.namespace, name: self.name) else {
            do {
                var fresh = KubeObject(.leases, namespace: self.namespace, name: self.name)
                self.claim(&fresh, isNew: true)
                return try await self.cluster.create(.leases, fresh)
            } catch let error as StatusError where error.isAlreadyExists {
                return nil
            }
        }
        let holder = lease.spec["holderIdentity"]?.string ?? ""
        if seen?.version != lease.resourceVersion { seen = (lease.resourceVersion, now) }
        guard holder.isEmpty || holder == self.identity || now - (seen?.at ?? now) >= self.timing.lease else {
            return nil
        }
        var mine = lease
        self.claim(&mine, isNew: holder != self.identity)
        do {
            return try await self.cluster.replace(.leases, mine)
        } catch let error as StatusError where error.isConflict {
            return nil
        }
    }

    private func claim(_ lease: inout KubeObject, isNew: Bool) {
        let now = Self.microTime(Date())
        lease.json.set(["spec", "holderIdentity"], to: .string(self.identity))
        lease.json.set(["spec", "leaseDurationSeconds"], to: .int(self.timing.lease.components.seconds))
        lease.json.set(["spec", "renewTime"], to: .string(now))
        if isNew {
            lease.json.set(["spec", "acquireTime"], to: .string(now))
            let count = lease.spec["leaseTransitions"]?.int ?? -1
            lease.json.set(["spec", "leaseTransitions"], to: .int(count + 1))
        }
    }

    private func lead(_ lease: KubeObject, _ work: @escaping @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await work() }
            group.addTask { await self.renew(lease) }
            await group.next()
            group.cancelAll()
        }
    }

    /// Returns when the Lease is lost or the task cancelled.
    private func renew(_ first: KubeObject) async {
        var lease = first
        var renewed = ContinuousClock.now
        while true {
            try? await Task.sleep(for: self.timing.retry)
            if Task.isCancelled {
                lease.json.set(["spec", "holderIdentity"], to: "")
                let released = lease
                // In a task of its own, because this one may no longer make requests.
                await Task { _ = try? await self.cluster.replace(.leases, released) }.value
                return
            }
            do {
                self.claim(&lease, isNew: false)
                lease = try await self.cluster.replace(.leases, lease)
                renewed = .now
            } catch let error as StatusError where error.isConflict || error.isNotFound {
                return
            } catch {
                if ContinuousClock.now - renewed > self.timing.renewWithin { return }
            }
        }
    }

    /// RFC 3339 with microseconds, Kubernetes' MicroTime.
    static func microTime(_ date: Date) -> String {
        let micros = Int64((date.timeIntervalSince1970 * 1_000_000).rounded())
        let whole = Date(timeIntervalSince1970: Double(micros / 1_000_000))
        let text = whole.formatted(.iso8601)  // 2026-01-02T03:04:05Z
        let digits = String(micros % 1_000_000)
        return text.dropLast() + "." + String(repeating: "0", count: 6 - digits.count) + digits + "Z"
    }
}
