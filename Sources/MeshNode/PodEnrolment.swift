package import MeshModel

/// One pod's way into the mesh and out of it.
///
/// Performs no I/O: ``next()`` compares what is wanted with what is known to be done and names the next step; whoever
/// performs it reports back with ``finished(_:succeeded:)``. The order of the steps is the point:
///
///     in:   find its namespace → the proxy listens → rules → probes exempt → annotation "enabled"
///     out:  drain rules → annotation gone → captured connections end → the proxy leaves → probes → rules gone
///     gone: probes → the proxy leaves → annotation (if the object remains)
///
/// The proxy listens before anything is redirected to it: a running pod would find its names unanswered in between. When
/// no proxy answers, the rules go in all the same: a pod that has to be captured does not talk past the mesh.
///
/// Only "enabled" makes the control plane send the pod's peers through its proxy, so it comes last and goes first.
package struct PodEnrolment: Hashable, Sendable {
    package enum Goal: Hashable, Sendable {
        case enrolled
        /// The pod lives and shall talk directly again.
        case out
        /// Its network namespace is gone or of no use any more (completed, deleted).
        case gone(objectRemains: Bool)
    }
    package enum Rules: Hashable, Sendable { case none, capturing, draining }
    package enum Annotation: String, Hashable, Sendable { case pending, enabled }

    package enum Action: Hashable, Sendable {
        case findNamespace
        case capture
        case askProxy
        case setProbes(Set<IPAddress>)
        case annotate(Annotation?)
        case drain
        /// One look whether captured connections are left; repeated until none is.
        case awaitDrain
        case dropFromProxy
        case removeRules
        /// After a failure: wait, then ``retry()``.
        case retryLater
        /// Nothing to do until something changes.
        case rest
        /// All traces are gone; the record can go too.
        case forget
    }

    package private(set) var goal: Goal
    package private(set) var hasNamespace = false
    package private(set) var rules = Rules.none
    /// The proxy acknowledged the pod.
    package private(set) var isServed = false
    /// The proxy was told of the pod, whatever it answered: it has to be told of the end too.
    package private(set) var isProxyAware = false
    package private(set) var isDrained = false
    package private(set) var addresses: Set<IPAddress> = []
    package private(set) var probes: Set<IPAddress> = []
    package private(set) var annotation: Annotation?
    private var failed: Action?
    /// The start of the pod failed; nothing is to be done until it is tried again with a new sandbox.
    private var isStranded = false
    /// Failures since the last success; for the back-off.
    package private(set) var failures = 0

    /// A pod met for the first time.
    /// - Parameters:
    ///   - annotation: as the API server has it. One that is there was written by a predecessor of this process, which
    ///     may have left rules in the pod and told the proxy of it: both are assumed.
    ///   - probes: the pod's entries found on the node.
    package init(goal: Goal, annotation: Annotation? = nil, probes: Set<IPAddress> = []) {
        self.goal = goal
        self.annotation = annotation
        self.probes = probes
        if annotation != nil, goal != .enrolled {
            self.rules = .capturing
            self.isProxyAware = true
        }
    }

    /// Captured as far as the pod itself is concerned: no connection of it passes by the proxy.
    package var isCaptured: Bool { self.rules == .capturing && self.isServed && self.probes == self.addresses }

    package func next() -> Action {
        switch self.goal {
        case .enrolled: self.nextIn()
        case .out: self.nextOut()
        case .gone(let objectRemains): self.nextGone(objectRemains)
        }
    }

    private func nextIn() -> Action {
        if let failed {
            if failed == .askProxy, self.rules != .capturing { return .capture }
            // Said once, and never instead of "enabled": a proxy that restarts is no reason to send peers around it.
            if failed != .annotate(.pending), self.rules == .capturing, self.annotation == nil {
                return .annotate(.pending)
            }
            return .retryLater
        }
        if self.isStranded { return self.annotation == nil ? .annotate(.pending) : .rest }
        if !self.hasNamespace { return self.addresses.isEmpty ? .rest : .findNamespace }
        if !self.isServed { return .askProxy }
        if self.rules != .capturing { return .capture }
        if self.probes != self.addresses { return .setProbes(self.addresses) }
        if self.annotation != .enabled { return .annotate(.enabled) }
        return .rest
    }

    private func nextOut() -> Action {
        if self.failed != nil { return .retryLater }
        if self.rules != .none, !self.hasNamespace { return self.addresses.isEmpty ? .rest : .findNamespace }
        if self.rules == .capturing { return .drain }
        if self.annotation != nil { return .annotate(nil) }
        if self.rules == .draining, self.isProxyAware, !self.isDrained { return .awaitDrain }
        if self.isProxyAware { return .dropFromProxy }
        if !self.probes.isEmpty { return .setProbes([]) }
        if self.rules != .none { return .removeRules }
        return .forget
    }

    private func nextGone(_ objectRemains: Bool) -> Action {
        if self.failed != nil { return .retryLater }
        if !self.probes.isEmpty { return .setProbes([]) }
        if self.isProxyAware { return .dropFromProxy }
        if objectRemains, self.annotation != nil { return .annotate(nil) }
        return .forget
    }

    package mutating func finished(_ action: Action, succeeded: Bool) {
        if action == .askProxy { self.isProxyAware = true }
        guard succeeded else {
            // Not drained yet is no failure.
            if action == .awaitDrain { return }
            self.failed = action
            self.failures += 1
            return
        }
        // "pending" is about the failure, it does not end it.
        if action != .annotate(.pending) {
            self.failed = nil
            self.failures = 0
        }
        switch action {
        case .findNamespace: self.hasNamespace = true
        case .capture:
            self.rules = .capturing
            self.isDrained = false
        case .askProxy: self.isServed = true
        case .setProbes(let addresses): self.probes = addresses
        case .annotate(let value): self.annotation = value
        case .drain:
            self.rules = .draining
            self.isDrained = false
        case .awaitDrain: self.isDrained = true
        case .dropFromProxy:
            self.isProxyAware = false
            self.isServed = false
        case .removeRules: self.rules = .none
        case .retryLater, .rest, .forget: break
        }
    }

    // MARK: what happens outside

    /// Time has passed, or something changed that may help.
    package mutating func retry() { self.failed = nil }

    package mutating func want(_ goal: Goal) {
        if self.goal == goal { return }
        self.goal = goal
        self.failed = nil
        self.failures = 0
    }

    /// Ignored while empty: Kubernetes blanks the addresses of a pod that ends, and a starting pod has them first from its
    /// network plugin.
    package mutating func have(addresses: Set<IPAddress>) {
        if addresses.isEmpty || self.addresses == addresses { return }
        self.addresses = addresses
        self.failed = nil
        self.isStranded = false
    }

    /// The namespace is known from elsewhere. A new one (the sandbox was made anew) has nothing of ours in it.
    package mutating func have(namespaceIsNew: Bool) {
        self.hasNamespace = true
        self.failed = nil
        self.isStranded = false
        if namespaceIsNew {
            self.rules = .none
            self.isServed = false
        }
    }

    /// The pod was enrolled by a predecessor of this process, and the rules that it left are good enough. (Otherwise
    /// they are applied once more, which puts right what is different.)
    package mutating func keepPredecessorsRules() {
        if self.annotation == .enabled, self.goal == .enrolled, self.hasNamespace { self.rules = .capturing }
    }

    /// The namespace is of no use any more: the sandbox is torn down after a failed start, and tried again later.
    package mutating func loseNamespace() {
        self.isStranded = true
        self.failed = nil
        self.hasNamespace = false
        self.rules = .none
        self.isServed = false
    }

    /// Somebody changed the rules in the pod.
    package mutating func rulesDrifted() { if self.rules == .capturing { self.rules = .none } }

    /// The rules that are wanted changed (an annotation of the pod).
    package mutating func rulesChanged() { self.rulesDrifted() }

    /// Another proxy is connected now; it learned of the pod from its snapshot, but whether it serves it, only an answer says.
    package mutating func proxyConnected() {
        if self.goal == .enrolled { self.failed = nil }
    }

    /// The proxy that acknowledged the pod is gone, and no other one has.
    package mutating func proxyLost() { self.isServed = false }

    /// Somebody took a probe exemption away on the node.
    package mutating func probesDrifted(to present: Set<IPAddress>) { self.probes = present }

    /// What the API server says; only when it differs from what we wrote and nothing is under way.
    package mutating func annotationIs(_ value: Annotation?) { self.annotation = value }
}
