internal import Glibc
package import Logging

package enum DescriptorLimit {
    /// The soft limit of open files up to the hard one: every connection needs two.
    package static func raise(_ log: Logger) {
        let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard getrlimit(kind, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
        limit.rlim_cur = limit.rlim_max
        if setrlimit(kind, &limit) != 0 { log.warning("cannot raise the limit of open files") }
    }
}
