/// Which elements looked at what. A hundred thousand elements look at twenty things each, nearly all of them at the
/// same ones: the table keeps each thing once and numbers everywhere else.
struct LookTable {
    private var tokenNumbers: [Token: Int32] = [:]
    private var tokens: [Token?] = []
    /// By token number.
    private var lookers: [Set<Int32>] = []
    private var freeTokens: [Int32] = []

    private var elementNumbers: [String: Int32] = [:]
    private var elements: [String?] = []
    /// By element number.
    private var looks: [[Int32]] = []
    private var freeElements: [Int32] = []

    /// How many different things are looked at.
    var count: Int { self.tokenNumbers.count }

    /// From now on `element` looks at exactly these.
    mutating func set(_ element: String, _ tokens: Set<Token>) {
        guard let number = self.elementNumbers[element] else {
            if tokens.isEmpty { return }
            let number = self.number(element)
            self.looks[Int(number)] = tokens.map { token in
                let token = self.number(token)
                self.lookers[Int(token)].insert(number)
                return token
            }
            return
        }
        let old = self.looks[Int(number)]
        if old.count == tokens.count, old.allSatisfy({ self.tokens[Int($0)].map(tokens.contains) ?? false }) { return }
        // New ones first, so that a token that stays is not given up in between.
        let new = tokens.map { self.number($0) }
        let kept = Set(new)
        for token in new { self.lookers[Int(token)].insert(number) }
        for token in old where !kept.contains(token) { self.forget(token, of: number) }
        self.looks[Int(number)] = new
        if new.isEmpty {
            self.elementNumbers[element] = nil
            self.elements[Int(number)] = nil
            self.freeElements.append(number)
        }
    }

    /// Adds those that looked at any of these.
    func collect(_ changed: Set<Token>, into dirty: inout Set<String>) {
        // Walk the shorter list.
        if changed.count <= self.tokenNumbers.count {
            for token in changed {
                if let number = self.tokenNumbers[token] { self.collect(number, into: &dirty) }
            }
        } else {
            for (token, number) in self.tokenNumbers where changed.contains(token) {
                self.collect(number, into: &dirty)
            }
        }
    }

    private func collect(_ token: Int32, into dirty: inout Set<String>) {
        for element in self.lookers[Int(token)] {
            if let name = self.elements[Int(element)] { dirty.insert(name) }
        }
    }

    private mutating func forget(_ token: Int32, of element: Int32) {
        self.lookers[Int(token)].remove(element)
        guard self.lookers[Int(token)].isEmpty, let value = self.tokens[Int(token)] else { return }
        self.tokenNumbers[value] = nil
        self.tokens[Int(token)] = nil
        self.lookers[Int(token)] = []
        self.freeTokens.append(token)
    }

    private mutating func number(_ token: Token) -> Int32 {
        if let number = self.tokenNumbers[token] { return number }
        let number: Int32
        if let free = self.freeTokens.popLast() {
            number = free
            self.tokens[Int(free)] = token
        } else {
            number = Int32(self.tokens.count)
            self.tokens.append(token)
            self.lookers.append([])
        }
        self.tokenNumbers[token] = number
        return number
    }

    private mutating func number(_ element: String) -> Int32 {
        let number: Int32
        if let free = self.freeElements.popLast() {
            number = free
            self.elements[Int(free)] = element
        } else {
            number = Int32(self.elements.count)
            self.elements.append(element)
            self.looks.append([])
        }
        self.elementNumbers[element] = number
        return number
    }
}
