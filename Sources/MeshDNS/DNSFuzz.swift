internal import MeshModel

/// Everything that parses bytes from outside, in one call, and what must hold for any bytes at all. Traps when it does not.
package func fuzzDNSMessage(_ bytes: [UInt8]) {
    let bytes = Array(bytes.prefix(DNSReader.messageBytesMax))
    if let refusal = DNSWriter.refusal(of: bytes, .serverFailure) {
        precondition(DNSHeader(refusal)?.id == DNSHeader(bytes)?.id && DNSHeader(refusal)?.isResponse == true)
    }
    for limit in [512, 1232] {
        let fitted = DNSTruncation.fitted(bytes, bytesMax: limit)
        // Questions are never cut, so only a message of questions may stay longer.
        precondition(fitted.count <= max(bytes.count, DNSReader.headerBytes))
        precondition(DNSTruncation.fitted(fitted, bytesMax: limit).count <= fitted.count)
    }
    guard let query = try? DNSQuery(bytes) else { return }
    if let question = query.question { _ = DNSAddresses(bytes, for: question) }
    let exchange = DNSExchange(bytes, query, id: 0x1234)
    var echoed = exchange.bytes
    echoed[2] |= 0x80
    _ = exchange.isAnswered(by: echoed)
    precondition(exchange.restored(exchange.bytes) == bytes)
    guard let (name, isV6) = query.addressQuestion else { return }
    struct Everything: MeshNameTable {
        func service(hostname: String, for client: DNSClient, isV6: Bool) -> NamedService? {
            hostname.utf8.count % 3 == 0 ? NamedService(hostname: hostname, addresses: []) : nil
        }
        let wildcardLabelCounts = [2, 3, 4]
    }
    var random = Draws()
    let resolver = MeshNameResolver(clusterDomain: "cluster.local")
    let client = DNSClient(namespace: "ns1", network: "")
    if let answer = resolver.answer(name, isV6: isV6, for: client, in: Everything(), using: &random) {
        let message = DNSWriter.answer(answer, to: query, bytes, bytesMax: DNSReader.messageBytesMax)
        precondition(DNSHeader(message)?.isResponse == true)
    }
}
