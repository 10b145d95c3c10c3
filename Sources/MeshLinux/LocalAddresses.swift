/// Which wildcard and loopback addresses this network namespace has.
public enum LocalAddresses {
    /// The address to listen at for every connection. `::` takes IPv4 too, unless `net.ipv6.bindv6only` is set.
    public static func everywhere(isIPv6Enabled: Bool = true) -> String {
        isIPv6Enabled && Self.hasIPv6 ? "::" : "0.0.0.0"
    }

    public static func loopback(isIPv6Enabled: Bool = true) -> [String] {
        isIPv6Enabled && Self.hasIPv6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]
    }

    /// A kernel without IPv6 has no such file; one where it is switched off says 1.
    public static var hasIPv6: Bool {
        guard let text = try? Files.readText("/proc/sys/net/ipv6/conf/lo/disable_ipv6") else { return false }
        return text.first == "0"
    }
}
