internal import MeshProto

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

    static var requests: EnvoyAccessLog {
        .line(
            #"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% "#
                + #"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% "#
                + #"%BYTES_SENT% %DURATION% %RESPONSE_DURATION% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#
                + #""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%""# + Self.ends + Self.notes(EnvoyNames.httpRBAC))
    }

    static var streams: EnvoyAccessLog {
        .line(
            #"[%START_TIME%] "- - -" 0 %RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% "#
                + #""%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% - "-" "-" "-" "-""#
                + Self.ends + Self.notes(EnvoyNames.networkRBAC))
    }

    private static func line(_ format: String) -> EnvoyAccessLog {
        .with {
            $0.name = "envoy.access_loggers.stdout"
            $0.typedConfig = EnvoyStdoutAccessLog.with { $0.logFormat = .inline(format + "\n") }.packed
        }
    }
}
