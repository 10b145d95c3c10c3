internal import MeshProcess

// What is refused because it would silently do nothing. The reasons are in docs/node-proxy-settings.md.

extension ProxyConfiguration {
    static func refuseUnsupported(_ reader: EnvironmentReader) throws(InvalidSetting) {
        if try reader.flag("ENABLE_PROXY") == false {
            throw InvalidSetting("ENABLE_PROXY", "false", wanted: "true: without its proxy the process does nothing")
        }
        if try reader.flag("TLS12_ENABLED") == true {
            throw InvalidSetting("TLS12_ENABLED", "true", wanted: "false: tunnels are TLS 1.3, as every peer's are")
        }
    }
}
