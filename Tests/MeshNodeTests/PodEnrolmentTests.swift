import MeshModel
import MeshNode
import Testing

@Suite("A pod's enrolment")
struct PodEnrolmentTests {
    static let address: Set = [IPAddress("10.1.0.9")!]

    /// Performs every step successfully until there is nothing to do.
    static func steps(_ enrolment: inout PodEnrolment) -> [PodEnrolment.Action] {
        var taken: [PodEnrolment.Action] = []
        while taken.count < 50 {
            let action = enrolment.next()
            if action == .rest || action == .forget || action == .retryLater { return taken + [action] }
            taken.append(action)
            enrolment.finished(action, succeeded: true)
        }
        return taken
    }

    static func enrolled() -> PodEnrolment {
        var enrolment = PodEnrolment(goal: .enrolled)
        enrolment.have(addresses: Self.address)
        _ = Self.steps(&enrolment)
        return enrolment
    }

    @Test("goes in step by step, the annotation last")
    func goesIn() {
        var enrolment = PodEnrolment(goal: .enrolled)
        #expect(enrolment.next() == .rest, "without an address there is nothing to find it by")
        enrolment.have(addresses: Self.address)
        #expect(
            Self.steps(&enrolment) == [
                .findNamespace, .askProxy, .capture, .setProbes(Self.address), .annotate(.enabled), .rest,
            ])
        #expect(enrolment.isCaptured)
    }

    @Test("that a predecessor began is finished, with its rules applied anew or left as they are")
    func adopted() {
        var enrolment = PodEnrolment(goal: .enrolled, annotation: .enabled, probes: Self.address)
        enrolment.have(addresses: Self.address)
        enrolment.have(namespaceIsNew: false)
        var lenient = enrolment
        #expect(Self.steps(&enrolment) == [.askProxy, .capture, .rest])
        lenient.keepPredecessorsRules()
        #expect(Self.steps(&lenient) == [.askProxy, .rest])
        lenient.rulesChanged()
        #expect(Self.steps(&lenient) == [.capture, .rest], "other rules are wanted")

        var unfinished = PodEnrolment(goal: .enrolled, annotation: .pending)
        unfinished.have(addresses: Self.address)
        unfinished.have(namespaceIsNew: false)
        unfinished.keepPredecessorsRules()
        #expect(unfinished.next() == .askProxy)
        unfinished.finished(.askProxy, succeeded: true)
        #expect(unfinished.next() == .capture, "it never said that there are rules")
    }

    @Test("goes out without breaking a connection: drain, annotation, wait, and only then the proxy and the rules")
    func goesOut() {
        var enrolment = Self.enrolled()
        enrolment.want(.out)
        #expect(enrolment.next() == .drain)
        enrolment.finished(.drain, succeeded: true)
        #expect(enrolment.next() == .annotate(nil))
        enrolment.finished(.annotate(nil), succeeded: true)
        for _ in 0..<3 {
            #expect(enrolment.next() == .awaitDrain)
            enrolment.finished(.awaitDrain, succeeded: false)
        }
        #expect(
            Self.steps(&enrolment) == [.awaitDrain, .dropFromProxy, .setProbes([]), .removeRules, .forget])
    }

    @Test("turns back in the middle of a drain without asking the proxy again")
    func turnsBack() {
        var enrolment = Self.enrolled()
        enrolment.want(.out)
        enrolment.finished(.drain, succeeded: true)
        enrolment.finished(.annotate(nil), succeeded: true)
        enrolment.want(.enrolled)
        #expect(Self.steps(&enrolment) == [.capture, .annotate(.enabled), .rest])
    }

    @Test("of a completed pod ends at once, and takes the annotation off the object that remains")
    func completed() {
        var enrolment = Self.enrolled()
        enrolment.want(.gone(objectRemains: true))
        #expect(Self.steps(&enrolment) == [.setProbes([]), .dropFromProxy, .annotate(nil), .forget])
        var deleted = Self.enrolled()
        deleted.want(.gone(objectRemains: false))
        #expect(Self.steps(&deleted) == [.setProbes([]), .dropFromProxy, .forget])
    }

    @Test("says pending when the proxy refuses, tries again, and says enabled when it took it")
    func pending() {
        var enrolment = PodEnrolment(goal: .enrolled)
        enrolment.have(addresses: Self.address)
        enrolment.finished(.findNamespace, succeeded: true)
        enrolment.finished(.askProxy, succeeded: false)
        #expect(enrolment.next() == .capture, "without a proxy the pod talks to nobody, rather than past it")
        enrolment.finished(.capture, succeeded: true)
        #expect(enrolment.next() == .askProxy)
        enrolment.finished(.askProxy, succeeded: false)
        #expect(enrolment.next() == .annotate(.pending))
        enrolment.finished(.annotate(.pending), succeeded: true)
        #expect(enrolment.next() == .retryLater)
        #expect(enrolment.failures == 1)
        enrolment.retry()
        #expect(
            Self.steps(&enrolment) == [.askProxy, .setProbes(Self.address), .annotate(.enabled), .rest])
    }

    @Test("never takes back enabled because a proxy is away")
    func staysEnabled() {
        // The agent restarts: rules and annotation are there from before, the proxy is not connected yet.
        var enrolment = PodEnrolment(goal: .enrolled, annotation: .enabled, probes: Self.address)
        enrolment.have(addresses: Self.address)
        enrolment.finished(.findNamespace, succeeded: true)
        enrolment.finished(.capture, succeeded: true)
        enrolment.finished(.askProxy, succeeded: false)
        #expect(enrolment.next() == .retryLater)
        enrolment.proxyConnected()
        #expect(Self.steps(&enrolment) == [.askProxy, .rest])
    }

    @Test("left behind by a former agent is undone when the pod is not wanted any more")
    func leftBehind() {
        var enrolment = PodEnrolment(goal: .out, annotation: .enabled, probes: Self.address)
        enrolment.have(addresses: Self.address)
        #expect(
            Self.steps(&enrolment) == [
                .findNamespace, .drain, .annotate(nil), .awaitDrain, .dropFromProxy, .setProbes([]), .removeRules,
                .forget,
            ])
    }

    @Test("starts over in a new sandbox, and repairs rules that somebody removed")
    func newSandbox() {
        var enrolment = Self.enrolled()
        enrolment.have(namespaceIsNew: true)
        #expect(Self.steps(&enrolment) == [.askProxy, .capture, .rest])
        enrolment.rulesDrifted()
        #expect(Self.steps(&enrolment) == [.capture, .rest])
    }

    @Test("follows a changed address")
    func newAddress() {
        var enrolment = Self.enrolled()
        let both: Set = [IPAddress("10.1.0.9")!, IPAddress("fd00::9")!]
        enrolment.have(addresses: both)
        #expect(Self.steps(&enrolment) == [.setProbes(both), .rest])
        enrolment.have(addresses: [])
        #expect(enrolment.next() == .rest, "an address that Kubernetes blanked is not forgotten")
    }
}

