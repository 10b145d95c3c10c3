package import GRPCCore

extension GRPCServer {
    /// Ends a server that `serving` runs: its clients are told to go, and it ends when they have.
    ///
    /// Never cancel such a task instead. A stream that a client opens at that moment is taken by nobody, and NIO ends a process
    /// that drops one (`NIOAsyncWriter`, "deinited without calling finish").
    ///
    /// - Parameter limit: for clients that do not go. What they have open is then cut.
    package func end<Failure: Error>(
        _ serving: Task<Void, Failure>, within limit: Duration = .seconds(10)
    ) async {
        self.beginGracefulShutdown()
        let deadline = Task<Void, Never> {
            guard (try? await Task<Never, Never>.sleep(for: limit)) != nil else { return }
            serving.cancel()
        }
        _ = await serving.result
        deadline.cancel()
    }
}
