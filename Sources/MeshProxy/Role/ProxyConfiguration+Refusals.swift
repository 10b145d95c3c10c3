// What is refused because it would silently do nothing. The reasons are in docs/node-proxy-settings.md.

extension ProxyConfiguration {
    static func refuseUnsupported(_ reader: EnvironmentReader) throws(InvalidSetting) {
        if let mode = reader.text("PROXY_MODE"), mode != "shared" {
            throw InvalidSetting("PROXY_MODE", mode, wanted: "shared: one node proxy for all pods of its node")
        }
        if try reader.flag("ENABLE_PROXY") == false {
            throw InvalidSetting("ENABLE_PROXY", "false", wanted: "true: without its proxy the process does nothing")
        }
        for name in ["UNSTABLE_ENABLE_SOCKS5", "TLS12_ENABLED"]
        where try reader.flag(name) == true {
            throw InvalidSetting(name, "true", wanted: "false: this node proxy does not have the feature")
        }
        for name in ["CRL_PATH", "COMPLIANCE_POLICY", "LOCAL_XDS", "LOCAL_XDS_PATH", "PROXY_WORKLOAD_INFO"] {
            if let value = reader.text(name) {
                throw InvalidSetting(name, value, wanted: "nothing: this node proxy does not have the feature")
            }
        }
    }
}
