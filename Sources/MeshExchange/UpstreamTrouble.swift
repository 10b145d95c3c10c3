/// Why an endpoint did not answer, or not to the end.
struct UpstreamTrouble: Error {
    enum Kind {
        /// The endpoint's name leads to no address.
        case unresolved
        case connect, ended, reset, refused, protocolError, overflow
        /// The endpoint has said that it takes no such head: it is not asked.
        case headTooLarge
    }
    var kind: Kind
    var text: String
    /// The endpoint has not looked at the request: asking again cannot do anything twice.
    var isUntouched: Bool

    init(_ kind: Kind, _ text: String, isUntouched: Bool) {
        self.kind = kind
        self.text = text
        self.isUntouched = isUntouched
    }

    /// In the access log, also when the response had begun.
    var flag: ExchangeFlags {
        switch self.kind {
        case .unresolved: .noHealthyUpstream
        case .connect: .upstreamConnectionFailure
        case .ended: .upstreamConnectionEnd
        case .reset, .refused: .upstreamReset
        case .protocolError: .upstreamProtocolError
        case .overflow: .upstreamOverflow
        // Nobody has failed.
        case .headTooLarge: []
        }
    }

    /// When there is no other attempt. The words of 502 and 503 are Envoy's, which people search for.
    var answer: LocalAnswer {
        let (status, reason): (Int, String)
        switch self.kind {
        case .unresolved:
            return LocalAnswer(503, "no healthy upstream", flags: self.flag, details: "no_healthy_upstream")
        case .connect: (status, reason) = (503, "connection failure")
        case .protocolError: (status, reason) = (502, "protocol error")
        case .overflow: (status, reason) = (503, "overflow")
        case .ended, .reset, .refused: (status, reason) = (503, "connection termination")
        case .headTooLarge:
            return LocalAnswer(
                431, "the request's head is larger than its endpoint takes\n",
                details: "request_headers_exceed_endpoint_limit")
        }
        return LocalAnswer(
            status, "upstream connect error or disconnect/reset before headers. reset reason: \(reason)",
            flags: self.flag, details: "upstream_reset_before_response_started")
    }
}
