/// One or more of something, nearly always one: that one needs no memory of its own.
enum Few<Element: Sendable>: Sendable {
    case one(Element)
    /// Two or more.
    case several([Element])

    var first: Element {
        switch self {
        case .one(let element): element
        case .several(let elements): elements[0]
        }
    }

    var all: [Element] {
        switch self {
        case .one(let element): [element]
        case .several(let elements): elements
        }
    }

    mutating func append(_ element: Element) { self = .several(self.all + [element]) }

    /// Before the first that `isLower`, else at the end.
    mutating func insert(_ element: Element, beforeFirst isLower: (Element) -> Bool) {
        var elements = self.all
        elements.insert(element, at: elements.firstIndex(where: isLower) ?? elements.endIndex)
        self = .several(elements)
    }

    /// Nil when nothing is left.
    func removing(_ isGone: (Element) -> Bool) -> Few? {
        let left = self.all.filter { !isGone($0) }
        return switch left.count {
        case 0: nil
        case 1: .one(left[0])
        default: .several(left)
        }
    }
}

extension Optional {
    mutating func append<Element: Sendable>(_ element: Element) where Wrapped == Few<Element> {
        if case .some(var few) = self {
            few.append(element)
            self = few
        } else {
            self = .one(element)
        }
    }
}
