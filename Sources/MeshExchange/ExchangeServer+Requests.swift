internal import MeshHTTP
internal import MeshModel
internal import MeshRoutes
internal import MeshTunnel

// From a head that was understood to its exchange, and what is said of one that was not.

extension ExchangeServer {
    func exchange(
        for stream: any ClientStream, of client: ServedClient, _ head: RequestHead,
        _ version: ExchangeReport.Version, hasBody: Bool, upgrade: String?
    ) -> Exchange {
        let isGRPC = head.fields["content-type"].map { $0.hasPrefix("application/grpc") } ?? false
        let origin = self.origin(client, isGRPC: isGRPC)
        var head = head
        if !head.fields.has("x-request-id") { head.fields.append("x-request-id", self.requestID()) }
        if !head.fields.has("x-forwarded-proto") { head.fields.append("x-forwarded-proto", head.scheme) }
        if let upgrade { head.fields.append("upgrade", upgrade) }
        let report = ExchangeReport(
            ends: self.ends(client), request: head, version: version, isGRPC: isGRPC,
            startedNanoseconds: self.loop.now)
        return Exchange(
            server: self, client: stream, origin: origin, report: report, hasBody: hasBody,
            asksForSwitch: upgrade != nil)
    }

    func origin(_ client: ServedClient, isGRPC: Bool) -> RequestOrigin {
        RequestOrigin(
            client: client.source, identity: client.identity, local: client.target.local, isGRPC: isGRPC,
            now: self.loop.now, time: self.seconds, random: self.book.random(), memory: self.memory)
    }

    func ends(_ client: ServedClient) -> ExchangeEnds {
        var ends: ExchangeEnds
        switch client.target.what {
        case .service(let key, let port):
            ends = ExchangeEnds(client: client.source, clientIdentity: client.identity, port: port)
            ends.service = key
        case .workload(let uid, let port):
            ends = ExchangeEnds(client: client.source, clientIdentity: client.identity, port: port)
            ends.endpoint = uid
        }
        ends.local = client.target.local
        return ends
    }

    /// A request that could not be understood: there is no exchange to report.
    func refused(
        _ client: ServedClient, _ reason: String, _ version: ExchangeReport.Version = .http11, status: Int = 400,
        _ flags: ExchangeFlags = .clientProtocolError
    ) {
        var report = ExchangeReport(
            ends: self.ends(client),
            request: RequestHead(method: "-", scheme: "http", authority: "-", path: "-", fields: HTTP2HeaderList()),
            version: version, isGRPC: false, startedNanoseconds: self.loop.now)
        report.flags = flags
        report.details = reason
        report.response = ResponseHead(status: status)
        self.observer.finished(report)
    }

    /// A random UUID (version 4).
    private func requestID() -> String {
        let high = self.book.random() & ~0xF000 | 0x4000
        let low = self.book.random() & ~(3 << 62) | 1 << 63
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: digits - text.utf8.count) + text
        }
        return
            "\(hex(high >> 32, 8))-\(hex(high >> 16 & 0xFFFF, 4))-\(hex(high & 0xFFFF, 4))-"
            + "\(hex(low >> 48, 4))-\(hex(low & 0xFFFF_FFFF_FFFF, 12))"
    }
}
