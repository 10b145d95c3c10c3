/// One parameter of a SETTINGS frame (RFC 9113 section 6.5.1).
package struct HTTP2Setting: Hashable, Sendable, CustomStringConvertible {
    package struct ID: RawRepresentable, Hashable, Sendable {
        package let rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        package static let headerTableSize = Self(rawValue: 1)
        package static let enablePush = Self(rawValue: 2)
        package static let maxConcurrentStreams = Self(rawValue: 3)
        package static let initialWindowSize = Self(rawValue: 4)
        package static let maxFrameSize = Self(rawValue: 5)
        package static let maxHeaderListSize = Self(rawValue: 6)
        /// RFC 8441: extended CONNECT.
        package static let enableConnectProtocol = Self(rawValue: 8)
    }

    package let id: ID
    package let value: UInt32

    package init(_ id: ID, _ value: UInt32) {
        self.id = id
        self.value = value
    }

    package var description: String {
        let name =
            switch self.id {
            case .headerTableSize: "HEADER_TABLE_SIZE"
            case .enablePush: "ENABLE_PUSH"
            case .maxConcurrentStreams: "MAX_CONCURRENT_STREAMS"
            case .initialWindowSize: "INITIAL_WINDOW_SIZE"
            case .maxFrameSize: "MAX_FRAME_SIZE"
            case .maxHeaderListSize: "MAX_HEADER_LIST_SIZE"
            case .enableConnectProtocol: "ENABLE_CONNECT_PROTOCOL"
            default: "setting \(self.id.rawValue)"
            }
        return "\(name)=\(self.value)"
    }
}

/// The parameters one side of a connection has announced, starting with what RFC 9113 assumes before it has.
package struct HTTP2Settings: Hashable, Sendable {
    package static let frameBytesMin = 16_384
    package static let windowBytesMax = 0x7fff_ffff

    /// The largest dynamic table its owner's *decoder* will keep.
    package var headerTableBytes = 4_096
    package var enablePush = true
    /// nil: no limit was announced.
    package var maxConcurrentStreams: Int?
    package var initialWindowBytes = 65_535
    package var frameBytesMax = frameBytesMin
    /// Uncompressed, 32 added for each field; nil: no limit was announced.
    package var headerListBytesMax: Int?
    package var enableConnectProtocol = false

    package init() {}

    /// What changed for streams that are already open.
    package struct Change: Hashable, Sendable {
        /// To be added to the send window of every open stream; may be negative.
        package var initialWindowDelta = 0
        /// To be told to ``HPACKEncoder/peerTableBytesMaxChanged(to:)`` when not nil. The smallest and the last value
        /// of the frame both matter (RFC 7541 section 4.2).
        package var headerTableBytes: (smallest: Int, last: Int)? {
            self.smallestTableBytes.map { ($0, self.lastTableBytes) }
        }
        fileprivate var smallestTableBytes: Int?
        fileprivate var lastTableBytes = 0
    }

    /// Applies a SETTINGS frame in order. Unknown parameters are ignored, as they must be.
    ///
    /// - Parameter sender: who sent the frame; only a client may announce ENABLE_PUSH=1.
    /// - Throws: `badSetting`; then nothing was applied.
    package mutating func apply(
        _ settings: [HTTP2Setting], from sender: HTTP2FrameReader.Role
    ) throws(HTTP2ConnectionError) -> Change {
        var next = self
        var change = Change()
        for setting in settings {
            let value = Int(setting.value)
            switch setting.id {
            case .headerTableSize:
                next.headerTableBytes = value
                change.smallestTableBytes = min(change.smallestTableBytes ?? value, value)
                change.lastTableBytes = value
            case .enablePush:
                guard value <= (sender == .client ? 1 : 0) else { throw .badSetting(setting) }
                next.enablePush = value == 1
            case .maxConcurrentStreams: next.maxConcurrentStreams = value
            case .initialWindowSize:
                guard value <= Self.windowBytesMax else { throw .badSetting(setting) }
                next.initialWindowBytes = value
            case .maxFrameSize:
                guard value >= Self.frameBytesMin, value <= HTTP2FrameHeader.lengthMax else {
                    throw .badSetting(setting)
                }
                next.frameBytesMax = value
            case .maxHeaderListSize: next.headerListBytesMax = value
            case .enableConnectProtocol:
                // RFC 8441 section 3: a promise that cannot be taken back.
                guard value <= 1, value == 1 || !next.enableConnectProtocol else { throw .badSetting(setting) }
                next.enableConnectProtocol = value == 1
            default: break
            }
        }
        change.initialWindowDelta = next.initialWindowBytes - self.initialWindowBytes
        self = next
        return change
    }

    /// The parameters to send: those that differ from the assumed ones.
    ///
    /// - Parameter sender: a server says nothing about ENABLE_PUSH, a client of ours always refuses it.
    package func announcement(from sender: HTTP2FrameReader.Role) -> [HTTP2Setting] {
        let assumed = HTTP2Settings()
        var settings: [HTTP2Setting] = []
        func add(_ id: HTTP2Setting.ID, _ value: Int) { settings.append(HTTP2Setting(id, UInt32(clamping: value))) }
        if self.headerTableBytes != assumed.headerTableBytes { add(.headerTableSize, self.headerTableBytes) }
        if sender == .client { add(.enablePush, self.enablePush ? 1 : 0) }
        if let streams = self.maxConcurrentStreams { add(.maxConcurrentStreams, streams) }
        if self.initialWindowBytes != assumed.initialWindowBytes { add(.initialWindowSize, self.initialWindowBytes) }
        if self.frameBytesMax != assumed.frameBytesMax { add(.maxFrameSize, self.frameBytesMax) }
        if let bytes = self.headerListBytesMax { add(.maxHeaderListSize, bytes) }
        if self.enableConnectProtocol { add(.enableConnectProtocol, 1) }
        return settings
    }
}
