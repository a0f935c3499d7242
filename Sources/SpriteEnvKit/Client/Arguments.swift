// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A command line, taken apart: options anywhere before `--`, the rest in order.
struct Arguments {
    private(set) var words: [String] = []
    /// What follows `--`; nil without one.
    private(set) var rest: [String]?
    private var values: [String: [String]] = [:]
    private var flags: Set<String> = []

    /// - Parameters:
    ///   - options: Those that take a value, with their dashes.
    ///   - flags: Those that do not; `--json` is always known.
    init(_ arguments: some Sequence<String>, options: Set<String> = [], flags known: Set<String> = []) throws {
        var iterator = arguments.makeIterator()
        while let argument = iterator.next() {
            if argument == "--" {
                var rest: [String] = []
                while let word = iterator.next() { rest.append(word) }
                self.rest = rest
                return
            }
            guard argument.hasPrefix("-"), argument != "-" else {
                words.append(argument)
                continue
            }
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            if known.contains(name) || name == "--json", parts.count == 1 {
                flags.insert(name)
            } else if options.contains(name) {
                guard let value = parts.count == 2 ? String(parts[1]) : iterator.next() else {
                    throw usage("\(name) needs a value")
                }
                values[name, default: []].append(value)
            } else {
                throw usage("there is no option '\(argument)' here")
            }
        }
    }

    var isJSON: Bool { flags.contains("--json") }
    func has(_ flag: String) -> Bool { flags.contains(flag) }
    func value(_ names: String...) -> String? { names.lazy.compactMap { values[$0]?.last }.first }
    func all(_ name: String) -> [String] { values[name] ?? [] }

    /// The only word, which must be there.
    func one(_ what: String) throws -> String {
        guard words.count == 1 else { throw usage("give exactly one \(what)") }
        return words[0]
    }

    func none() throws {
        guard words.isEmpty else { throw usage("'\(words[0])' is one word too many") }
    }
}

func usage(_ message: String) -> ClientFailure {
    ClientFailure("\(message); see 'sprite-env --help'", exitCode: 2)
}
