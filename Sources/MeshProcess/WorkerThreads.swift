/// How many event loops the byte path gets.
package enum WorkerThreads {
    /// - Parameters:
    ///   - setting: what the variable `name` says: a number, `0` for one per core, `25%` of the cores rounded up, or
    ///     nothing: then the CPU limit decides (at least the request), else a quarter of the cores, at least the
    ///     request and 2.
    ///   - limit, request: of the container, in thousandths of a processor.
    package static func count(
        setting: String?, name: String = "ZTUNNEL_WORKER_THREADS", cores: Int, limit: Int? = nil, request: Int? = nil
    ) throws(InvalidSetting) -> Int {
        func whole(_ milli: Int) -> Int { (milli + 999) / 1000 }
        let requested = request.map(whole) ?? 0
        guard let setting else {
            if let limit { return max(whole(limit), requested, 1) }
            return max((cores + 3) / 4, requested, 2)
        }
        let wanted = "a number of threads, 0 for one per core, or a share of the cores such as 50%"
        if setting.hasSuffix("%") {
            guard let percent = Int(setting.dropLast()), (1...1000).contains(percent) else {
                throw InvalidSetting(name, setting, wanted: wanted)
            }
            return max((cores * percent + 99) / 100, 1)
        }
        guard let count = Int(setting), (0...1024).contains(count) else {
            throw InvalidSetting(name, setting, wanted: wanted)
        }
        return count == 0 ? max(cores, 1) : count
    }
}
