package import MeshModel

/// Where a name service listens, and with what bounds.
package struct DNSListening: Hashable, Sendable {
    /// Nil is `localhost`: 127.0.0.1, and ::1 where the namespace has it. Anything wider would answer from the pod's own
    /// address, which the kernel's connection tracking does not take for the answer.
    package var address: IPAddress?
    /// 0 takes a free one.
    package var port: UInt16 = 15053
    /// SO_MARK of every socket, so that our own questions are not captured again; 0: none.
    package var mark: UInt32 = 0
    package var isIPv6Enabled = true
    /// The successor of this process binds beside it.
    package var reusesPort = true
    package var limits = DNSLimits()

    package init() {}
}

/// What one process spends on names.
package struct DNSLimits: Hashable, Sendable {
    /// Questions of all pods that wait for a resolver. Each holds a socket or two; more are answered SERVFAIL.
    package var queriesMax = 4096
    /// Of one pod: none may take the node's share from the others.
    package var queriesPerPodMax = 512
    /// TCP connections of one pod; more are closed at once.
    package var connectionsPerPodMax = 128
    /// Questions of one TCP connection that are worked on; more wait in the kernel.
    package var pipelinedQueriesMax = 32
    /// For one question, whatever the number of resolvers. A pod's own resolver gives up after 5 s too.
    package var upstreamTimeout = Duration.seconds(5)
    /// After that the next resolver is asked (or the only one again); the first answer counts.
    package var attemptTimeout = Duration.seconds(2)
    /// A TCP connection without a question for so long is closed (RFC 7766, 6.2.3, wants some seconds).
    package var connectionIdleTimeout = Duration.seconds(10)
    /// As the C library: the rest of the file is ignored.
    package static let resolversMax = 3
    /// Of a resolv.conf; the C library takes any number since glibc 2.26, and six before.
    package static let searchDomainsMax = 32
    /// Of one question, every resolver in turn.
    package static let attemptsMax = 6

    package init() {}
}
