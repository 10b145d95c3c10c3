internal import Foundation
internal import GRDB
internal import KubeAPI
internal import Synchronization

/// The durable side of ``ObjectStore``: one SQLite table with the latest state of every object.
///
/// Rows queue up while a transaction runs and the next transaction takes them all, so a burst of writes costs one
/// commit. History is not kept: after a restart every watch starts over anyway.
final class StoreLog: Sendable {
    struct Row: Sendable {
        let storage: String
        let key: ObjectKey
        let revision: UInt64
        /// Nil deletes it. Encoded by the writer, off the store's lock.
        let object: StoredObject?
    }

    private struct State {
        var pending: [Row] = []
        var isWriting = false
        var committed: UInt64 = 0
        var failure: (any Error)?
        var waiters: [(revision: UInt64, continuation: CheckedContinuation<Void, any Error>)] = []
    }

    private let database: DatabaseQueue
    private let state = Mutex(State())

    init(path: String) throws {
        var configuration = Configuration()
        configuration.journalMode = .wal
        // A predecessor may still be about to close the file.
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = NORMAL") }
        self.database = try DatabaseQueue(path: path, configuration: configuration)
        try self.database.write { database in
            try database.execute(
                sql: """
                    CREATE TABLE IF NOT EXISTS objects (
                        storage TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
                        revision INTEGER NOT NULL, value BLOB NOT NULL,
                        PRIMARY KEY (storage, namespace, name)) WITHOUT ROWID;
                    CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
                    """)
        }
    }

    /// Everything stored, and the last revision that was committed (0 for a new database).
    func load() throws -> (objects: [(storage: String, object: StoredObject)], revision: UInt64) {
        try self.database.read { database in
            let rows = try GRDB.Row.fetchAll(
                database, sql: "SELECT storage, namespace, name, revision, value FROM objects"
            ).map { row -> (storage: String, object: StoredObject) in
                let object = StoredObject(
                    key: ObjectKey(namespace: row[1], name: row[2]), revision: UInt64(row[3] as Int64),
                    json: try JSONValue(parsing: [UInt8](row[4] as Data)))
                return (storage: row[0], object: object)
            }
            let last = try Int64.fetchOne(database, sql: "SELECT revision FROM position") ?? 0
            return (rows, UInt64(last))
        }
    }

    /// Queues a row. Called in revision order, under the store's lock: never blocks on the disk.
    func append(_ row: Row) {
        let mustStart = self.state.withLock { state in
            state.pending.append(row)
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if mustStart { self.writePending() }
    }

    func persisted(_ revision: UInt64) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let outcome: Result<Void, any Error>? = self.state.withLock { state in
                if let failure = state.failure { return .failure(failure) }
                if state.committed >= revision { return .success(()) }
                state.waiters.append((revision, continuation))
                return nil
            }
            if let outcome { continuation.resume(with: outcome) }
        }
    }

    private func writePending() {
        self.database.asyncWrite { database -> UInt64 in
            let rows = self.state.withLock { state in
                defer { state.pending = [] }
                return state.pending
            }
            let put = try database.cachedStatement(
                sql: "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)")
            let remove = try database.cachedStatement(
                sql: "DELETE FROM objects WHERE storage = ? AND namespace = ? AND name = ?")
            for row in rows {
                if let object = row.object {
                    try put.execute(
                        arguments: [
                            row.storage, row.key.namespace, row.key.name, Int64(row.revision), Data(object.encoded),
                        ])
                } else {
                    try remove.execute(arguments: [row.storage, row.key.namespace, row.key.name])
                }
            }
            let last = rows.last?.revision ?? 0
            try database.execute(sql: "INSERT OR REPLACE INTO position VALUES (1, ?)", arguments: [Int64(last)])
            return last
        } completion: { _, result in
            self.committed(result)
        }
    }

    private func committed(_ result: Result<UInt64, any Error>) {
        let (ready, outcome, again) = self.state.withLock { state in
            let outcome: Result<Void, any Error>
            switch result {
            case .success(let revision):
                state.committed = max(state.committed, revision)
                outcome = .success(())
            case .failure(let error):
                // Memory is now ahead of the disk; refusing every later write is the honest answer.
                state.failure = error
                outcome = .failure(error)
            }
            let ready = state.waiters.filter { state.failure != nil || $0.revision <= state.committed }
            state.waiters.removeAll { state.failure != nil || $0.revision <= state.committed }
            state.isWriting = state.failure == nil && !state.pending.isEmpty
            return (ready.map(\.continuation), outcome, state.isWriting)
        }
        for continuation in ready { continuation.resume(with: outcome) }
        if again { self.writePending() }
    }
}
