package import MeshRoutes
internal import Synchronization

/// Formats as the control plane asks for them, each made once.
package final class AccessLogFormats: Sendable {
    /// Different styles remembered; more, and all are forgotten.
    static let stylesMax = 64

    private struct Known: Sendable {
        var formats: [AccessLogStyle: AccessLogFormat] = [:]
    }
    /// Of this process alone: counts before everything that is asked for.
    private let own: AccessLogFormat?
    private let environment: [String: String]
    private let reportProblem: @Sendable (InvalidAccessLogFormat) -> Void
    private let known = Mutex(Known())

    /// - Parameters:
    ///   - environment: for `%ENVIRONMENT(X)%` and `%HOSTNAME%`.
    ///   - reportProblem: told of formats that cannot be used, once for each; the standard one stands in for them.
    package init(
        own: AccessLogFormat?, environment: [String: String] = [:],
        reportProblem: @escaping @Sendable (InvalidAccessLogFormat) -> Void = { _ in }
    ) {
        self.own = own
        self.environment = environment
        self.reportProblem = reportProblem
    }

    package func format(_ style: AccessLogStyle?) -> AccessLogFormat {
        if let own { return own }
        guard let style else { return .standard }
        var problem: InvalidAccessLogFormat?
        let format = self.known.withLock { known in
            if let format = known.formats[style] { return format }
            if known.formats.count >= Self.stylesMax { known.formats.removeAll() }
            let format: AccessLogFormat
            do throws(InvalidAccessLogFormat) {
                format = try AccessLogFormat(style, environment: self.environment)
            } catch {
                problem = error
                format = .standard
            }
            known.formats[style] = format
            return format
        }
        if let problem { self.reportProblem(problem) }
        return format
    }
}
