import KubeAPI
package import MeshRoutes

/// What MeshConfig says about access logs.
package struct AccessLogSettings: Hashable, Sendable {
    /// `accessLogFile`: the empty text switches the log off. Another file than a standard stream means the log all the same:
    /// where a waypoint's lines go is its process's standard output.
    package var file: String?
    /// `accessLogEncoding` and `accessLogFormat`; nil: neither is set.
    package var style: AccessLogStyle?
    /// `extensionProviders` of the kind `envoyFileAccessLog`, by name.
    package var providers: [String: AccessLogStyle] = [:]
    /// `defaultProviders.accessLogging`.
    package var defaultProviders: [String] = []

    package init() {}

    /// Istio's own provider, which is always there: as MeshConfig's `accessLogEncoding` and `accessLogFormat` say.
    static let builtInProvider = "envoy"

    /// Whether waypoints log where no Telemetry says anything. Unlike Istio's they do when MeshConfig is silent.
    package var isEnabled: Bool { !self.defaultProviders.isEmpty || self.file != "" }

    /// How the first of these that we have writes; nil: none of them is of a kind that writes lines, or says how.
    func style(ofProviders names: [String]) -> AccessLogStyle? {
        for name in names {
            if let known = self.providers[name] { return known }
            if name == Self.builtInProvider { return self.style }
        }
        return nil
    }

    func merging(_ root: JSONValue) throws(InvalidMeshConfig) -> AccessLogSettings {
        var settings = self
        if let file = root["accessLogFile"]?.string { settings.file = file }
        let format = root["accessLogFormat"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        switch root["accessLogEncoding"] {
        case nil, .null?: settings.style = format.map { AccessLogStyle(.text, format: $0) }
        case "TEXT"?, 0?: settings.style = AccessLogStyle(.text, format: format)
        case "JSON"?, 1?: settings.style = AccessLogStyle(.json, format: format)
        case let other?:
            throw InvalidMeshConfig(description: "accessLogEncoding: \(other) is neither TEXT nor JSON")
        }
        for provider in root["extensionProviders"]?.array ?? [] {
            guard let name = provider["name"]?.string, let log = provider["envoyFileAccessLog"] else { continue }
            settings.providers[name] = Self.style(log["logFormat"])
        }
        if let names = root.at("defaultProviders", "accessLogging")?.array {
            settings.defaultProviders = names.compactMap(\.string)
        }
        return settings
    }

    /// `text`, or `labels` with an object.
    private static func style(_ json: JSONValue?) -> AccessLogStyle {
        if let labels = json?["labels"], labels.object != nil {
            return AccessLogStyle(.json, format: String(decoding: labels.encoded, as: UTF8.self))
        }
        return AccessLogStyle(.text, format: json?["text"]?.string.flatMap { $0.isEmpty ? nil : $0 })
    }
}
