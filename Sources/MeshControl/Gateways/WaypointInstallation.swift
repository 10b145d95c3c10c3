package import KubeAPI

/// What the installer decided about the proxies that the control plane deploys: it has no other way to know which image
/// it came from. Read from the control plane's own environment.
package struct WaypointInstallation: Hashable, Sendable {
    /// `WAYPOINT_IMAGE`. Empty: nobody said so, and nothing can be deployed.
    package var image = ""
    /// `WAYPOINT_ENVOY_IMAGE`: holds our program and Envoy. Empty: waypoints that run Envoy cannot be deployed.
    package var envoyImage = ""
    /// `WAYPOINT_IMAGE_PULL_POLICY`
    package var pullPolicy = "IfNotPresent"
    /// `WAYPOINT_LOG_LEVEL`, as `RUST_LOG` of the proxies.
    package var logLevel = "info"
    /// `WAYPOINT_LOG_AS_JSON`
    package var logsAsJSON = false
    /// `WAYPOINT_RESOURCES`: the container's `resources` as JSON.
    package var resources: JSONValue = ["requests": ["cpu": "100m", "memory": "128Mi"]]
    /// `WAYPOINT_ENV_<NAME>`: more environment of the proxies.
    package var environment: [String: String] = [:]

    package init() {}

    package func image(of engine: WaypointEngine) -> String {
        switch engine {
        case .martlet: self.image
        case .envoy: self.envoyImage
        }
    }

    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package init(environment: [String: String]) throws(Invalid) {
        func text(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        self.image = text("WAYPOINT_IMAGE") ?? self.image
        self.envoyImage = text("WAYPOINT_ENVOY_IMAGE") ?? self.envoyImage
        self.pullPolicy = text("WAYPOINT_IMAGE_PULL_POLICY") ?? self.pullPolicy
        self.logLevel = text("WAYPOINT_LOG_LEVEL") ?? self.logLevel
        self.logsAsJSON = text("WAYPOINT_LOG_AS_JSON") == "true"
        if let json = text("WAYPOINT_RESOURCES") {
            guard let resources = try? JSONValue(parsing: json), resources.object != nil else {
                throw Invalid(description: "WAYPOINT_RESOURCES: \"\(json)\" is no JSON object of requests and limits")
            }
            self.resources = resources
        }
        let prefix = "WAYPOINT_ENV_"
        for (name, value) in environment where name.hasPrefix(prefix) && name.count > prefix.count {
            self.environment[String(name.dropFirst(prefix.count))] = value
        }
    }
}
