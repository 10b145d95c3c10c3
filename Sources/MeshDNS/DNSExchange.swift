/// One message on its way to a resolver: the client's bytes with an id that nobody can guess.
///
/// The client's own id may be predictable; a signature of the message (TSIG, RFC 8945) covers the original one and
/// survives the change, as it is meant to.
package struct DNSExchange: Sendable {
    /// What is sent.
    package let bytes: [UInt8]
    private let query: DNSQuery
    private let id: UInt16

    /// - Parameter query: of the bytes.
    package init(_ bytes: [UInt8], _ query: DNSQuery, id: UInt16) {
        self.bytes = Self.with(id, bytes)
        self.query = query
        self.id = id
    }

    /// Only a question may be sent twice: an update that was lost on the way back would be made again.
    package var isRepeatable: Bool { self.query.header.opcode == 0 && !self.isTransfer }
    /// The answer is a sequence of messages.
    package var isTransfer: Bool { self.query.header.opcode == 0 && self.query.question?.type.isTransfer == true }

    /// Whether a message that came from the resolver's address answers ours. Everything else is not ours, or forged.
    /// - Parameter isFirst: later messages of a transfer may leave the question out.
    package func isAnswered(by response: [UInt8], isFirst: Bool = true) -> Bool {
        guard let header = DNSHeader(response), header.isResponse, header.id == self.id,
            header.opcode == self.query.header.opcode
        else { return false }
        if header.questions == 0 {
            // Refusals and answers to updates may (RFC 2136, 3.8).
            return !isFirst || header.opcode != 0 || header.code != .noError || self.query.header.questions == 0
        }
        guard let asked = self.query.question, header.questions == self.query.header.questions else { return false }
        var reader = DNSReader(response)
        do throws(DNSMalformed) {
            let name = try reader.name()
            let type = try reader.take16()
            let questionClass = try reader.take16()
            return name == asked.name && type == asked.type.rawValue && questionClass == asked.questionClass
        } catch {
            return false
        }
    }

    /// The resolver's answer as the client is to see it.
    package func restored(_ response: [UInt8]) -> [UInt8] { Self.with(self.query.header.id, response) }

    private static func with(_ id: UInt16, _ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        bytes[0] = UInt8(id >> 8)
        bytes[1] = UInt8(id & 0xff)
        return bytes
    }
}
