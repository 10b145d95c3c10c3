/// The endpoints that every role offers in the same way.
extension EndpointRoute {
    /// `GET /healthz/ready`: 200 `ready`, or 500 with what is missing.
    public static func readiness(_ readiness: Readiness) -> Self {
        Self("/healthz/ready", methods: ["GET"]) { _ in
            let pending = readiness.pending
            return pending.isEmpty
                ? .text("ready\n") : .text("not ready, pending: \(pending.joined(separator: ", "))\n", status: 500)
        }
    }

    /// `GET /metrics` and `/stats/prometheus`, in the format that is asked for.
    public static func metrics(_ registry: MetricsRegistry) -> [Self] {
        ["/metrics", "/stats/prometheus"].map { path in
            Self(path, methods: ["GET"]) { request in
                let format = MetricsFormat(accept: request.header("accept"))
                return EndpointAnswer(contentType: format.contentType, body: Array(registry.text(format).utf8))
            }
        }
    }

    /// `POST /logging`: shows the levels, `?level=` sets some, `?reset` goes back to those of the start first.
    public static func logging(_ filter: LogFilter) -> Self {
        let usage = """
            usage: POST /logging                            (to show the current level)
            usage: POST /logging?level=<level>              (off, error, warn, info, debug or trace)
            usage: POST /logging?level=<scope>=<level>,...  (levels of single scopes)
            usage: POST /logging?reset                      (back to the levels of the start)

            """
        return Self("/logging", methods: ["POST"], usage: usage) { request in
            if request.query.contains(where: { $0.name == "reset" }) { filter.reset() }
            if let level = request.query.first(where: { $0.name == "level" })?.value, !level.isEmpty {
                do throws(InvalidLogDirective) {
                    try filter.merge(level)
                } catch {
                    return .text("\(error)\n\(usage)", status: 400)
                }
            }
            return .text("current log level is \(filter.directives)\n")
        }
    }

    /// `POST /quitquitquit`
    public static func quit(_ shutDown: @escaping @Sendable () -> Void) -> Self {
        Self("/quitquitquit", methods: ["POST"], usage: "wanted POST /quitquitquit\n") { _ in
            shutDown()
            return .text("shutdown now\n")
        }
    }
}
