internal import MeshExchange
internal import MeshHTTP
internal import MeshIdentity
internal import MeshModel
internal import MeshRoutes

/// One finished exchange or stream, as operators ask for it. What a stream has not is nil.
struct AccessLogEntry {
    var ends: ExchangeEnds
    var startMicroseconds: Int64
    var durationNanoseconds: UInt64
    var flags: ExchangeFlags
    var details: String?
    var upstreamFailure: String?
    var route: String?
    var received: UInt64
    var sent: UInt64
    var serverName: String?
    var http: ExchangeReport?

    init(_ report: borrowing ExchangeReport, nowMicroseconds: Int64) {
        self.ends = report.ends
        self.startMicroseconds = nowMicroseconds - Int64(report.durationNanoseconds / 1000)
        self.durationNanoseconds = report.durationNanoseconds
        self.flags = report.flags
        self.details = report.details ?? (report.response == nil ? nil : "via_upstream")
        self.upstreamFailure = report.upstreamFailure
        self.route = report.route
        self.received = report.requestBytes
        self.sent = report.responseBytes
        self.http = copy report
    }

    init(_ stream: borrowing StreamReport, _ end: borrowing StreamReport.End, nowMicroseconds: Int64) {
        self.ends = stream.ends
        self.startMicroseconds = nowMicroseconds - Int64(end.durationNanoseconds / 1000)
        self.durationNanoseconds = end.durationNanoseconds
        self.flags = end.flags
        self.details = end.details
        self.upstreamFailure = end.upstreamFailure
        self.route = stream.route
        self.received = end.received
        self.sent = end.sent
        self.serverName = stream.serverName
    }

    enum Value {
        case missing
        case number(UInt64)
        case text(String)
        case bytes(ArraySlice<UInt8>)
        case time(TimeFormat)
    }

    func value(_ wanted: AccessLogOperator) -> Value {
        switch wanted {
        case .request(let names, let isWithoutQuery): self.request(names, isWithoutQuery)
        case .response(let names): self.response(names)
        case .startTime(let format): .time(format)
        case .bytesReceived: .number(self.received)
        case .bytesSent: .number(self.sent)
        case .duration: .number(Self.milliseconds(self.durationNanoseconds))
        case .requestDuration: Self.milliseconds(self.http?.requestNanoseconds)
        case .responseDuration: Self.milliseconds(self.http?.responseNanoseconds)
        case .responseTransmitDuration:
            Self.milliseconds(
                self.http?.responseNanoseconds.map { self.durationNanoseconds &- min($0, self.durationNanoseconds) })
        case .protocol: self.http.map { .text($0.version.text) } ?? .missing
        // Envoy writes 0 for a response that never came, also for streams.
        case .responseCode: .number(UInt64(self.http?.response?.status ?? 0))
        case .responseDetails: Self.text(self.details)
        case .responseFlags: .text(self.flags.text)
        case .terminationDetails: self.http == nil ? Self.text(self.details) : .missing
        case .upstreamHost(let part): Self.part(part, self.ends.upstream)
        case .upstreamCluster: Self.text(self.cluster)
        case .upstreamLocalAddress: .missing
        case .upstreamFailure: Self.text(self.upstreamFailure)
        case .upstreamAttempts: .number(UInt64(self.http?.attempts ?? (self.ends.upstream == nil ? 0 : 1)))
        case .upstreamIdentity: Self.text(self.ends.upstreamIdentity?.description)
        case .clientIdentity: Self.text(self.ends.clientIdentity?.description)
        case .localAddress(let part): Self.part(part, self.ends.local)
        case .remoteAddress(let part): Self.part(part, self.ends.client)
        case .serverName: Self.text(self.serverName)
        case .routeName: .text(self.route ?? "default")
        case .grpcStatus(let isNumber): self.grpcStatus(isNumber)
        case .traceID: Self.text(self.http?.trace?.traceID)
        case .spanID: Self.text(self.http?.trace?.spanID)
        }
    }

    // MARK: Fields

    private func request(_ names: [String], _ isWithoutQuery: Bool) -> Value {
        guard let request = self.http?.request else { return .missing }
        for name in names {
            switch name {
            case ":method": return .text(request.method)
            case ":authority", "host": if !request.authority.isEmpty { return .text(request.authority) }
            case ":scheme": return .text(request.scheme)
            case ":path":
                return .text(isWithoutQuery ? String(request.path.prefix { $0 != "?" }) : request.path)
            default: if let value = Self.field(name, in: request.fields) { return .bytes(value) }
            }
        }
        return .missing
    }

    private func response(_ names: [String]) -> Value {
        for name in names {
            switch name {
            case ":status": if let status = self.http?.response?.status { return .number(UInt64(status)) }
            // Envoy puts it into the response; we say it in the log only.
            case "x-envoy-upstream-service-time":
                if let time = self.http?.upstreamNanoseconds { return .number(Self.milliseconds(time)) }
            default:
                if let value = self.http?.response.flatMap({ Self.field(name, in: $0.fields) }) { return .bytes(value) }
            }
        }
        return .missing
    }

    private static func field(_ name: String, in fields: HTTP2HeaderList) -> ArraySlice<UInt8>? {
        for index in 0..<fields.count where fields.nameBytes(index).elementsEqual(name.utf8) {
            return fields.valueBytes(index)
        }
        return nil
    }

    private func grpcStatus(_ isNumber: Bool) -> Value {
        guard let status = self.http?.grpcStatus else { return .missing }
        return isNumber || status >= Self.grpcCodes.count ? .number(UInt64(status)) : .text(Self.grpcCodes[Int(status)])
    }

    /// By number (grpc.io, "Status codes").
    private static let grpcCodes = [
        "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
        "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
        "Internal", "Unavailable", "DataLoss", "Unauthenticated",
    ]

    /// As Envoy's waypoints call what they send a service's traffic to.
    var cluster: String? {
        (self.ends.backend ?? self.ends.service).map {
            "inbound-vip|\(self.ends.port)|\(self.http == nil ? "tcp" : "http")|\($0.name)"
        }
    }

    private static func text(_ text: String?) -> Value { text.map { .text($0) } ?? .missing }

    private static func milliseconds(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 1_000_000 }

    private static func milliseconds(_ nanoseconds: UInt64?) -> Value {
        nanoseconds.map { .number(Self.milliseconds($0)) } ?? .missing
    }

    private static func part(_ part: AccessLogOperator.Part, _ endpoint: IPEndpoint?) -> Value {
        guard let endpoint else { return .missing }
        switch part {
        case .whole: return .text(endpoint.description)
        case .address: return .text("\(endpoint.address)")
        case .port: return .number(UInt64(endpoint.port))
        }
    }
}

extension ExchangeReport.Version {
    var text: String {
        switch self {
        case .http10: "HTTP/1.0"
        case .http11: "HTTP/1.1"
        case .http2: "HTTP/2"
        }
    }
}

extension TraceContext {
    /// 32 hexadecimal digits.
    var traceID: String { Self.hex(self.traceHigh) + Self.hex(self.traceLow) }
    var spanID: String { Self.hex(self.span) }
    var parentID: String? { self.parent.map(Self.hex) }

    private static func hex(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