/// Many pods' lives with random events and random failures, from a printed seed; checked against a model of the world.
@Suite("A pod's enrolment, simulated")
struct PodEnrolmentSimulation {
    struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            self.state &+= 0x9e37_79b9_7f4a_7c15
            var z = self.state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }

    /// What is really there, as opposed to what the enrolment believes.
    struct World {
        var rules = PodEnrolment.Rules.none
        var isServed = false
        /// The proxy was asked at least once, whatever it said.
        var isAsked = false
        var probes: Set<IPAddress> = []
        var annotation: PodEnrolment.Annotation?

        mutating func perform(_ action: PodEnrolment.Action, _ seed: UInt64) {
            switch action {
            case .capture:
                #expect(self.isAsked, "seed \(seed): redirected to a proxy that was not even asked")
                self.rules = .capturing
            case .askProxy: self.isServed = true
            case .setProbes(let addresses): self.probes = addresses
            case .annotate(.enabled):
                #expect(self.rules == .capturing, "seed \(seed): enabled without rules")
                #expect(self.isServed, "seed \(seed): enabled without a proxy")
                self.annotation = .enabled
            case .annotate(let value): self.annotation = value
            case .drain: self.rules = .draining
            case .awaitDrain: #expect(self.rules == .draining, "seed \(seed)")
            case .dropFromProxy:
                self.isServed = false
                self.isAsked = false
            case .removeRules:
                #expect(!self.isServed, "seed \(seed): rules gone while the proxy still answers through them")
                #expect(self.annotation == nil, "seed \(seed): peers still send to the proxy")
                self.rules = .none
            case .findNamespace, .retryLater, .rest, .forget: break
            }
        }
    }

    @Test("keeps its order under any failure, and arrives once failures stop", arguments: 0..<400 as Range<UInt64>)
    func simulate(seed: UInt64) {
        var random = Random(state: seed)
        var enrolment = PodEnrolment(goal: .enrolled)
        var world = World()
        enrolment.have(addresses: PodEnrolmentTests.address)
        for step in 0..<300 {
            let isCalm = step >= 200
            if !isCalm {
                switch Int.random(in: 0..<20, using: &random) {
                case 0: enrolment.want(.out)
                case 1...2: enrolment.want(.enrolled)
                case 3: enrolment.proxyConnected()
                case 4:
                    if world.rules == .capturing {
                        world.rules = .none
                        enrolment.rulesDrifted()
                    }
                default: break
                }
            }
            let action = enrolment.next()
            if action == .forget {
                #expect(world.rules == .none && !world.isServed && world.probes.isEmpty && world.annotation == nil)
                enrolment = PodEnrolment(goal: .out)
                enrolment.have(addresses: PodEnrolmentTests.address)
                if isCalm { return }
                continue
            }
            if action == .retryLater {
                enrolment.retry()
                continue
            }
            let succeeds = isCalm || Int.random(in: 0..<3, using: &random) > 0
            if action == .askProxy { world.isAsked = true }
            // A failed request to the proxy may have been served all the same.
            if succeeds || (action == .askProxy && Bool.random(using: &random)) { world.perform(action, seed) }
            enrolment.finished(action, succeeded: succeeds)
        }
        switch enrolment.goal {
        case .enrolled:
            #expect(
                world.rules == .capturing && world.isServed && world.annotation == .enabled
                    && world.probes == PodEnrolmentTests.address, "seed \(seed)")
        case .out, .gone: #expect(enrolment.next() == .forget, "seed \(seed)")
        }
    }
}
