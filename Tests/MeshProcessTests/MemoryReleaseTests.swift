import MeshProcess
import Synchronization
import Testing

@Suite("Memory after the start and after large updates")
struct MemoryReleaseTests {
    /// Waits for the next time that memory is given back.
    private static func released(_ ask: (MemoryRelease) -> Void) async {
        let (times, time) = AsyncStream.makeStream(of: Void.self)
        let memory = MemoryRelease(quiet: .zero) { time.yield() }
        ask(memory)
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await memory.run() }
            for await _ in times { break }
            tasks.cancelAll()
        }
    }

    @Test("is given back when asked, and after an update that brought much")
    func released() async {
        await Self.released { $0.ask() }
        await Self.released { $0.ask(after: MemoryRelease.resourcesMin) }
    }

    @Test("requests of one moment count as one, small updates as none")
    func coalesced() async {
        let count = Mutex(0)
        let (times, time) = AsyncStream.makeStream(of: Int.self)
        let memory = MemoryRelease(quiet: .zero) {
            time.yield(
                count.withLock { count in
                    count += 1
                    return count
                })
        }
        memory.ask(after: MemoryRelease.resourcesMin - 1)
        for _ in 0..<10 { memory.ask() }
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await memory.run() }
            var seen = times.makeAsyncIterator()
            #expect(await seen.next() == 1)
            memory.ask()
            #expect(await seen.next() == 2)
            tasks.cancelAll()
        }
    }
}
