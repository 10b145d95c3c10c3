internal import MeshLoop

/// Who cannot be served before the mesh knows more, or before a name has been looked up.
protocol MeshWaiter: AnyObject {
    var pod: EnrolledPod { get }
    /// The view changed: ask again. Who has got what it waited for leaves the room.
    func meshChanged()
    /// The wait is over without success; the place in the room is gone already.
    func gaveUp(_ end: WaitingRoom.End)
}

/// One loop's waiters: asked again whenever the mesh changes, sent away at their deadline.
final class WaitingRoom {
    /// Connections that wait on one loop. Each holds one or two descriptors and is looked at with every change.
    static let waitersMax = 1024

    enum End {
        case tooLong
        /// The pod leaves or the process ends.
        case ending(TunnelError)
    }

    typealias Ticket = UInt64

    private struct Place {
        var waiter: any MeshWaiter
        var deadline: UInt64
    }

    private let loop: EventLoop
    private var places: [Ticket: Place] = [:]
    private var lastTicket: Ticket = 0
    private var timer: LoopTimer?

    init(loop: EventLoop) { self.loop = loop }

    var isEmpty: Bool { self.places.isEmpty }

    /// - Returns: nil when the room is full.
    func enter(_ waiter: any MeshWaiter, for limit: Duration) -> Ticket? {
        guard self.places.count < Self.waitersMax else { return nil }
        self.lastTicket += 1
        self.places[self.lastTicket] = Place(waiter: waiter, deadline: self.loop.now &+ limit.loopNanoseconds)
        if self.timer?.isArmed != true { self.arm(after: limit) }
        return self.lastTicket
    }

    func leave(_ ticket: Ticket) { self.places[ticket] = nil }

    /// In the order of arrival.
    func meshChanged() {
        for ticket in self.places.keys.sorted() { self.places[ticket]?.waiter.meshChanged() }
    }

    /// Sends away the waiters of one pod, or all.
    func end(podUID: String? = nil, _ error: TunnelError) {
        self.sendAway(.ending(error)) { podUID == nil || $0.waiter.pod.uid == podUID }
    }

    private func sendAway(_ end: End, where test: (Place) -> Bool) {
        for ticket in self.places.keys.sorted() {
            guard let place = self.places[ticket], test(place) else { continue }
            self.places[ticket] = nil
            place.waiter.gaveUp(end)
        }
    }

    private func arm(after delay: Duration) {
        let timer = self.timer ?? LoopTimer(loop: self.loop) { [unowned self] in self.tick() }
        self.timer = timer
        timer.arm(after: delay)
    }

    private func tick() {
        let now = self.loop.now
        self.sendAway(.tooLong) { $0.deadline <= now }
        guard let next = self.places.values.map(\.deadline).min() else { return }
        self.arm(after: .nanoseconds(Int64(clamping: next &- now)))
    }

    func stop() { self.timer?.cancel() }
}
