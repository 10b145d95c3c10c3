/// Columns under upper-case headers, padded with blanks; the last one is not.
package struct Table: Sendable {
    /// Blanks after the longest cell of a column. istioctl's tables have 5 or 1.
    private let gap: Int
    private let headers: [String]
    private var rows: [[String]] = []

    package init(_ headers: [String], gap: Int = 1) {
        self.headers = headers
        self.gap = gap
    }

    /// An empty cell is shown as `-`, so that columns can be counted.
    package mutating func add(_ cells: [String]) {
        precondition(cells.count == self.headers.count, "a row of \(cells.count) under \(self.headers.count) headers")
        self.rows.append(cells.map { $0.isEmpty ? "-" : $0 })
    }

    package var lines: [String] {
        let all = [self.headers] + self.rows
        let widths = self.headers.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            row.enumerated().map { column, cell in
                column == row.count - 1
                    ? cell : cell + String(repeating: " ", count: widths[column] - cell.count + self.gap)
            }.joined()
        }
    }

    package func print(_ output: Output) { for line in self.lines { output.line(line) } }
}
