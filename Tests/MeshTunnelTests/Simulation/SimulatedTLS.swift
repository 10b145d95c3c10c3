import Glibc
import MeshIdentity
import MeshLoop
import MeshTunnel

/// What TLS promises, without its randomness: both ends know each other's identity, records arrive whole, in order
/// and once, and a record that does not is a failure.
final class SimulatedSession: SecureSession {
    private enum Record: UInt8 { case hello = 1, data, closeNotify, alert }

    private enum Stage { case clientStart, clientWaits, serverStart, serverWaits, done }

    /// type, sequence number (16 bits), length (16 bits).
    private static let headerBytes = TLSRecord.headerBytes

    private let identity: WorkloadIdentity
    private var stage: Stage
    private let received = ByteQueue()
    private var sentRecords: UInt16 = 0
    private var receivedRecords: UInt16 = 0
    private var peer: [String] = []
    private(set) var errorText = ""

    init(_ identity: WorkloadIdentity, isServer: Bool) {
        self.identity = identity
        self.stage = isServer ? .serverStart : .clientStart
    }

    func feed(_ bytes: UnsafeRawBufferPointer) {
        if let base = bytes.baseAddress { self.received.append(base, bytes.count) }
    }

    private func putHeader(_ type: Record, _ length: Int, at target: UnsafeMutableRawPointer) -> Int {
        self.sentRecords &+= 1
        target.storeBytes(of: type.rawValue, as: UInt8.self)
        target.storeBytes(of: self.sentRecords, toByteOffset: 1, as: UInt16.self)
        target.storeBytes(of: UInt16(length), toByteOffset: 3, as: UInt16.self)
        return Self.headerBytes + length
    }

    private func put(_ type: Record, _ bytes: UnsafeRawBufferPointer, at target: UnsafeMutableRawPointer) -> Int {
        if let base = bytes.baseAddress { memcpy(target + Self.headerBytes, base, bytes.count) }
        return self.putHeader(type, bytes.count, at: target)
    }

    /// The first record's payload length; nil until it is whole.
    private func first(_ bytes: UnsafeRawBufferPointer) throws(Failure) -> (type: Record, length: Int)? {
        guard bytes.count >= Self.headerBytes else { return nil }
        let length = Int(bytes.loadUnaligned(fromByteOffset: 3, as: UInt16.self))
        guard let type = Record(rawValue: bytes[0]) else { throw Failure(text: "no such record type") }
        // Data records are as long as real ones.
        let overhead = type == .data ? TLSRecord.overheadBytes : Self.headerBytes
        guard bytes.count >= length + overhead else { return nil }
        self.receivedRecords &+= 1
        guard bytes.loadUnaligned(fromByteOffset: 1, as: UInt16.self) == self.receivedRecords else {
            throw Failure(text: "records are missing or out of order")
        }
        return (type, length)
    }

    /// The next whole record's payload length; nil until there is one.
    private func next() throws(Failure) -> (type: Record, length: Int)? {
        let record = try self.first(self.received.bytes)
        if record != nil { self.received.drop(Self.headerBytes) }
        return record
    }

    struct Failure: Error { var text: String }

    func handshake(into out: UnsafeMutableRawBufferPointer) -> (TLSSession.Progress, Int) {
        var written = 0
        func sayHello() {
            var uri = self.identity.description
            written += uri.withUTF8 { self.put(.hello, UnsafeRawBufferPointer($0), at: out.baseAddress! + written) }
        }
        do throws(Failure) {
            if self.stage == .clientStart {
                // The peer learns who we are only from the last message, as in TLS 1.3.
                written += self.put(.hello, UnsafeRawBufferPointer(start: nil, count: 0), at: out.baseAddress!)
                self.stage = .clientWaits
            }
            while self.stage != .done, let (type, length) = try self.next() {
                guard type == .hello else { throw Failure(text: "an alert came instead of the handshake") }
                if length > 0 {
                    self.peer = [
                        String(
                            decoding: UnsafeRawBufferPointer(rebasing: self.received.bytes[..<length]), as: UTF8.self)
                    ]
                    self.received.drop(length)
                }
                switch self.stage {
                case .clientWaits:
                    sayHello()
                    self.stage = .done
                case .serverStart:
                    sayHello()
                    self.stage = .serverWaits
                case .serverWaits: self.stage = .done
                case .clientStart, .done: preconditionFailure()
                }
            }
        } catch {
            self.errorText = error.text
            return (.failed, written)
        }
        return (self.stage == .done ? .done : .wantsMore, written)
    }

    private(set) var unusedBytes = 0

    func settle() -> Bool {
        self.peer = []
        self.unusedBytes = self.received.count
        self.received.removeAll()
        return true
    }

    func open(_ bytes: UnsafeMutableRawBufferPointer) -> TLSRecord.Opened {
        do throws(Failure) {
            guard let (type, length) = try self.first(UnsafeRawBufferPointer(bytes)) else { return .wantsMore }
            switch type {
            case .data: return .data(bytes: length + TLSRecord.overheadBytes, text: length)
            case .closeNotify: return .closed
            case .alert: throw Failure(text: "the peer sent an alert")
            case .hello: throw Failure(text: "a handshake record after the handshake")
            }
        } catch {
            self.errorText = error.text
            return .failed
        }
    }

    func seal(_ record: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        _ = self.putHeader(.data, count, at: record)
        return true
    }

    func begin(into out: UnsafeMutableRawBufferPointer) -> Int { 0 }

    func closeNotify(into out: UnsafeMutableRawBufferPointer) -> Int {
        self.put(.closeNotify, UnsafeRawBufferPointer(start: nil, count: 0), at: out.baseAddress!)
    }

    func alert(_ code: UInt8, into out: UnsafeMutableRawBufferPointer) -> Int {
        self.put(.alert, UnsafeRawBufferPointer(start: nil, count: 0), at: out.baseAddress!)
    }

    func peerURIs() -> [String] { self.peer }
}

final class SimulatedContexts: IdentityContexts {
    private let identity: WorkloadIdentity
    init(_ identity: WorkloadIdentity) { self.identity = identity }
    func session(isServer: Bool) -> (any SecureSession)? { SimulatedSession(self.identity, isServer: isServer) }
}
