// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// One parameter of a tool: how it is described to the model, and how its value is checked.
struct Parameter: Sendable {
    enum Kind: Sendable {
        case text(bytesMax: Int)
        case number(ClosedRange<Int>)
        case flag
        case texts(countMax: Int)
        /// An object of texts.
        case map
        case choice([String])
    }

    var name: String
    var kind: Kind
    var about: String
    var isRequired = false
    var standard: JSON?

    var schema: JSON {
        var schema: [String: JSON]
        switch kind {
        case .text(let limit): schema = ["type": "string", "maxLength": .integer(limit)]
        case .number(let range):
            schema = ["type": "integer", "minimum": .integer(range.lowerBound), "maximum": .integer(range.upperBound)]
        case .flag: schema = ["type": "boolean"]
        case .texts(let limit): schema = ["type": "array", "items": ["type": "string"], "maxItems": .integer(limit)]
        case .map: schema = ["type": "object", "additionalProperties": ["type": "string"]]
        case .choice(let words): schema = ["type": "string", "enum": .list(words.map { .string($0) })]
        }
        schema["description"] = .string(about)
        if let standard { schema["default"] = standard }
        return .object(schema)
    }

    /// What is wrong with a value; nil if nothing is.
    func problem(_ value: JSON) -> String? {
        switch (kind, value) {
        case (.text(let limit), .string(let text)):
            if text.utf8.count > limit { return "'\(name)' has \(text.utf8.count) bytes, the limit is \(limit)" }
            return text.utf8.contains(0) ? "'\(name)' must not hold a NUL byte" : nil
        case (.number(let range), .integer(let number)):
            return range.contains(number)
                ? nil : "'\(name)' is \(number), use \(range.lowerBound) to \(range.upperBound)"
        case (.flag, .bool): return nil
        case (.texts(let limit), .list(let items)):
            guard items.count <= limit else { return "'\(name)' has \(items.count) items, the limit is \(limit)" }
            return items.allSatisfy { $0.text != nil } ? nil : "'\(name)' must be a list of strings"
        case (.map, .object(let members)):
            return members.values.allSatisfy { $0.text != nil } ? nil : "'\(name)' must be an object of strings"
        case (.choice(let words), .string(let word)):
            return words.contains(word) ? nil : "'\(name)' must be one of \(words.joined(separator: ", "))"
        case (.text, _), (.choice, _): return "'\(name)' must be a string"
        case (.number, _): return "'\(name)' must be a whole number"
        case (.flag, _): return "'\(name)' must be true or false"
        case (.texts, _): return "'\(name)' must be a list of strings"
        case (.map, _): return "'\(name)' must be an object of strings"
        }
    }

    static func text(_ name: String, _ about: String, required: Bool = false, bytesMax: Int = 4096) -> Parameter {
        Parameter(name: name, kind: .text(bytesMax: bytesMax), about: about, isRequired: required)
    }

    static func number(_ name: String, _ range: ClosedRange<Int>, _ standard: Int?, _ about: String) -> Parameter {
        Parameter(name: name, kind: .number(range), about: about, standard: standard.map { .integer($0) })
    }
}

/// The checked arguments of one call.
struct ToolArguments: Sendable {
    private let values: [String: JSON]

    init(_ given: JSON?, _ parameters: [Parameter]) throws(ToolFailure) {
        var values: [String: JSON] = [:]
        switch given {
        case nil, .null: break
        case .object(let members): values = members
        default: throw ToolFailure("the arguments must be an object")
        }
        values = values.filter { $0.value != .null }
        let known = Set(parameters.map(\.name))
        if let unknown = values.keys.sorted().first(where: { !known.contains($0) }) {
            let names = known.sorted().joined(separator: ", ")
            throw ToolFailure(
                "there is no argument '\(unknown.prefix(64))'; there are: \(names.isEmpty ? "none" : names)")
        }
        for parameter in parameters {
            guard let value = values[parameter.name] else {
                if parameter.isRequired { throw ToolFailure("the argument '\(parameter.name)' is missing") }
                continue
            }
            if let problem = parameter.problem(value) { throw ToolFailure(problem) }
        }
        self.values = values
    }

    func text(_ name: String) -> String? {
        guard let text = values[name]?.text, !text.isEmpty else { return nil }
        return text
    }

    /// One that is required and may be empty, as the content of a file is.
    func whole(_ name: String) -> String { values[name]?.text ?? "" }

    func number(_ name: String) -> Int? { if case .integer(let number) = values[name] { number } else { nil } }
    func flag(_ name: String) -> Bool { values[name] == .bool(true) }

    func texts(_ name: String) -> [String]? {
        guard case .list(let items) = values[name] else { return nil }
        return items.compactMap(\.text)
    }

    func map(_ name: String) -> [String: String] {
        guard case .object(let members) = values[name] else { return [:] }
        return members.compactMapValues(\.text)
    }
}

/// A call that did not succeed, told to the model in its result, so that it can do something else.
struct ToolFailure: Error {
    var message: String
    init(_ message: String) { self.message = message }
}
