package import MeshLoop
package import MeshTelemetry

/// TCP keepalive: `KEEPALIVE_ENABLED`, `_TIME`, `_INTERVAL`, `_RETRIES`.
package struct Keepalive: Hashable, Sendable {
    package var time = Duration.seconds(180)
    package var interval = Duration.seconds(180)
    package var retries = 9
    /// `USER_TIMEOUT_ENABLED`: bytes that the peer does not acknowledge end a connection as soon as silence would.
    package var limitsUnacknowledged = false
    package init() {}
}

// Settings that belong together: several variables make one choice.

extension EnvironmentReader {
    /// Nil: none.
    package func keepalive() throws(InvalidSetting) -> Keepalive? {
        var keepalive = Keepalive()
        keepalive.time = try self.duration("KEEPALIVE_TIME") ?? keepalive.time
        keepalive.interval = try self.duration("KEEPALIVE_INTERVAL") ?? keepalive.interval
        keepalive.retries = try self.number("KEEPALIVE_RETRIES", in: 1...127) ?? keepalive.retries
        keepalive.limitsUnacknowledged = try self.flag("USER_TIMEOUT_ENABLED") ?? false
        if try self.flag("KEEPALIVE_ENABLED") ?? true { return keepalive }
        if keepalive.limitsUnacknowledged {
            throw InvalidSetting(
                "USER_TIMEOUT_ENABLED", "true", wanted: "KEEPALIVE_ENABLED=true with it: the timeout is keepalive's")
        }
        return nil
    }

    /// `CONNECTION_TERMINATION_DEADLINE`, else from `TERMINATION_GRACE_PERIOD_SECONDS`.
    package func drainDeadline() throws(InvalidSetting) -> Duration {
        if let deadline = try self.duration("CONNECTION_TERMINATION_DEADLINE") { return deadline }
        guard let grace = try self.number("TERMINATION_GRACE_PERIOD_SECONDS", in: 0...86_400) else {
            return .seconds(5)
        }
        // What the kubelet waits, less the time to end in order.
        return .seconds(max(grace > 10 ? grace - 5 : grace - 1, 1))
    }

    /// `LOG_FORMAT`, `RUST_LOG`: what is not set stays as it is.
    package func logging(
        _ format: inout LogLine.Format, _ directives: inout LogDirectives
    ) throws(InvalidSetting) {
        if let text = self.text("LOG_FORMAT") {
            guard let known = LogLine.Format(rawValue: text) else {
                throw InvalidSetting("LOG_FORMAT", text, wanted: "plain or json")
            }
            format = known
        }
        if let levels = self.text("RUST_LOG") {
            do throws(InvalidLogDirective) {
                try directives.merge(levels)
            } catch {
                throw InvalidSetting("RUST_LOG", levels, wanted: "\(error)")
            }
        }
    }

    package func trustDomainAliases() throws(InvalidSetting) -> Set<String> {
        guard let text = self.text("TRUST_DOMAIN_ALIASES") else { return [] }
        let names = text.split(separator: ",", omittingEmptySubsequences: false).map { $0.filter { $0 != " " } }
        guard names.allSatisfy({ !$0.isEmpty && !$0.contains("/") && !$0.contains("*") }) else {
            throw InvalidSetting(
                "TRUST_DOMAIN_ALIASES", text, wanted: "trust domains with commas between them: a.example,b")
        }
        return Set(names)
    }
}

extension Keepalive {
    package var socketOption: Sockets.Keepalive {
        Sockets.Keepalive(
            idle: CInt(clamping: self.time.components.seconds),
            interval: CInt(clamping: self.interval.components.seconds), count: CInt(self.retries),
            limitsUnacknowledged: self.limitsUnacknowledged)
    }
}
