import Logging
import MeshCA
import MeshCertificates
import MeshIdentity
import MeshTelemetry
import MeshTunnel
import Synchronization
import Testing

private func id(_ name: String) -> WorkloadIdentity {
    WorkloadIdentity(trustDomain: "td", namespace: "n", serviceAccount: name)
}

/// A ledger on a clock that stands still until it is moved.
private final class Scene {
    var ledger: CertificateLedger
    var now: Int64 = 1_000_000

    init(concurrency: Int = 8) { self.ledger = CertificateLedger(concurrency: concurrency) }

    func ask(_ name: String, _ priority: CertificateLedger.Priority = .realTime) -> CertificateLedger.Answer {
        self.ledger.request(id(name), priority, now: self.now)
    }

    func next() -> CertificateLedger.Ticket? { self.ledger.next(now: self.now) }

    func startAll() -> [String] {
        var started: [String] = []
        while let ticket = self.next() { started.append(ticket.identity.serviceAccount) }
        return started
    }

    @discardableResult
    func signed(_ ticket: CertificateLedger.Ticket, hours: Int64 = 24) -> (WorkloadCertificate, Bool)? {
        self.ledger.signed(
            ticket, chain: [[1]], privateKey: [2], roots: [[3]], notBefore: self.now,
            notAfter: self.now + hours * 3_600_000, now: self.now
        ).map { ($0.certificate, $0.isRenewal) }
    }

    @discardableResult
    func failed(_ ticket: CertificateLedger.Ticket, jitter: Double = 0.5) -> Bool {
        self.ledger.failed(ticket, CertificateUnavailable("no"), now: self.now, jitter: jitter)
    }
}

@Suite("The certificate ledger")
struct CertificateLedgerTests {
    @Test("C1: one at a time; waiting connections before prefetch before renewal")
    func priorities() throws {
        let scene = Scene(concurrency: 1)
        _ = scene.ask("running", .background)
        let running = try #require(scene.next())
        _ = scene.ask("background", .background)
        _ = scene.ask("warmup", .warmup)
        _ = scene.ask("realTime", .realTime)
        #expect(scene.next() == nil)
        scene.signed(running)
        var order: [String] = []
        while let ticket = scene.next() {
            order.append(ticket.identity.serviceAccount)
            scene.signed(ticket)
        }
        #expect(order == ["realTime", "warmup", "background"])
    }

    @Test("C2: a connection that waits moves a prefetch to the front")
    func bumped() {
        let scene = Scene(concurrency: 1)
        for name in ["1", "2", "3", "4"] { _ = scene.ask(name, .warmup) }
        #expect(scene.ask("4") == .pending)
        #expect(scene.next()?.identity == id("4"))
    }

