internal import Glibc
internal import MeshHTTP
internal import MeshLoop

/// Frames laid out as the TLS records that will carry them, in one of the loop's buffers, each sealed where it lies.
///
///     [header 5][text up to 16 KiB][type 1, tag 16] [header 5][text ...
///      └ sealed records: `start` bytes ┘            └ the open record: `count` bytes of text so far
///
/// SAFETY: every write stays inside the buffer: a record is begun only where a full one has room.
struct RecordBatch {
    private let buffer: UnsafeMutableRawBufferPointer
    private let tls: any SecureSession
    private(set) var start: Int
    private(set) var count = 0
    private(set) var hasFailed = false

    private static let recordBytes = TLSRecord.textBytesMax + TLSRecord.overheadBytes
    /// A frame with less payload than this begins a record of its own rather than fill one up.
    private static let worthwhileBytes = 2 << 10

    init(_ buffer: UnsafeMutableRawBufferPointer, _ tls: any SecureSession) {
        self.buffer = buffer
        self.tls = tls
        self.start = tls.begin(into: buffer)
    }

    /// Nothing at all is in it.
    var isEmpty: Bool { self.start + self.count == 0 }
    /// Whether another record has room behind the open one.
    var hasRoom: Bool { self.start + 2 * Self.recordBytes <= self.buffer.count }
    /// What can still be appended.
    private var textBytesLeft: Int {
        let records = (self.buffer.count - self.start) / Self.recordBytes
        return records * TLSRecord.textBytesMax - self.count
    }

    private var end: UnsafeMutableRawPointer {
        self.buffer.baseAddress! + self.start + TLSRecord.headerBytes + self.count
    }

    /// Seals the open record, if it has text.
    mutating func seal() {
        guard self.count > 0, !self.hasFailed else { return }
        guard self.tls.seal(self.buffer.baseAddress! + self.start, self.count) else {
            return self.hasFailed = true
        }
        self.start += self.count + TLSRecord.overheadBytes
        self.count = 0
    }

    /// Copies as much of `bytes` as there is room for.
    /// - Returns: how much that was.
    mutating func append(_ bytes: UnsafeRawBufferPointer) -> Int {
        let total = min(bytes.count, self.textBytesLeft)
        var at = 0
        while at < total, !self.hasFailed {
            let length = min(total - at, TLSRecord.textBytesMax - self.count)
            memcpy(self.end, bytes.baseAddress! + at, length)
            self.took(length)
            at += length
        }
        return at
    }

    @inline(__always)
    private mutating func took(_ length: Int) {
        self.count += length
        if self.count == TLSRecord.textBytesMax { self.seal() }
    }

    /// Vectors for the payload of DATA frames, one to a record, that together hold up to `window` bytes.
    /// - Returns: how many there are, at least one if there is ``hasRoom``, and their length.
    mutating func payloadVectors(
        _ vectors: UnsafeMutablePointer<iovec>, countMax: Int, window: Int
    ) -> (count: Int, bytes: Int) {
        let header = HTTP2FrameWriter.Bytes.dataHeader
        let left = TLSRecord.textBytesMax - self.count - header
        if left < min(window, Self.worthwhileBytes) { self.seal() }
        var (at, used) = (self.start, self.count)
        var (count, bytes) = (0, 0)
        while bytes < window, count < countMax, at + Self.recordBytes <= self.buffer.count {
            let length = min(TLSRecord.textBytesMax - used - header, window - bytes)
            vectors[count] = iovec(
                iov_base: self.buffer.baseAddress! + at + TLSRecord.headerBytes + used + header, iov_len: length)
            count += 1
            bytes += length
            at += Self.recordBytes
            used = 0
        }
        return (count, bytes)
    }

    /// `bytes` have been read into the vectors just made: puts the frame headers before them.
    mutating func framePayload(_ stream: HTTP2StreamID, _ bytes: Int) {
        let header = HTTP2FrameWriter.Bytes.dataHeader
        var left = bytes
        while left > 0, !self.hasFailed {
            let length = min(left, TLSRecord.textBytesMax - self.count - header)
            _ = HTTP2FrameWriter.writeDataHeader(stream: stream, length: length, endStream: false, at: self.end)
            self.took(header + length)
            left -= length
        }
    }

    /// An empty DATA frame with END_STREAM.
    mutating func appendEnd(_ stream: HTTP2StreamID) {
        let header = HTTP2FrameWriter.Bytes.dataHeader
        if TLSRecord.textBytesMax - self.count < header { self.seal() }
        if self.hasFailed { return }
        _ = HTTP2FrameWriter.writeDataHeader(stream: stream, length: 0, endStream: true, at: self.end)
        self.took(header)
    }
}
