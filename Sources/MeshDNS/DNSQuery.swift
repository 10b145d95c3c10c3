/// What somebody asks, as far as we have to understand it.
package struct DNSQuery: Hashable, Sendable {
    package struct Question: Hashable, Sendable {
        package static let internet: UInt16 = 1
        package var name: DNSName
        package var type: DNSRecordType
        package var questionClass: UInt16 = Self.internet

        package init(_ name: DNSName, _ type: DNSRecordType, class questionClass: UInt16 = Self.internet) {
            self.name = name
            self.type = type
            self.questionClass = questionClass
        }
    }

    /// The extension record (RFC 6891).
    package struct Extension: Hashable, Sendable {
        /// At least 512, whatever was written.
        package var payloadBytes: UInt16
        package var version: UInt8
        /// The client wants DNSSEC records; copied into the answer (RFC 3225).
        package var isDNSSECWanted: Bool

        package init(payloadBytes: UInt16, version: UInt8 = 0, isDNSSECWanted: Bool = false) {
            self.payloadBytes = max(payloadBytes, DNSQuery.datagramBytesMin)
            self.version = version
            self.isDNSSECWanted = isDNSSECWanted
        }
    }

    /// What every client takes over UDP (RFC 1035, 4.2.1).
    package static let datagramBytesMin: UInt16 = 512

    package var header: DNSHeader
    /// The first one; nil when there is none, as in a bare exchange of cookies.
    package var question: Question?
    /// Where the questions end.
    package var questionEnd: Int
    package var edns: Extension?

    /// Why a message gets no further.
    package enum Refusal: Error, Hashable, Sendable {
        /// Not even a header, so nobody to answer; or a response: two servers that answer each other's responses talk
        /// for ever.
        case ignored
        case answered(DNSResponseCode)
    }

    /// Messages of other opcodes than QUERY are looked at no closer than their header and first question: they are not
    /// ours to judge.
    package init(_ bytes: [UInt8]) throws(Refusal) {
        guard let header = DNSHeader(bytes), !header.isResponse else { throw .ignored }
        self.header = header
        var reader = DNSReader(bytes)
        do throws(DNSMalformed) {
            for index in 0..<header.questions {
                let name = try reader.name()
                let question = Question(
                    name, DNSRecordType(rawValue: try reader.take16()), class: try reader.take16())
                if index == 0 { self.question = question }
            }
            self.questionEnd = reader.position
            for _ in 0..<Int(header.answers) + Int(header.authorities) { _ = try reader.record() }
            for _ in 0..<header.additionals {
                let record = try reader.record()
                // A second one is an error (RFC 6891, 6.1.1), but not ours to find.
                if record.type == .opt, self.edns == nil {
                    self.edns = Extension(
                        payloadBytes: record.recordClass, version: UInt8(record.ttl >> 16 & 0xff),
                        isDNSSECWanted: record.ttl & 0x8000 != 0)
                }
            }
        } catch {
            guard header.opcode != 0 else { throw .answered(.formatError) }
            self.questionEnd = DNSReader.headerBytes
        }
    }

    /// Only these are ours: one question of the internet's class for addresses, in the version of EDNS that we speak, its
    /// name written out (a pointer could only lead into the header).
    package var addressQuestion: (name: DNSName, isV6: Bool)? {
        guard self.header.opcode == 0, self.header.questions == 1, let question = self.question,
            question.questionClass == Question.internet, question.type == .a || question.type == .aaaa,
            self.edns?.version ?? 0 == 0,
            self.questionEnd == DNSReader.headerBytes + question.name.wire.count + 1 + 4
        else { return nil }
        return (question.name, question.type == .aaaa)
    }

    /// How long an answer may be.
    package func answerBytesMax(over transport: DNSTransport) -> Int {
        switch transport {
        case .tcp: DNSReader.messageBytesMax
        case .udp: Int(self.edns?.payloadBytes ?? Self.datagramBytesMin)
        }
    }
}
