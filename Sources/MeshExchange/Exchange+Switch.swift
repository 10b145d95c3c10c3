internal import MeshHTTP
internal import MeshRoutes

// Another protocol instead of HTTP (101, or 2xx to an extended CONNECT): two directions of octets, each with its own end.
// A reset of either side is a reset of the other.

extension Exchange {
    func attemptSwitchedProtocol(_ head: ResponseHead) {
        guard self.phase == .attempting else { return }
        self.phase = .relaying
        self.isSwitched = true
        self.responseBegun = true
        self.report.responseNanoseconds = self.now &- self.report.startedNanoseconds
        self.report.response = head
        // A connection that serves something else now has no time for its answer.
        self.attemptTimer?.cancel()
        self.client?.switchProtocol(head)
        self.sendSwitched()
    }

    /// The endpoint serves another protocol from now on: what waited for that goes there.
    private func sendSwitched() {
        self.requestTimer?.cancel()
        guard let stream = self.attempt?.stream else { return }
        let kept = self.kept
        self.kept = []
        if !kept.isEmpty { kept.withUnsafeBytes { stream.send($0, isLast: self.requestEnded) } }
        if self.requestEnded {
            stream.finish(HTTP2HeaderList())
        } else if !stream.isFull {
            self.client?.wantsMore()
        }
    }

    /// One of two directions.
    func switchedRequestFinished() {
        self.attempt?.stream?.finish(HTTP2HeaderList())
        if self.responseEnded { self.finish() }
    }
}
