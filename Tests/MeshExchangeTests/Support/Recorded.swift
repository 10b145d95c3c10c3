import MeshExchange
import Synchronization

/// A list that threads of a test fill, and that a test can wait for.
final class Log<Element: Sendable>: Sendable {
    private struct Waiter {
        let number: Int
        let condition: @Sendable ([Element]) -> Bool
        let continuation: CheckedContinuation<[Element], Never>
    }
    private struct State {
        var elements: [Element] = []
        var waiters: [Waiter] = []
        var lastNumber = 0
    }
    private let state = Mutex(State())

    var all: [Element] { self.state.withLock { $0.elements } }
    var count: Int { self.state.withLock { $0.elements.count } }

    func add(_ element: Element) {
        let (elements, done) = self.state.withLock { state in
            state.elements.append(element)
            let elements = state.elements
            let done = state.waiters.filter { $0.condition(elements) }
            state.waiters.removeAll { $0.condition(elements) }
            return (elements, done)
        }
        for waiter in done { waiter.continuation.resume(returning: elements) }
    }

    /// As soon as `condition` holds; when the test's time is over, the list as it is.
    @discardableResult
    func wait(_ condition: @escaping @Sendable ([Element]) -> Bool) async -> [Element] {
        let number = self.state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let elements: [Element]? = self.state.withLock { state in
                    if condition(state.elements) || Task.isCancelled { return state.elements }
                    state.waiters.append(Waiter(number: number, condition: condition, continuation: continuation))
                    return nil
                }
                if let elements { continuation.resume(returning: elements) }
            }
        } onCancel: {
            let (elements, waiter) = self.state.withLock { state in
                let index = state.waiters.firstIndex { $0.number == number }
                return (state.elements, index.map { state.waiters.remove(at: $0) })
            }
            waiter?.continuation.resume(returning: elements)
        }
    }

    @discardableResult
    func wait(count: Int) async -> [Element] { await self.wait { $0.count >= count } }
}

/// What a waypoint tells of exchanges and streams.
final class RecordedExchanges: ExchangeObserver {
    struct Stream: Sendable {
        var report: StreamReport
        var end: StreamReport.End
    }

    let reports = Log<ExchangeReport>()
    let opened = Log<StreamReport>()
    let closed = Log<Stream>()
    /// Of streams: towards the client, from it.
    let moved = Log<(sent: UInt64, received: UInt64)>()

    func finished(_ report: borrowing ExchangeReport) { self.reports.add(copy report) }
    func opened(_ stream: borrowing StreamReport) { self.opened.add(copy stream) }
    func moved(_ stream: borrowing StreamReport, sent: UInt64, received: UInt64) { self.moved.add((sent, received)) }
    func closed(_ stream: borrowing StreamReport, _ end: borrowing StreamReport.End) {
        self.closed.add(Stream(report: copy stream, end: copy end))
    }
}
