import MeshLoop
import MeshModel
import MeshTunnel

// One thing after another, chosen by the seed: bytes arrive, a loop has its round, an application acts, time passes.

extension SimulatedWorld {
    func go(until isOver: () -> Bool) throws {
        let deadline = self.now + Self.patience
        while !isOver() {
            self.steps += 1
            guard self.steps < Self.stepsMax else { throw self.wrong("\(self.steps) steps and no end") }
            if try self.step() { continue }
            if try self.loops.allSatisfy({ $0.timerCount == 0 }) && self.actAnyApplication() { continue }
            guard let next = self.loops.compactMap(\.nextDeadline).min() ?? self.fallback() else {
                throw self.wrong("nothing moves any more: \(self.situation)")
            }
            guard next < deadline else { throw self.wrong("waits longer than any deadline: \(self.situation)") }
            self.now = max(self.now, next)
            for loop in self.loops { self.round(loop) }
        }
    }

    var situation: String {
        self.conversations.filter { !$0.isOver || $0.server != nil }
            .map { "\($0.violation("open"))" }.joined(separator: "; ") + " faults \(self.faults)"
    }

    /// Nothing happens by itself: time for what was held back.
    func fallback() -> UInt64? {
        if !self.pendingFaults.isEmpty {
            self.strike()
            return self.now
        }
        if !self.certificates.waiting.isEmpty {
            self.certificates.answer(0, failing: false)
            return self.now
        }
        // A server that its own wire has lost is nobody's to wait for.
        if let lost = self.conversations.first(where: { $0.isOver && $0.server?.isCut == true }) {
            lost.giveUp(self.network)
            return self.now
        }
        return nil
    }

    /// Something happens; false when only time can help.
    func step() throws -> Bool {
        self.now += UInt64(self.random.below(40_000))
        let roll = self.random.below(64)
        if roll == 0, !self.pendingFaults.isEmpty { self.strike() }
        if roll < 24, self.network.hasTraffic {
            self.network.deliver()
            return true
        }
        if roll < 44, self.runLoop() { return true }
        if roll < 60, try self.actApplications() { return true }
        if self.answerCertificate() { return true }
        if self.network.hasTraffic {
            self.network.deliver()
            return true
        }
        if self.runLoop() { return true }
        // Most applications are quick; now and then one sleeps until a timer fires.
        return self.random.chance(1, of: 16) ? false : try self.actAnyApplication()
    }

    func actAnyApplication() throws -> Bool {
        if self.connect() { return true }
        if let accepted = self.network.accept(self.target) {
            self.unidentified.append(accepted)
            return true
        }
        if try self.identify() { return true }
        for conversation in self.conversations {
            if try conversation.clientStep(self.network, chunk: 1_000) { return true }
            if try conversation.serverStep(self.network, chunk: 1_000) { return true }
        }
        return false
    }

    func runLoop() -> Bool {
        let first = self.random.below(self.loops.count)
        for offset in self.loops.indices {
            let loop = self.loops[(first + offset) % self.loops.count]
            let isDue = loop.nextDeadline.map { $0 <= self.now } ?? false
            if loop.hasWork || isDue || self.network.hasEvents(loop) {
                self.round(loop)
                return true
            }
        }
        return false
    }

    func round(_ loop: EventLoop) {
        let events = self.network.takeEvents(loop)
        self.trace = (self.trace ^ self.now ^ UInt64(events.count)) &* 1_099_511_628_211
        loop.simulateRound(at: self.now, events)
    }

    func answerCertificate() -> Bool {
        let count = self.certificates.waiting.count
        guard count > 0 else { return false }
        if self.faults.contains(.slowCertificates), !self.random.chance(1, of: 200) { return false }
        let fails = self.faults.contains(.certificateFails) && self.random.chance(1, of: 2)
        self.certificates.answer(self.random.below(count), failing: fails)
        return true
    }

    func actApplications() throws -> Bool {
        if !self.coming.isEmpty, self.random.chance(1, of: 4) { return self.connect() }
        if let accepted = self.network.accept(self.target) {
            self.unidentified.append(accepted)
            return true
        }
        if try self.identify() { return true }
        guard !self.conversations.isEmpty else { return self.connect() }
        let conversation = self.conversations[self.random.below(self.conversations.count)]
        let chunk = self.random.chance(1, of: 6) ? 1 + self.random.below(40) : 1 + self.random.below(4_000)
        return try self.random.chance(1, of: 2)
            ? conversation.clientStep(self.network, chunk: chunk)
            : conversation.serverStep(self.network, chunk: chunk)
    }

    func connect() -> Bool {
        guard !self.coming.isEmpty else { return false }
        let conversation = self.coming.removeFirst()
        conversation.client = self.network.connect(
            from: Self.clientAddress, to: IPEndpoint(address: Self.clientAddress, port: 15001),
            original: self.targetEndpoint)
        self.conversations.append(conversation)
        return true
    }

    /// Reads the header of a connection that the server has accepted: which one is it?
    func identify() throws -> Bool {
        for (index, socket) in self.unidentified.enumerated() {
            if socket.inbox.count >= Pattern.headerBytes {
                self.unidentified.remove(at: index)
                let id = Int(socket.inbox.bytes.loadUnaligned(as: UInt32.self))
                socket.inbox.drop(Pattern.headerBytes)
                guard let conversation = self.conversations.first(where: { $0.id == id }) else {
                    throw self.wrong("the server was sent a header that nobody wrote: \(id)")
                }
                try conversation.attach(socket)
                return true
            }
            if socket.isBroken || socket.hasSeenFin {
                self.unidentified.remove(at: index)
                guard socket.isBroken || self.conversations.contains(where: \.clientFinished) || socket.inbox.isEmpty
                else { throw self.wrong("a clean end in the middle of a header") }
                self.network.close(socket)
                return true
            }
        }
        return false
    }
}