    @Test("C3: requests for one identity share one fetch")
    func shared() throws {
        let scene = Scene()
        for _ in 0..<4 { #expect(scene.ask("a") == .pending) }
        let ticket = try #require(scene.next())
        #expect(scene.next() == nil)
        #expect(scene.ask("a") == .pending)
        #expect(scene.next() == nil)
        let (certificate, isRenewal) = try #require(scene.signed(ticket))
        #expect(!isRenewal)
        #expect(scene.ask("a") == .ready(certificate))
    }

    @Test("C4: as many at once as allowed, and no more")
    func concurrency() {
        let scene = Scene(concurrency: 4)
        for name in ["1", "2", "3", "4", "5"] { _ = scene.ask(name) }
        #expect(scene.startAll() == ["1", "2", "3", "4"])
        #expect(scene.ledger.nextDue == nil)
    }

    @Test("C5: what was forgotten while it was fetched stays forgotten")
    func forgotten() throws {
        let scene = Scene()
        _ = scene.ask("a")
        let ticket = try #require(scene.next())
        scene.ledger.forget(id("a"))
        #expect(scene.signed(ticket) == nil)
        #expect(scene.ledger.states.isEmpty)
        // Asked for again before the old fetch came back: only the new one counts.
        _ = scene.ask("a")
        let second = try #require(scene.next())
        scene.ledger.forget(id("a"))
        _ = scene.ask("a")
        #expect(!scene.failed(second))
        #expect(scene.ask("a") == .pending)
        #expect(scene.next() != nil)
    }

    @Test("C6: is renewed at half of its life, while the old one stays in use")
    func halfLife() throws {
        let scene = Scene()
        _ = scene.ask("a")
        let ticket1 = try #require(scene.next())
        let (first, _) = try #require(scene.signed(ticket1))
        #expect(scene.ledger.nextDue == scene.now + 12 * 3_600_000)
        scene.now += 12 * 3_600_000 - 1
        #expect(scene.next() == nil)
        scene.now += 1
        let ticket = try #require(scene.next())
        #expect(scene.ask("a") == .ready(first))
        let (second, isRenewal) = try #require(scene.signed(ticket))
        #expect(isRenewal)
        #expect(second.version == first.version + 1)
        #expect(scene.ask("a") == .ready(second))
    }

    @Test("C7: when renewal fails the old one is used until it expires, and renewal tried again and again")
    func renewalFails() throws {
        let scene = Scene()
        _ = scene.ask("a")
        let ticket2 = try #require(scene.next())
        let (old, _) = try #require(scene.signed(ticket2, hours: 1))
        scene.now += 30 * 60_000
        var tries = 0
        while scene.now < 1_000_000 + 3_600_000 {
            let ticket = try #require(scene.next())
            scene.failed(ticket)
            tries += 1
            #expect(scene.ask("a") == .ready(old))
            // Never later than the expiry.
            let due = try #require(scene.ledger.nextDue)
            #expect(due <= 1_000_000 + 3_600_000)
            #expect(due > scene.now)
            scene.now = due
        }
        #expect(tries > 10)
        guard case .unavailable = scene.ask("a") else {
            Issue.record("an expired certificate was handed out")
            return
        }
        let ticket3 = try #require(scene.next())
        let (new, _) = try #require(scene.signed(ticket3))
        #expect(scene.ask("a") == .ready(new))
    }

    @Test("C8: after a failure callers get it at once, until a later try succeeds")
    func unavailable() throws {
        let scene = Scene()
        _ = scene.ask("a")
        scene.failed(try #require(scene.next()))
        #expect(scene.ask("a") == .unavailable(CertificateUnavailable("no")))
        #expect(scene.next() == nil, "asking does not hurry it")
        scene.now += 3_000
        let ticket4 = try #require(scene.next())
        let (certificate, _) = try #require(scene.signed(ticket4))
        #expect(scene.ask("a") == .ready(certificate))
    }

    @Test("backs off from one second to two and a half minutes, plus or minus a fifth; success resets")
    func backoff() throws {
        let scene = Scene()
        _ = scene.ask("a")
        var waits: [Int64] = []
        for _ in 0..<12 {
            scene.failed(try #require(scene.next()))
            let due = try #require(scene.ledger.nextDue)
            waits.append(due - scene.now)
            scene.now = due
        }
        #expect(waits == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 150_000, 150_000, 150_000, 150_000])
        scene.signed(try #require(scene.next()))
        scene.now = try #require(scene.ledger.nextDue)
        scene.failed(try #require(scene.next()), jitter: 0)
        #expect(try #require(scene.ledger.nextDue) - scene.now == 800)
        scene.now = try #require(scene.ledger.nextDue)
        scene.failed(try #require(scene.next()), jitter: 1)
        #expect(try #require(scene.ledger.nextDue) - scene.now == 2400)
    }

    @Test("one that is past half of its life when it comes is not fetched in a circle")
    func shortLived() throws {
        let scene = Scene()
        _ = scene.ask("a")
        let ticket = try #require(scene.next())
        _ = scene.ledger.signed(
            ticket, chain: [], privateKey: [], roots: [], notBefore: scene.now - 10_000, notAfter: scene.now + 5_000,
            now: scene.now)
        #expect(scene.next() == nil)
        #expect(try #require(scene.ledger.nextDue) > scene.now)
    }
}

/// A CA that answers when it is told to.
private final class ScriptedSigner: CertificateSigner {
    private struct State {
        var calls: [WorkloadIdentity] = []
        var waiting: [CheckedContinuation<SignedCertificate, any Error>] = []
        var watchers: [(count: Int, CheckedContinuation<Void, Never>)] = []
    }
    private let state = Mutex(State())

    func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate {
        try await withCheckedThrowingContinuation { waiter in
            let ready = self.state.withLock { state -> [CheckedContinuation<Void, Never>] in
                state.calls.append(identity)
                state.waiting.append(waiter)
                let ready = state.watchers.filter { $0.count <= state.calls.count }.map(\.1)
                state.watchers.removeAll { $0.count <= state.calls.count }
                return ready
            }
            for watcher in ready { watcher.resume() }
        }
    }

    func waitForCalls(_ count: Int) async {
        await withCheckedContinuation { watcher in
            let isThere = self.state.withLock { state in
                if state.calls.count < count { state.watchers.append((count, watcher)) }
                return state.calls.count >= count
            }
            if isThere { watcher.resume() }
        }
    }

    func answer(_ result: Result<SignedCertificate, any Error>) {
        for waiter in self.state.withLock({ state in
            defer { state.waiting = [] }
            return state.waiting
        }) { waiter.resume(with: result) }
    }

    var calls: [WorkloadIdentity] { self.state.withLock { $0.calls } }

    static var certificate: SignedCertificate {
        let now = Timestamp.secondsNow()
        return SignedCertificate(
            chain: [[1]], privateKey: [2], roots: [[3]], notBefore: now - 60, notAfter: now + 86_400)
    }
}

@Suite("The certificate manager", .timeLimit(.minutes(2)))
struct CertificateManagerTests {
    private struct Refused: Error {}

    private func ask(_ manager: CertificateManager, _ name: String) async -> Result<
        WorkloadCertificate, CertificateUnavailable
    > {
        await withCheckedContinuation { waiter in
            manager.certificate(for: id(name)) { waiter.resume(returning: $0) }
        }
    }

    private func running(
        _ signer: ScriptedSigner, _ body: (CertificateManager) async throws -> Void
    ) async rethrows {
        let manager = CertificateManager(signer: signer, log: MeshLog(destination: Nowhere()).logger("ca"))
        let task = Task { await manager.run() }
        try await body(manager)
        task.cancel()
        signer.answer(.failure(CancellationError()))
        await task.value
    }

    private struct Nowhere: LogDestination { func write(_ bytes: [UInt8]) {} }

    @Test("C3: four callers, one call, one certificate")
    func shared() async throws {
        let signer = ScriptedSigner()
        try await self.running(signer) { manager in
            async let answers = withTaskGroup(of: Result<WorkloadCertificate, CertificateUnavailable>.self) { group in
                for _ in 0..<4 { group.addTask { await self.ask(manager, "a") } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            await signer.waitForCalls(1)
            signer.answer(.success(ScriptedSigner.certificate))
            let all = try await answers.map { try $0.get() }
            #expect(all.count == 4)
            #expect(Set(all).count == 1)
            #expect(signer.calls == [id("a")])
            #expect(try await self.ask(manager, "a").get() == all[0])
        }
    }

    @Test("C5: whoever waits for a forgotten one is told")
    func forgotten() async {
        let signer = ScriptedSigner()
        await self.running(signer) { manager in
            async let answer = self.ask(manager, "a")
            await signer.waitForCalls(1)
            manager.forget([id("a")])
            let told = await answer
            #expect(throws: CertificateUnavailable.self) { try told.get() }
            #expect(manager.states.isEmpty)
        }
    }

    @Test("C8: a failure reaches the waiting at once and those that come after; the next try heals it")
    func healed() async {
        let signer = ScriptedSigner()
        await self.running(signer) { manager in
            async let first = self.ask(manager, "a")
            await signer.waitForCalls(1)
            signer.answer(.failure(Refused()))
            let told = await first
            #expect(throws: CertificateUnavailable.self) { try told.get() }
            let second = await self.ask(manager, "a")
            #expect(throws: CertificateUnavailable.self) { try second.get() }
            // About a second later it tries by itself.
            await signer.waitForCalls(2)
            signer.answer(.success(ScriptedSigner.certificate))
            while true {
                if case .available = manager.states[0].state { break }
                await Task.yield()
            }
            let healed = await self.ask(manager, "a")
            #expect((try? healed.get())?.version == 1)
        }
    }

    @Test("C10: prefetches before anybody asks")
    func prefetched() async throws {
        let signer = ScriptedSigner()
        try await self.running(signer) { manager in
            manager.prefetch([id("a"), id("a")])
            await signer.waitForCalls(1)
            signer.answer(.success(ScriptedSigner.certificate))
            _ = try await self.ask(manager, "a").get()
            #expect(signer.calls.count == 1)
        }
    }
}

@Suite("A certificate's summary")
struct CertificateSummaryTests {
    @Test("writes serial numbers in decimal")
    func decimal() {
        #expect(CertificateSummary.decimal([]) == "0")
        #expect(CertificateSummary.decimal([0, 0]) == "0")
        #expect(CertificateSummary.decimal([1, 0]) == "256")
        #expect(
            CertificateSummary.decimal([UInt8](repeating: 0xff, count: 16))
                == "340282366920938463463374607431768211455")
    }

    @Test("base64", arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")])
    func base64(text: String, encoded: String) { #expect(CertificateSummary.base64(Array(text.utf8)) == encoded) }

    @Test("is nothing for bytes that are no certificate")
    func nonsense() { #expect(CertificateSummary(der: [1, 2, 3]) == nil) }
}
