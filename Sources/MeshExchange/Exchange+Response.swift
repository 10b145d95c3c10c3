internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes

// The response: from an endpoint, or our own.

extension Exchange: AttemptOwner {
    func attemptConnected(_ attempt: Attempt, _ stream: any UpstreamStream) {
        guard attempt === self.attempt else { return stream.cancel() }
        self.report.ends.upstream = stream.peer.address
        self.report.ends.upstreamIdentity = stream.peer.identity
        self.sendRequest(on: stream)
    }

    func attemptInformed(_ head: ResponseHead) {
        guard !self.responseBegun, self.informed < Self.informationalMax else { return }
        self.informed += 1
        self.client?.inform(head)
    }

    func attemptResponded(_ attempt: Attempt, _ head: ResponseHead, hasBody: Bool) {
        guard attempt === self.attempt, self.phase == .attempting else { return }
        if self.plan?.retry?.codes.contains(head.status) == true {
            self.report.upstreamFailure = "status \(head.status)"
            if self.mayRetry(isUntouched: false, status: head.status) { return self.retry() }
        }
        self.phase = .relaying
        self.backoff = nil
        self.report.responseNanoseconds = self.now &- self.report.startedNanoseconds
        self.report.upstreamNanoseconds = self.now &- attempt.beganNanoseconds
        var head = head
        self.change(&head, attempt)
        self.begin(head, hasBody: hasBody)
        if !hasBody { self.endResponse() }
    }

    func attemptReceived(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool {
        guard let client, !self.responseEnded else { return true }
        self.report.responseBytes += UInt64(bytes.count)
        if self.report.isGRPC { self.report.responseMessages += self.responseMessages.count(bytes) }
        client.send(bytes, isLast: isLast)
        return !client.isFull
    }

    func attemptFinished(_ trailers: HTTP2HeaderList) {
        guard self.phase == .relaying else { return }
        if self.isSwitched {
            // One direction.
            guard !self.responseEnded else { return }
            self.responseEnded = true
            self.client?.finish(trailers)
            if self.requestEnded { self.finish() }
            return
        }
        self.noteGRPC(trailers)
        self.client?.finish(trailers)
        self.endResponse()
    }

    func attemptDrained() { self.client?.wantsMore() }

    func attemptFailed(_ attempt: Attempt, _ trouble: UpstreamTrouble) {
        guard attempt === self.attempt else { return }
        self.failed(trouble)
    }

    // MARK: Our own

    func answer(_ answer: LocalAnswer) {
        guard !self.responseBegun, self.phase != .over else { return }
        self.dropAttempt()
        self.phase = .relaying
        self.report.flags.formUnion(answer.flags)
        if let route = answer.route { self.report.route = route }
        self.report.details = answer.details
        var answer = self.report.isGRPC ? answer.forGRPC() : answer
        let hasBody = !answer.body.isEmpty && self.report.request.method != "HEAD"
        if !answer.body.isEmpty {
            answer.response.fields.append("content-length", String(answer.body.utf8.count))
            if !answer.response.fields.has("content-type") {
                answer.response.fields.append("content-type", "text/plain")
            }
        } else if !self.report.isGRPC, answer.response.status >= 200, answer.response.status != 204 {
            answer.response.fields.append("content-length", "0")
        }
        answer.response.fields.append("date", self.server.date)
        answer.response.fields.append("server", ExchangeServer.name)
        self.begin(answer.response, hasBody: hasBody)
        if hasBody {
            var body = answer.body
            self.report.responseBytes += UInt64(body.utf8.count)
            body.withUTF8 { self.client?.send(UnsafeRawBufferPointer($0), isLast: true) }
            self.client?.finish(HTTP2HeaderList())
        }
        self.endResponse()
    }

    // MARK: Pieces

    private func begin(_ head: ResponseHead, hasBody: Bool) {
        self.responseBegun = true
        self.report.response = head
        self.noteGRPC(head.fields)
        self.client?.respond(head, hasBody: hasBody)
    }

    private func noteGRPC(_ fields: HTTP2HeaderList) {
        guard self.report.isGRPC, let status = fields["grpc-status"] else { return }
        self.report.grpcStatus = UInt32(status)
    }

    private func change(_ head: inout ResponseHead, _ attempt: Attempt) {
        self.plan?.changeResponse?(&head, attempt.endpoint.workload)
        head.fields.replace("server", ExchangeServer.name)
        let milliseconds = (self.now &- attempt.beganNanoseconds) / 1_000_000
        head.fields.append("x-envoy-upstream-service-time", String(milliseconds))
    }

    /// The last byte of the response is on its way. The request may still be coming: nobody waits for it.
    private func endResponse() {
        self.responseEnded = true
        self.finish()
    }
}
