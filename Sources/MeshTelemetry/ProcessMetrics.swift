internal import Glibc

extension MetricsRegistry {
    /// `process_open_fds`, `process_max_fds` and `istio_build`.
    /// - Parameters:
    ///   - component: `ztunnel`, `istiod` ...
    ///   - tag: the version.
    public func addProcessMetrics(component: String, tag: String) {
        self.gauge("istio_build", "Istio component build info", labels: ["component", "tag"])
            .with([component, tag]).set(1)
        self.observedGauge("process_open_fds", "Number of open file descriptors") { Self.openDescriptors() }
        self.observedGauge("process_max_fds", "Maximum number of open file descriptors") {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
            return Int64(clamping: limit.rlim_cur)
        }
    }

    /// Entries of `/proc/self/fd` without `.`, `..` and the descriptor that reads it.
    private static func openDescriptors() -> Int64? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count: Int64 = 0
        while readdir(directory) != nil { count += 1 }
        return max(count - 3, 0)
    }
}
