internal import MeshLinux

/// Gives memory back once what needed it is over: the start, or an update that brought much of the mesh.
package final class MemoryRelease: Sendable {
    /// After the last request, so that whatever made it has let go of its memory.
    package static let quiet = Duration.seconds(1)
    /// Smaller updates leave nothing behind that is worth a walk through the heap.
    package static let resourcesMin = 1000

    private let requests: AsyncStream<Void>
    private let request: AsyncStream<Void>.Continuation
    private let quiet: Duration
    private let giveBack: @Sendable () -> Void

    package init(
        quiet: Duration = MemoryRelease.quiet, giveBack: @escaping @Sendable () -> Void = { ProcessMemory.giveBack() }
    ) {
        (self.requests, self.request) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.quiet = quiet
        self.giveBack = giveBack
    }

    /// Soon; any number of requests until then count as one.
    package func ask() { self.request.yield() }

    package func ask(after update: Int) { if update >= Self.resourcesMin { self.ask() } }

    /// Until cancelled. To be called once.
    package func run() async {
        for await _ in self.requests {
            try? await Task.sleep(for: self.quiet)
            if Task.isCancelled { return }
            self.giveBack()
        }
    }
}
