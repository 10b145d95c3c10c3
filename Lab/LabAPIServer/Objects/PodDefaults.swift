internal import KubeAPI

/// Defaults of pods and pod templates, visible in every answer.
enum PodDefaults {
    static func apply(toPod pod: inout JSONValue) {
        var spec = pod["spec"] ?? [:]
        self.apply(toSpec: &spec)
        spec.fill("enableServiceLinks", true)
        pod["spec"] = spec
    }

    /// A pod template inside a workload.
    static func apply(toTemplateOf object: inout JSONValue, at path: [String]) {
        guard var template = object.at(path), case .object = template else { return }
        if template.at("metadata") == nil { template["metadata"] = [:] }
        if template.at("metadata", "creationTimestamp") == .null {
            template.set(["metadata", "creationTimestamp"], to: nil)
        }
        var spec = template["spec"] ?? [:]
        self.apply(toSpec: &spec)
        template["spec"] = spec
        object.set(path, to: template)
    }

    private static func apply(toSpec spec: inout JSONValue) {
        spec.fill("restartPolicy", "Always")
        spec.fill("dnsPolicy", "ClusterFirst")
        spec.fill("terminationGracePeriodSeconds", 30)
        spec.fill("securityContext", [:])
        spec.fill("schedulerName", "default-scheduler")
        if let account = spec["serviceAccountName"]?.string ?? spec["serviceAccount"]?.string, !account.isEmpty {
            spec["serviceAccountName"] = .string(account)
            spec["serviceAccount"] = .string(account)
        }
        let isHostNetwork = spec["hostNetwork"]?.bool == true
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            guard let containers = spec[list]?.array else { continue }
            spec[list] = .array(containers.map { self.container($0, isHostNetwork: isHostNetwork) })
        }
        if let volumes = spec["volumes"]?.array { spec["volumes"] = .array(volumes.map(self.volume)) }
    }

    private static func container(_ container: JSONValue, isHostNetwork: Bool) -> JSONValue {
        var container = container
        let image = container["image"]?.string ?? ""
        container.fill("imagePullPolicy", .string(self.isLatest(image) ? "Always" : "IfNotPresent"))
        container.fill("terminationMessagePath", "/dev/termination-log")
        container.fill("terminationMessagePolicy", "File")
        container.fill("resources", [:])
        if let ports = container["ports"]?.array {
            container["ports"] = .array(
                ports.map { port in
                    var port = port
                    port.fill("protocol", "TCP")
                    if isHostNetwork, let number = port["containerPort"] { port.fill("hostPort", number) }
                    return port
                })
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            guard var value = container[probe], case .object = value else { continue }
            value.fill("timeoutSeconds", 1)
            value.fill("periodSeconds", 10)
            value.fill("successThreshold", 1)
            value.fill("failureThreshold", 3)
            value = self.handler(value)
            if var grpc = value["grpc"] {
                grpc.fill("service", "")
                value["grpc"] = grpc
            }
            container[probe] = value
        }
        for hook in ["postStart", "preStop"] {
            if let value = container.at("lifecycle", hook) {
                container.set(["lifecycle", hook], to: self.handler(value))
            }
        }
        if let env = container["env"]?.array {
            container["env"] = .array(
                env.map { variable in
                    var variable = variable
                    if variable.at("valueFrom", "fieldRef") != nil,
                        variable.at("valueFrom", "fieldRef", "apiVersion") == nil
                    {
                        variable.set(["valueFrom", "fieldRef", "apiVersion"], to: "v1")
                    }
                    return variable
                })
        }
        container = Quantities.canonical(resourcesOf: container)
        if var resources = container["resources"], let limits = resources["limits"]?.object {
            // A limit without a request is its own request.
            for (name, value) in limits where resources.at("requests", name) == nil {
                resources.set(["requests", name], to: value)
            }
            container["resources"] = resources
        }
        return container
    }

    private static func isLatest(_ image: String) -> Bool {
        if image.contains("@") { return false }
        let last = image.split(separator: "/").last ?? ""
        return !last.contains(":") || last.hasSuffix(":latest")
    }

    private static func handler(_ handler: JSONValue) -> JSONValue {
        var handler = handler
        if var get = handler["httpGet"] {
            get.fill("scheme", "HTTP")
            get.fill("path", "/")
            handler["httpGet"] = get
        }
        return handler
    }

    private static let defaultMode: JSONValue = 420  // 0644

    private static func volume(_ volume: JSONValue) -> JSONValue {
        var volume = volume
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            guard var value = volume[source] else { continue }
            value.fill("defaultMode", self.defaultMode)
            volume[source] = value
        }
        if volume["hostPath"] != nil, volume.at("hostPath", "type") == nil { volume.set(["hostPath", "type"], to: "") }
        if let sources = volume.at("projected", "sources")?.array {
            volume.set(["projected", "sources"], to: .array(sources.map(self.projection)))
        }
        if let items = volume.at("downwardAPI", "items") {
            volume.set(["downwardAPI", "items"], to: self.downwardItems(items))
        }
        // A volume without a source is an empty directory.
        if case .object(let members) = volume, members.count == 1, members["name"] != nil { volume["emptyDir"] = [:] }
        return volume
    }

    private static func projection(_ source: JSONValue) -> JSONValue {
        var source = source
        if source["serviceAccountToken"] != nil, source.at("serviceAccountToken", "expirationSeconds") == nil {
            source.set(["serviceAccountToken", "expirationSeconds"], to: 3600)
        }
        if let items = source.at("downwardAPI", "items") {
            source.set(["downwardAPI", "items"], to: self.downwardItems(items))
        }
        return source
    }

    private static func downwardItems(_ items: JSONValue) -> JSONValue {
        .array(
            (items.array ?? []).map { item in
                var item = item
                if item["fieldRef"] != nil, item.at("fieldRef", "apiVersion") == nil {
                    item.set(["fieldRef", "apiVersion"], to: "v1")
                }
                return item
            })
    }

    /// BestEffort, Burstable or Guaranteed, from cpu and memory of all containers.
    static func qualityOfService(_ spec: JSONValue) -> String {
        let containers = (spec["containers"]?.array ?? []) + (spec["initContainers"]?.array ?? [])
        var hasAny = false
        var isGuaranteed = true
        for container in containers {
            for name in ["cpu", "memory"] {
                let limit = container.at("resources", "limits", name)
                let request = container.at("resources", "requests", name)
                if limit != nil || request != nil { hasAny = true }
                if limit == nil || request != limit { isGuaranteed = false }
            }
        }
        return !hasAny ? "BestEffort" : isGuaranteed ? "Guaranteed" : "Burstable"
    }
}

