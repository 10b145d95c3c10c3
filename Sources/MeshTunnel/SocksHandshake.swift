package import MeshModel

/// The server's side of a SOCKS5 conversation up to the answer to CONNECT (RFC 1928): no authentication, CONNECT only.
/// No I/O.
///
///     methods ─no authentication─▶ request ─address or name─▶ connect
///     any of them ─anything else─▶ refuse
///
/// Never asks for a byte beyond the request, so what follows it is the application's.
package struct SocksHandshake {
    package enum Target: Hashable, Sendable {
        case address(IPEndpoint)
        /// As the client wrote it; visible ASCII.
        case host(String, port: UInt16)
    }

    package enum Step: Hashable, Sendable {
        case readOn
        /// Send this, then read on.
        case answer([UInt8])
        case connect(Target)
        /// Send this, if it is not empty, then close.
        case refuse(answer: [UInt8], reason: String)
    }

    /// RFC 1928, section 6.
    package enum Reply: UInt8, Sendable {
        case succeeded = 0, generalFailure, notAllowed, networkUnreachable, hostUnreachable, refused, expired
        case commandNotSupported, addressTypeNotSupported

        /// The bound address is 0.0.0.0:0: it is nobody's business which one it is.
        package var bytes: [UInt8] { [5, self.rawValue, 0, 1, 0, 0, 0, 0, 0, 0] }
    }

    private enum Part {
        /// Version and number of methods.
        case greeting
        case methods
        /// Version, command, reserved, address type and the first byte of the address.
        case head
        case rest
        case over
    }

    private var part = Part.greeting
    private var bytes: [UInt8] = []
    /// Of the part: how many bytes it has.
    private var partBytes = 2

    package init() {}

    /// How many bytes may be read for now; 0 when the conversation is over. At most 258.
    package var wanted: Int { self.part == .over ? 0 : self.partBytes - self.bytes.count }

    /// - Parameter received: at most ``wanted`` bytes.
    package mutating func receive(_ received: some Collection<UInt8>) -> Step {
        precondition(received.count <= self.wanted, "read past the request")
        self.bytes += received
        guard self.part != .over, self.bytes.count == self.partBytes else { return .readOn }
        switch self.part {
        case .greeting: return self.greeted()
        case .methods: return self.chosen()
        case .head: return self.asked()
        case .rest: return self.named()
        case .over: return .readOn
        }
    }

    private mutating func next(_ part: Part, bytes: Int) -> Step {
        self.part = part
        self.partBytes = bytes
        return .readOn
    }

    private mutating func refuse(_ answer: [UInt8], _ reason: String) -> Step {
        self.part = .over
        return .refuse(answer: answer, reason: reason)
    }

    private mutating func greeted() -> Step {
        guard self.bytes[0] == 5 else { return self.refuse([], "version \(self.bytes[0]) instead of 5") }
        // Without a method there is none to agree on.
        if self.bytes[1] == 0 { return self.refuse([5, 0xFF], "no authentication method offered") }
        return self.next(.methods, bytes: 2 + Int(self.bytes[1]))
    }

    private mutating func chosen() -> Step {
        guard self.bytes[2...].contains(0) else {
            return self.refuse([5, 0xFF], "the client wants to authenticate, which nobody can here")
        }
        self.bytes = []
        _ = self.next(.head, bytes: 5)
        return .answer([5, 0])
    }

    private mutating func asked() -> Step {
        guard self.bytes[0] == 5 else {
            return self.refuse(Reply.generalFailure.bytes, "version \(self.bytes[0]) instead of 5")
        }
        guard self.bytes[1] == 1 else {
            return self.refuse(Reply.commandNotSupported.bytes, "command \(self.bytes[1]) instead of CONNECT")
        }
        switch self.bytes[3] {
        case 1: return self.next(.rest, bytes: 4 + 4 + 2)
        case 4: return self.next(.rest, bytes: 4 + 16 + 2)
        case 3 where self.bytes[4] > 0: return self.next(.rest, bytes: 4 + 1 + Int(self.bytes[4]) + 2)
        case 3: return self.refuse(Reply.generalFailure.bytes, "an empty host name")
        default:
            return self.refuse(Reply.addressTypeNotSupported.bytes, "address type \(self.bytes[3])")
        }
    }

    private mutating func named() -> Step {
        let address = self.bytes[4..<(self.bytes.count - 2)]
        let port = UInt16(self.bytes[self.bytes.count - 2]) << 8 | UInt16(self.bytes[self.bytes.count - 1])
        guard port != 0 else { return self.refuse(Reply.generalFailure.bytes, "port 0") }
        if self.bytes[3] != 3 {
            guard let address = IPAddress(bytes: address) else {
                return self.refuse(Reply.generalFailure.bytes, "an address of \(address.count) bytes")
            }
            self.part = .over
            return .connect(.address(IPEndpoint(address: address, port: port)))
        }
        let host = address.dropFirst()
        guard host.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            return self.refuse(Reply.generalFailure.bytes, "a host name that is not visible ASCII")
        }
        self.part = .over
        let text = String(decoding: host, as: UTF8.self)
        if let literal = IPAddress(text) { return .connect(.address(IPEndpoint(address: literal, port: port))) }
        return .connect(.host(text, port: port))
    }
}
