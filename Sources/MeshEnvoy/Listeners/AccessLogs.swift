internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

/// Lines on standard output in Istio's default form, so that what reads them goes on reading them. At the end, what AUDIT
/// policies and those on trial noted.
extension EnvoyAccessLog {
    private static let ends =
        #" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% "#
        + #"%DOWNSTREAM_REMOTE_ADDRESS% %FILTER_STATE(io.istio.peer_principal:PLAIN)% %ROUTE_NAME%"#

    private static func notes(_ filter: String) -> String {
        ["audit", "dry_run_deny", "dry_run_allow"].map {
            " %DYNAMIC_METADATA(\(filter):\($0)_shadow_effective_policy_id)%"
        }.joined()
    }

    private static let requestBeginning =
        #"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% "#
        + #"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% "#
        + #"%BYTES_SENT% %DURATION% %RESPONSE_DURATION% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#
        + #""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%""#

    private static let streamBeginning =
        #"[%START_TIME%] "- - -" 0 %RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% "#
        + #""%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% - "-" "-" "-" "-""#

    static var requests: EnvoyAccessLog {
        .line(Self.requestBeginning + Self.ends + Self.notes(EnvoyNames.httpRBAC))
    }

    static var streams: EnvoyAccessLog {
        .line(Self.streamBeginning + Self.ends + Self.notes(EnvoyNames.networkRBAC))
    }

    private static func line(_ format: String) -> EnvoyAccessLog {
        .with {
            $0.name = "envoy.access_loggers.stdout"
            $0.typedConfig = EnvoyStdoutAccessLog.with { $0.logFormat = .inline(format + "\n") }.packed
        }
    }

    // MARK: Sidecars

    private static let sidecarEnds =
        #" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% "#
        + #"%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"#

    /// Istio's form, unless MeshConfig says another. Of a JSON form without names the text is written.
    static func sidecar(_ style: AccessLogStyle, isRequest: Bool) -> EnvoyAccessLog {
        switch (style.encoding, style.format) {
        case (.text, let format?): return Self.text(format)
        case (.json, let format?):
            if let names = try? Google_Protobuf_Struct(jsonString: format) { return Self.json(names) }
            fallthrough
        case (_, nil):
            return Self.line((isRequest ? Self.requestBeginning : Self.streamBeginning) + Self.sidecarEnds)
        }
    }

    /// What people write ends its lines itself, if they read the reference's manual.
    private static func text(_ format: String) -> EnvoyAccessLog {
        Self.line(format.hasSuffix("\n") ? String(format.dropLast()) : format)
    }

    private static func json(_ names: Google_Protobuf_Struct) -> EnvoyAccessLog {
        .with {
            $0.name = "envoy.access_loggers.stdout"
            $0.typedConfig = EnvoyStdoutAccessLog.with { $0.logFormat.jsonFormat = names }.packed
        }
    }
}
