public import MeshLoop

/// A settled TLS session driven with arrays.
public struct SessionBytes {
    public struct Broken: Error, CustomStringConvertible { public var description: String }

    public let session: any SecureSession
    /// Ciphertext whose record is not complete.
    public private(set) var rest: [UInt8] = []

    public init(_ session: any SecureSession) { self.session = session }

    /// `bytes` as records: one up to 16 KiB.
    public func seal(_ bytes: [UInt8]) throws -> [UInt8] {
        var sealed = [UInt8](repeating: 0, count: 64)
        sealed.removeLast(64 - sealed.withUnsafeMutableBytes { self.session.begin(into: $0) })
        for start in stride(from: 0, to: bytes.count, by: TLSRecord.textBytesMax) {
            let text = bytes[start..<min(bytes.count, start + TLSRecord.textBytesMax)]
            var record = [UInt8](repeating: 0, count: TLSRecord.headerBytes) + text
            record += [UInt8](repeating: 0, count: TLSRecord.overheadBytes - TLSRecord.headerBytes)
            guard record.withUnsafeMutableBytes({ self.session.seal($0.baseAddress!, text.count) }) else {
                throw Broken(description: self.session.errorText)
            }
            sealed += record
        }
        return sealed
    }

    /// The text of every record that `bytes` completes.
    public mutating func open(_ bytes: [UInt8]) throws -> (text: [UInt8], isClosed: Bool) {
        self.rest += bytes
        var text: [UInt8] = []
        while true {
            let result = self.rest.withUnsafeMutableBytes { self.session.open($0) }
            switch result {
            case .data(let bytes, let count):
                text += self.rest[TLSRecord.headerBytes..<(TLSRecord.headerBytes + count)]
                self.rest.removeFirst(bytes)
            case .nothing(let bytes): self.rest.removeFirst(bytes)
            case .wantsMore: return (text, false)
            case .closed: return (text, true)
            case .failed: throw Broken(description: self.session.errorText)
            }
        }
    }
}
