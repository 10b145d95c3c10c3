internal import MeshTelemetry

/// What can stand between two percent signs, as far as a waypoint of ours knows it. An operator that is not here is
/// refused at the start: a dash for ever would look like a value.
enum AccessLogOperator: Hashable, Sendable {
    /// The first of them that is there, lower case; `:method` and the like are pseudo-headers.
    case request([String], isWithoutQuery: Bool)
    case response([String])
    case startTime(TimeFormat)
    case bytesReceived, bytesSent
    case duration, requestDuration, responseDuration, responseTransmitDuration
    case `protocol`, responseCode, responseDetails, responseFlags, terminationDetails
    case upstreamHost(Part), upstreamCluster, upstreamLocalAddress, upstreamFailure, upstreamAttempts
    case upstreamIdentity, clientIdentity
    case localAddress(Part), remoteAddress(Part)
    case serverName, routeName
    case grpcStatus(isNumber: Bool)
    case traceID, spanID

    enum Part: Hashable, Sendable { case whole, address, port }

    private static let simple: [String: AccessLogOperator] = [
        "BYTES_RECEIVED": .bytesReceived, "BYTES_SENT": .bytesSent, "DURATION": .duration,
        "REQUEST_DURATION": .requestDuration, "RESPONSE_DURATION": .responseDuration,
        "RESPONSE_TX_DURATION": .responseTransmitDuration, "PROTOCOL": .protocol, "RESPONSE_CODE": .responseCode,
        "RESPONSE_CODE_DETAILS": .responseDetails, "RESPONSE_FLAGS": .responseFlags,
        "CONNECTION_TERMINATION_DETAILS": .terminationDetails,
        "UPSTREAM_HOST": .upstreamHost(.whole), "UPSTREAM_REMOTE_ADDRESS": .upstreamHost(.whole),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": .upstreamHost(.address),
        "UPSTREAM_REMOTE_PORT": .upstreamHost(.port), "UPSTREAM_CLUSTER": .upstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS": .upstreamLocalAddress, "UPSTREAM_TRANSPORT_FAILURE_REASON": .upstreamFailure,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT": .upstreamAttempts, "UPSTREAM_PEER_URI_SAN": .upstreamIdentity,
        "DOWNSTREAM_PEER_URI_SAN": .clientIdentity, "DOWNSTREAM_LOCAL_ADDRESS": .localAddress(.whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": .localAddress(.address),
        "DOWNSTREAM_LOCAL_PORT": .localAddress(.port), "DOWNSTREAM_REMOTE_ADDRESS": .remoteAddress(.whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": .remoteAddress(.address),
        "DOWNSTREAM_REMOTE_PORT": .remoteAddress(.port), "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": .remoteAddress(.whole),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": .remoteAddress(.address),
        "DOWNSTREAM_DIRECT_REMOTE_PORT": .remoteAddress(.port), "REQUESTED_SERVER_NAME": .serverName,
        "ROUTE_NAME": .routeName, "GRPC_STATUS": .grpcStatus(isNumber: false),
        "GRPC_STATUS_NUMBER": .grpcStatus(isNumber: true), "TRACE_ID": .traceID, "SPAN_ID": .spanID,
    ]

    /// For the error about an unknown one.
    static let names =
        (Self.simple.keys + ["START_TIME", "REQ", "REQ_WITHOUT_QUERY", "RESP", "TRAILER", "ENVIRONMENT", "HOSTNAME"])
        .sorted()

    init(_ command: AccessLogFormat.Command) throws(InvalidAccessLogFormat) {
        switch command.name {
        case "REQ": self = .request(try Self.fields(command), isWithoutQuery: false)
        case "REQ_WITHOUT_QUERY": self = .request(try Self.fields(command), isWithoutQuery: true)
        case "RESP": self = .response(try Self.fields(command))
        case "TRAILER":
            // The one that is kept of them.
            guard try Self.fields(command) == ["grpc-status"] else {
                throw .badArgument("TRAILER", "GRPC-STATUS: other trailers are passed on and not kept")
            }
            self = .grpcStatus(isNumber: true)
        case "START_TIME": self = .startTime(try TimeFormat(command.argument ?? ""))
        default:
            guard let known = Self.simple[command.name] else { throw .unknownOperator(command.name) }
            if case .grpcStatus(isNumber: false) = known, let argument = command.argument {
                guard ["CAMEL_STRING", "SNAKE_STRING", "NUMBER"].contains(argument) else {
                    throw .badArgument("GRPC_STATUS", "CAMEL_STRING or NUMBER in parentheses, or nothing")
                }
                guard argument != "SNAKE_STRING" else { throw .badArgument("GRPC_STATUS", "CAMEL_STRING or NUMBER") }
                self = .grpcStatus(isNumber: argument == "NUMBER")
                return
            }
            guard command.argument == nil else { throw .badArgument(command.name, "nothing in parentheses") }
            self = known
        }
    }

    /// `X?Y`: Y when X is not there.
    private static func fields(_ command: AccessLogFormat.Command) throws(InvalidAccessLogFormat) -> [String] {
        let names = (command.argument ?? "").split(separator: "?", omittingEmptySubsequences: false)
            .map { $0.lowercased() }
        guard (1...2).contains(names.count), names.allSatisfy({ !$0.isEmpty && !$0.contains(" ") }) else {
            throw .badArgument(command.name, "a header's name in parentheses, or two with a question mark between")
        }
        return names
    }
}
