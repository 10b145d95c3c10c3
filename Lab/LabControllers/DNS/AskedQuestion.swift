package import MeshDNS

/// What a client of the cluster's name server asks.
package struct AskedQuestion: Sendable {
    /// Why a message is no question that we answer.
    package enum Fault: Error, Hashable, Sendable {
        /// Not even a header, or a response: two servers that answer each other's responses talk for ever.
        case ignored
        case answered([UInt8])
    }

    package let query: DNSQuery
    package let question: DNSQuery.Question
    private let bytesMax: Int

    package init(_ bytes: [UInt8], isDatagram: Bool) throws(Fault) {
        func refusal(_ code: DNSResponseCode) -> Fault {
            DNSWriter.refusal(of: bytes, code).map { .answered($0) } ?? .ignored
        }
        guard let header = DNSHeader(bytes), !header.isResponse else { throw .ignored }
        guard header.opcode == 0 else { throw refusal(.notImplemented) }
        guard header.questions == 1, let query = try? DNSQuery(bytes), let question = query.question else {
            throw refusal(.formatError)
        }
        // 255 is any class (RFC 1035, 3.2.5).
        guard [DNSQuery.Question.internet, 255].contains(question.questionClass) else { throw refusal(.refused) }
        self.query = query
        self.question = question
        let payload = min(query.edns?.payloadBytes ?? DNSQuery.datagramBytesMin, DNSResponseWriter.payloadBytes)
        self.bytesMax = isDatagram ? Int(payload) : DNSReader.messageBytesMax
    }

    package func answered(_ response: DNSResponse) -> [UInt8] {
        DNSResponseWriter.response(response, to: self.query, self.question, bytesMax: self.bytesMax)
    }

    /// Somebody else's answer to the same question.
    package func answered(as response: [UInt8]) -> [UInt8] {
        guard response.count >= 2 else { return self.answered(DNSResponse(.serverFailure, isAuthoritative: false)) }
        var response = response
        (response[0], response[1]) = (UInt8(self.query.header.id >> 8), UInt8(self.query.header.id & 0xff))
        return DNSTruncation.fitted(response, bytesMax: self.bytesMax)
    }
}
