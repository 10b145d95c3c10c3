internal import MeshLinux
internal import MeshModel
package import MeshTunnel
internal import Synchronization

/// Resolves host names with the system's resolver, in the proxy's own network namespace, on a few threads that exist
/// only while there is something to look up.
package final class SystemHostResolver: HostResolver {
    package typealias Completion = @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void

    /// Lookups at once: the system's resolver blocks, and a silent name server blocks for long.
    package static let threadsMax = 4
    /// Lookups that wait for a thread.
    package static let queuedMax = 256

    private struct Work {
        var queued: [(host: String, completion: Completion)] = []
        var threads = 0
    }

    private let work = Mutex(Work())
    private let lookUp: @Sendable (String) throws -> [String]

    package convenience init(isIPv6Enabled: Bool) {
        self.init { try HostLookup.addresses(of: $0, onlyIPv4: !isIPv6Enabled) }
    }

    /// - Parameter lookUp: blocks, and returns addresses as text.
    package init(lookUp: @escaping @Sendable (String) throws -> [String]) { self.lookUp = lookUp }

    package func resolve(_ host: String, completion: @escaping Completion) {
        enum Next { case wait, startThread, refuse }
        let next = self.work.withLock { work -> Next in
            guard work.queued.count < Self.queuedMax else { return .refuse }
            work.queued.append((host, completion))
            guard work.threads < Self.threadsMax else { return .wait }
            work.threads += 1
            return .startThread
        }
        switch next {
        case .wait: break
        case .refuse:
            completion(
                .failure(HostUnresolved("\(Self.queuedMax) host names wait to be looked up; \(host) does not")))
        case .startThread:
            do throws(SystemError) { try KernelThread.start { self.run() } } catch { self.failAll("\(error)") }
        }
    }

    /// One thread: works until nothing is left.
    private func run() {
        while let (host, completion) = self.take() {
            completion(
                Result {
                    let addresses = try self.lookUp(host).compactMap { IPAddress($0) }
                    guard !addresses.isEmpty else { throw HostUnresolved("\(host) has no addresses") }
                    return ResolvedHost(addresses: addresses)
                }.mapError { $0 as? HostUnresolved ?? HostUnresolved("\($0)") })
        }
    }

    private func take() -> (host: String, completion: Completion)? {
        self.work.withLock { work in
            if work.queued.isEmpty {
                work.threads -= 1
                return nil
            }
            return work.queued.removeFirst()
        }
    }

    /// No thread can be had: nobody would ever work the queue off.
    private func failAll(_ reason: String) {
        let left = self.work.withLock { work -> [(host: String, completion: Completion)] in
            work.threads -= 1
            guard work.threads == 0 else { return [] }
            defer { work.queued = [] }
            return work.queued
        }
        for (host, completion) in left {
            completion(.failure(HostUnresolved("\(host) cannot be looked up: \(reason)")))
        }
    }
}
