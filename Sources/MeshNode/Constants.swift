internal import MeshModel

/// What the node agent, the node proxy and the control plane must agree on. Istio's values throughout.
enum Redirection {
    /// Set by the proxy with SO_MARK on every socket that it opens in a pod.
    static let proxyMark: UInt32 = 0x539
    /// On connections that the proxy opened to the app, so that the app's answers find back.
    static let connectionMark: UInt32 = 0x111
    static let markMask: UInt32 = 0xfff
    static let rulePreference: UInt32 = 32764
    static let routeTable: UInt8 = 100

    static let outboundPort: UInt16 = 15001
    static let inboundPort: UInt16 = 15006
    static let tunnelPort: UInt16 = 15008
    static let dnsPort: UInt16 = 15053
    /// Who is connected to one of these is being served by the proxy.
    static let capturePorts: Set<UInt16> = [outboundPort, inboundPort, tunnelPort]

    static let probeSourceV4 = IPAddress("169.254.7.127")!
    static let probeSourceV6 = IPAddress("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")!

    static let podTable = "martlet_pod"
    static let hostTable = "martlet_host"
}

enum MeshKeys {
    static let redirection = "ambient.istio.io/redirection"
    static let bypassInbound = "ambient.istio.io/bypass-inbound-capture"
    static let dnsCapture = "ambient.istio.io/dns-capture"
    static let virtualInterfaces = "istio.io/reroute-virtual-interfaces"
    static let sidecarStatus = "sidecar.istio.io/status"
    static let dataplaneMode = "istio.io/dataplane-mode"
}
