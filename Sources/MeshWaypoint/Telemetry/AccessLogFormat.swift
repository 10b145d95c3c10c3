internal import Foundation
package import MeshRoutes

/// What a line of the access log says: Envoy's format strings (its documentation, "Access logging"), text or JSON.
package struct AccessLogFormat: Sendable {
    /// A literal, or the value of an operator.
    enum Piece: Hashable, Sendable {
        case literal([UInt8])
        case value(AccessLogOperator, bytesMax: Int?)
    }
    enum Shape: Hashable, Sendable {
        case text([Piece])
        /// A member of one operator keeps its type: numbers are numbers, what is missing is null.
        case json([(key: String, pieces: [Piece])])

        static func == (left: Self, right: Self) -> Bool {
            switch (left, right) {
            case (.text(let one), .text(let other)): one == other
            case (.json(let one), .json(let other)):
                one.map(\.key) == other.map(\.key) && one.map(\.pieces) == other.map(\.pieces)
            case (.text, .json), (.json, .text): false
            }
        }
        func hash(into hasher: inout Hasher) {
            switch self {
            case .text(let pieces): hasher.combine(pieces)
            case .json(let members): hasher.combine(members.map(\.key))
            }
        }
    }
    let shape: Shape

    /// Operators of one line.
    static let piecesMax = 200
    static let formatBytesMax = 16 << 10

    /// As proxies of Istio 1.8 and later write it (MeshConfig `accessLogFormat`, when nothing is set).
    package static let standard: AccessLogFormat = {
        do throws(InvalidAccessLogFormat) {
            return try AccessLogFormat(text: Self.standardText)
        } catch {
            preconditionFailure("the standard format is not understood: \(error)")
        }
    }()

    package static let standardText =
        "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
        + "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
        + "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
        + "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
        + "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% "
        + "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
        + "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"

    /// The members of Istio's JSON lines, sorted by name as Envoy writes them.
    package static let standardMembers: [(key: String, format: String)] = [
        ("authority", "%REQ(:AUTHORITY)%"), ("bytes_received", "%BYTES_RECEIVED%"), ("bytes_sent", "%BYTES_SENT%"),
        ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
        ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
        ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"), ("duration", "%DURATION%"),
        ("method", "%REQ(:METHOD)%"), ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"), ("protocol", "%PROTOCOL%"),
        ("request_id", "%REQ(X-REQUEST-ID)%"), ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
        ("response_code", "%RESPONSE_CODE%"), ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
        ("response_flags", "%RESPONSE_FLAGS%"), ("route_name", "%ROUTE_NAME%"), ("start_time", "%START_TIME%"),
        ("upstream_cluster", "%UPSTREAM_CLUSTER%"), ("upstream_host", "%UPSTREAM_HOST%"),
        ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
        ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
        ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
        ("user_agent", "%REQ(USER-AGENT)%"), ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ]

    /// One line; a line feed is added when it has none at its end.
    /// - Parameter environment: for `%ENVIRONMENT(X)%` and `%HOSTNAME%`, which never change.
    package init(text: String, environment: [String: String] = [:]) throws(InvalidAccessLogFormat) {
        var pieces = try Self.pieces(text, environment)
        if !text.hasSuffix("\n") { pieces.append(.literal([0x0a])) }
        self.shape = .text(pieces)
    }

    /// One JSON object in a line.
    package init(
        members: [(key: String, format: String)], environment: [String: String] = [:]
    ) throws(InvalidAccessLogFormat) {
        var parsed: [(key: String, pieces: [Piece])] = []
        for (key, format) in members { parsed.append((key, try Self.pieces(format, environment))) }
        guard parsed.reduce(0, { $0 + $1.pieces.count }) <= Self.piecesMax else { throw .tooLong }
        self.shape = .json(parsed)
    }

    package init(
        _ style: AccessLogStyle, environment: [String: String] = [:]
    ) throws(InvalidAccessLogFormat) {
        switch style.encoding {
        case .text: try self.init(text: style.format ?? Self.standardText, environment: environment)
        case .json:
            try self.init(
                members: try style.format.map(Self.members) ?? Self.standardMembers, environment: environment)
        }
    }

    /// Sorted by name, as Envoy writes them.
    private static func members(_ json: String) throws(InvalidAccessLogFormat) -> [(key: String, format: String)] {
        let members: [String: String]
        do {
            members = try JSONDecoder().decode([String: String].self, from: Data(json.utf8))
        } catch {
            throw .noObject("{\"status\": \"%RESPONSE_CODE%\"} for example")
        }
        return members.sorted { $0.key < $1.key }.map { (key: $0.key, format: $0.value) }
    }

    /// `%OPERATOR%`, `%OPERATOR(argument)%`, `%OPERATOR(argument):length%`; `%%` is a percent sign.
    private static func pieces(
        _ text: String, _ environment: [String: String]
    ) throws(InvalidAccessLogFormat) -> [Piece] {
        guard text.utf8.count <= Self.formatBytesMax else { throw .tooLong }
        var pieces: [Piece] = []
        var literal: [UInt8] = []
        var rest = text.utf8[...]
        let percent = UInt8(ascii: "%")
        while let first = rest.popFirst() {
            guard first == percent else {
                literal.append(first)
                continue
            }
            if rest.first == percent {
                literal.append(percent)
                rest = rest.dropFirst()
                continue
            }
            let command = try Self.command(&rest, in: text)
            if let fixed = try command.constant(environment) {
                literal += fixed.utf8
                continue
            }
            if !literal.isEmpty { pieces.append(.literal(literal)) }
            literal = []
            pieces.append(.value(try AccessLogOperator(command), bytesMax: command.length))
        }
        if !literal.isEmpty { pieces.append(.literal(literal)) }
        guard pieces.count <= Self.piecesMax else { throw .tooLong }
        return pieces
    }

    /// The name up to `(` or `%`, an argument up to the `)` that a `%` or a length follows.
    private static func command(
        _ rest: inout Substring.UTF8View, in text: String
    ) throws(InvalidAccessLogFormat) -> Command {
        func string(_ bytes: Substring.UTF8View) -> String { String(Substring(bytes)) }
        let name = rest.prefix { $0 != UInt8(ascii: "(") && $0 != UInt8(ascii: "%") && $0 != UInt8(ascii: ":") }
        rest = rest.dropFirst(name.count)
        var command = Command(name: string(name))
        if rest.first == UInt8(ascii: "(") {
            guard let close = rest.firstIndex(of: UInt8(ascii: ")")) else { throw .unfinished(command.name) }
            command.argument = string(rest[rest.index(after: rest.startIndex)..<close])
            rest = rest[rest.index(after: close)...]
        }
        if rest.first == UInt8(ascii: ":") {
            let digits = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
            guard let length = Int(string(digits)), length > 0, length <= 65_536 else {
                throw .badArgument(command.name, "a length from 1 to 65536 behind the colon")
            }
            command.length = length
            rest = rest.dropFirst(1 + digits.count)
        }
        guard rest.popFirst() == UInt8(ascii: "%") else { throw .unfinished(command.name) }
        return command
    }

    struct Command {
        var name: String
        var argument: String?
        var length: Int?

        /// What never changes while the process runs.
        func constant(_ environment: [String: String]) throws(InvalidAccessLogFormat) -> String? {
            switch self.name {
            case "ENVIRONMENT":
                guard let argument, !argument.isEmpty else {
                    throw .badArgument(self.name, "a variable in parentheses")
                }
                let value = environment[argument].flatMap { $0.isEmpty ? nil : $0 } ?? "-"
                return self.length.map { String(value.prefix($0)) } ?? value
            case "HOSTNAME": return environment["HOSTNAME"] ?? "-"
            default: return nil
            }
        }
    }
}

/// Why a format cannot be used, for whoever wrote it.
package enum InvalidAccessLogFormat: Error, Hashable, CustomStringConvertible {
    case unknownOperator(String)
    case badArgument(String, String)
    case unfinished(String)
    case tooLong
    case noObject(String)

    package var description: String {
        switch self {
        case .unknownOperator(let name):
            "%\(name)% is no operator that this waypoint has; it has \(AccessLogOperator.names.joined(separator: ", "))"
        case .badArgument(let name, let wanted): "%\(name)%: wanted \(wanted)"
        case .unfinished(let name): "%\(name): wanted a percent sign at the end of the operator; %% is a percent sign"
        case .tooLong:
            "wanted at most \(AccessLogFormat.formatBytesMax) bytes and \(AccessLogFormat.piecesMax) operators"
        case .noObject(let why): "wanted a JSON object of names and format strings, \(why)"
        }
    }
}
