// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import Sprites

struct Copy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp", abstract: "Copy files and directories into a sprite or out of it.",
        usage: "sprite cp SOURCE... NAME:PATH\nsprite cp NAME:PATH... DESTINATION",
        discussion: """
            A path in a sprite has the sprite's name and a colon before it; without a name it is the sprite of -s or \
            .sprite. Relative paths begin at /home/sprite. A directory that is there gets the copy inside it. Existing \
            files are replaced and keep their permissions.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "What to copy, and last where to.")
    var paths: [String]

    func validate() throws {
        guard paths.count >= 2 else { throw ValidationError("give what to copy and where to") }
    }

    func run() async throws {
        let context = try Context(global)
        let places = try paths.map(Place.init)
        guard let destination = places.last else { return }
        for source in places.dropLast() {
            switch (source, destination) {
            case (.here(let path), .inside(let name, let target)):
                try await FileCopy(try context.sprite(name)).upload(path, to: target, hasSiblings: places.count > 2)
            case (.inside(let name, let path), .here(let target)):
                try await FileCopy(try context.sprite(name)).download(path, to: target)
            default:
                throw UsageError("one side must be in a sprite (NAME:PATH) and the other on this machine")
            }
        }
    }
}

/// One side of a copy.
enum Place: Equatable {
    case here(String)
    case inside(sprite: String?, String)

    /// A colon after what can be a name, or at the front, is a path in a sprite; `./a:b` never is.
    init(_ text: String) throws {
        guard let colon = text.firstIndex(of: ":"), !text[..<colon].contains("/") else {
            self = .here(text)
            return
        }
        let name = String(text[..<colon])
        let path = String(text[text.index(after: colon)...])
        self = .inside(sprite: name.isEmpty ? nil : name, path.isEmpty ? "." : path)
    }
}

/// Copies between this machine and one sprite.
struct FileCopy {
    let sprite: Sprite

    init(_ sprite: Sprite) { self.sprite = sprite }

    /// - Parameter hasSiblings: Several are copied, so that the target can only be a directory.
    func upload(_ path: String, to target: String, hasSiblings: Bool = false) async throws {
        var facts = stat()
        guard stat(path, &facts) == 0 else { throw CommandFailure("cannot read \(path): \(errnoText(errno))") }
        var target = target
        var goesInside = target.hasSuffix("/") || hasSiblings
        if !goesInside { goesInside = try await isDirectory(target) }
        if goesInside { target += "/\(lastPart(path))" }
        if facts.st_mode & S_IFMT == S_IFDIR {
            let tar = try Tar(["-C", path, "-cf", "-", "."], reading: true)
            try await sprite.unpack(target, Pieces(tar.descriptor))
            try tar.finish()
        } else {
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { throw CommandFailure("cannot read \(path): \(errnoText(errno))") }
            defer { close(file) }
            let mode = String(facts.st_mode & 0o777, radix: 8)
            try await sprite.write(target, mode: "0\(mode)", Pieces(file))
        }
    }

    func download(_ path: String, to target: String) async throws {
        var target = target
        var facts = stat()
        if target.hasSuffix("/") || (stat(target, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR) {
            target += "/\(lastPart(path))"
        }
        let entries = try await sprite.list(path)
        if entries.count == 1, let entry = entries.first, isSame(entry.path, path), entry.type != "directory" {
            let mode = mode_t(entry.mode, radix: 8) ?? 0o644
            // Replaced at once, so that a copy that breaks off leaves what was there.
            let temporary = "\(target).\(getpid()).tmp"
            let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0o777)
            guard file >= 0 else { throw CommandFailure("cannot write \(temporary): \(errnoText(errno))") }
            do {
                try await sprite.read(path) { try Self.write($0, file) }
                guard close(file) == 0, rename(temporary, target) == 0 else {
                    throw CommandFailure("cannot write \(target): \(errnoText(errno))")
                }
            } catch {
                unlink(temporary)
                throw error
            }
        } else {
            guard mkdir(target, 0o777) == 0 || errno == EEXIST else {
                throw CommandFailure("cannot make \(target): \(errnoText(errno))")
            }
            let tar = try Tar(["-C", target, "-xf", "-"], reading: false)
            do {
                try await sprite.pack(path) { try Self.write($0, tar.descriptor) }
            } catch {
                // What tar says of it, such as a full disk, is the reason.
                try tar.finish()
                throw error
            }
            try tar.finish()
        }
    }

    private static func write(_ piece: [UInt8], _ descriptor: Int32) throws {
        let number = piece.withUnsafeBytes { writeAll(descriptor, $0) }
        guard number == 0 else { throw CommandFailure("cannot write: \(errnoText(number))") }
    }

    private func isDirectory(_ path: String) async throws -> Bool {
        do {
            let entries = try await sprite.list(path)
            return !(entries.count == 1 && entries.first.map { isSame($0.path, path) } == true)
        } catch let error as SpritesError where error.status == 404 {
            return false
        }
    }

    /// A directory's entry has a longer path than the directory that was asked for.
    private func isSame(_ path: String, _ asked: String) -> Bool {
        lastPart(path) == lastPart(asked) && path.split(separator: "/").count == absolute(asked).count
    }

    private func absolute(_ path: String) -> [Substring] {
        (path.hasPrefix("/") ? path : "/home/sprite/\(path)").split(separator: "/").filter { $0 != "." }
    }

    private func lastPart(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
}

/// The content of a file or pipe, read when it is asked for.
struct Pieces: AsyncSequence, Sendable {
    typealias Element = [UInt8]
    private static let size = 256 << 10
    private let descriptor: Int32

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    func makeAsyncIterator() -> Iterator { Iterator(descriptor: descriptor) }

    struct Iterator: AsyncIteratorProtocol {
        let descriptor: Int32

        mutating func next() async throws -> [UInt8]? {
            let descriptor = descriptor
            var number: Int32 = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: Pieces.size) { memory, count in
                var result = -1
                repeat { result = read(descriptor, memory.baseAddress, Pieces.size) } while result < 0 && errno == EINTR
                number = result < 0 ? errno : 0
                count = Swift.max(0, result)
            }
            guard number == 0 else { throw CommandFailure("cannot read: \(errnoText(number))") }
            return bytes.isEmpty ? nil : bytes
        }
    }
}

/// The system's tar at the other end of a pipe.
private final class Tar {
    let descriptor: Int32
    private let process: pid_t
    private var isFinished = false

    /// - Parameter reading: We read what it writes; otherwise it reads what we write.
    init(_ arguments: [String], reading: Bool) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw CommandFailure("cannot make a pipe: \(errnoText(errno))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[reading ? 1 : 0], reading ? 1 : 0)
        let pointers = (["tar"] + arguments).map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        let number = posix_spawnp(&process, "tar", &actions, nil, pointers, environ)
        close(ends[reading ? 1 : 0])
        guard number == 0 else {
            close(ends[reading ? 0 : 1])
            throw CommandFailure("cannot run tar: \(errnoText(number))")
        }
        self.process = process
        descriptor = ends[reading ? 0 : 1]
    }

    func finish() throws {
        guard !isFinished else { return }
        isFinished = true
        close(descriptor)
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { throw CommandFailure("tar failed; what it says stands above") }
    }

    deinit { try? finish() }
}
