internal import KubeAPI

/// What `--k3s-arg ARG@FILTER` means for a lab. There is no k3s here: what an argument asks for is either true already,
/// or done, or refused with the reason.
public enum K3sArgument: Hashable, Sendable {
    /// Nothing to do: the lab does not have what is disabled.
    case nothing
    case label(key: String, value: String, NodeFilter)
    case taint(key: String, value: String, effect: String, NodeFilter)

    /// Parts of k3s that a lab does not have.
    private static let missing: Set = ["traefik", "metrics-server", "local-storage"]

    public init(_ text: String) throws(LabError) {
        let (argument, filter) = try NodeFilter.split(text)
        guard let equals = argument.firstIndex(of: "=") else {
            throw Self.refusal(argument)
        }
        let name = String(argument[..<equals])
        let value = String(argument[argument.index(after: equals)...])
        let nodes = filter ?? NodeFilter([.all])
        switch name {
        case "--disable":
            for part in value.split(separator: ",").map(String.init) where !Self.missing.contains(part) {
                throw LabError(
                    "--k3s-arg \(argument): the lab cannot run without \(part); "
                        + "what can be disabled (and is never there): \(Self.missing.sorted().joined(separator: ", "))")
            }
            self = .nothing
        case "--node-label":
            let (key, label) = try Self.pair(value)
            self = .label(key: key, value: label, nodes)
        case "--node-taint":
            guard let colon = value.lastIndex(of: ":") else {
                throw LabError("--k3s-arg \(argument): wanted --node-taint=KEY=VALUE:EFFECT")
            }
            let effect = String(value[value.index(after: colon)...])
            guard ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(effect) else {
                throw LabError(
                    "--k3s-arg \(argument): \"\(effect)\" is no taint effect; wanted NoSchedule, PreferNoSchedule or NoExecute"
                )
            }
            let (key, taint) = try Self.pair(String(value[..<colon]))
            self = .taint(key: key, value: taint, effect: effect, nodes)
        default: throw Self.refusal(argument)
        }
    }

    private static func refusal(_ argument: String) -> LabError {
        LabError(
            "--k3s-arg \(argument): there is no k3s in the lab, and nothing it could be translated to; "
                + "known are --disable=traefik, --node-label=KEY=VALUE and --node-taint=KEY=VALUE:EFFECT")
    }

    /// `key=value`; the value may be missing.
    static func pair(_ text: String) throws(LabError) -> (String, String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard !parts[0].isEmpty else { throw LabError("\"\(text)\" has no key; wanted KEY=VALUE") }
        return (parts[0], parts.count == 2 ? parts[1] : "")
    }
}