extension JSONValue {
    /// Sets a member that is missing or null.
    mutating func fill(_ key: String, _ value: JSONValue) {
        if self[key] == nil || self[key] == .null { self[key] = value }
    }
}

/// Resource quantities in the canonical spelling of built-in kinds: `1000m` is `1`, `1024Mi` is `1Gi`.
enum Quantities {
    static func canonical(resourcesOf container: JSONValue) -> JSONValue {
        var container = container
        for list in ["limits", "requests"] {
            guard let values = container.at("resources", list)?.object else { continue }
            container.set(["resources", list], to: .object(values.mapValues { self.canonical($0) }))
        }
        return container
    }

    static func canonical(_ value: JSONValue) -> JSONValue {
        if case .int(let number) = value { return .string(self.decimal(number)) }
        if case .double(let number) = value, let thousandths = Int64(exactly: (number * 1000).rounded(.up)) {
            return .string(self.milli(thousandths))
        }
        guard let text = value.string else { return value }
        let suffix = String(text.reversed().prefix { $0.isLetter }.reversed())
        let body = text.dropLast(suffix.count)
        let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        if let power = binary.firstIndex(of: suffix), var number = Int64(body) {
            var power = power
            while number != 0, number % 1024 == 0, power + 1 < binary.count {
                number /= 1024
                power += 1
            }
            return .string("\(number)\(binary[power])")
        }
        if suffix == "m", let number = Int64(body) { return .string(self.milli(number)) }
        if suffix.isEmpty, let number = Int64(body) { return .string(self.decimal(number)) }
        if suffix.isEmpty, let number = Double(body), let thousandths = Int64(exactly: (number * 1000).rounded(.up)) {
            return .string(self.milli(thousandths))
        }
        return value
    }

    private static func milli(_ number: Int64) -> String {
        number % 1000 == 0 ? self.decimal(number / 1000) : "\(number)m"
    }

    private static func decimal(_ number: Int64) -> String {
        var number = number
        var power = 0
        let suffixes = ["", "k", "M", "G", "T", "P", "E"]
        while number != 0, number % 1000 == 0, power + 1 < suffixes.count {
            number /= 1000
            power += 1
        }
        return "\(number)\(suffixes[power])"
    }
}
