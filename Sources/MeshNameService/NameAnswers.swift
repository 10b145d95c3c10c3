package import MeshDNS

/// Who decides what a ``DNSServer`` answers, and hears what became of the questions that were passed on. Called on the
/// server's event loop.
package protocol NameAnswers: Sendable {
    func decide(_ bytes: [UInt8], over transport: DNSTransport) -> DNSDecision
    /// A question goes to the resolvers, or is refused because too many wait.
    func forwarding(_ request: DNSForwardRequest)
    /// Its answer is on its way to the client.
    func forwarded(_ request: DNSForwardRequest, seconds: Double)
    func failed(_ request: DNSForwardRequest, _ failure: DNSForwardFailure)
}

/// What becomes of one message of a pod.
package enum DNSDecision: Sendable {
    /// Too short to be answered.
    case ignore
    case reply([UInt8])
    case forward(DNSForwardRequest)
}

/// A message for the resolvers, and what is counted and logged about it.
package struct DNSForwardRequest: Sendable {
    package var bytes: [UInt8]
    package var query: DNSQuery
    package var transport: DNSTransport
    /// Of the metrics.
    package var labels: [String]

    package init(bytes: [UInt8], query: DNSQuery, transport: DNSTransport, labels: [String]) {
        self.bytes = bytes
        self.query = query
        self.transport = transport
        self.labels = labels
    }
}
