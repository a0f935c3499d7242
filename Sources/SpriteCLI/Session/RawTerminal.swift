// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites
import Synchronization

/// The terminal on standard input: raw mode, and back on every way out.
enum RawTerminal {
    private static let saved = Mutex<termios?>(nil)

    /// Turns off echo, line editing and signals, so that every key goes to the sprite.
    static func enter() {
        saved.withLock { saved in
            var settings = termios()
            guard isatty(0) == 1, tcgetattr(0, &settings) == 0 else { return }
            if saved == nil { saved = settings }
            cfmakeraw(&settings)
            _ = tcsetattr(0, TCSADRAIN, &settings)
        }
    }

    /// Turns off echo for a question whose answer nobody should read.
    static func hideInput() {
        saved.withLock { saved in
            var settings = termios()
            guard isatty(0) == 1, tcgetattr(0, &settings) == 0 else { return }
            if saved == nil { saved = settings }
            settings.c_lflag &= ~tcflag_t(ECHO)
            _ = tcsetattr(0, TCSAFLUSH, &settings)
        }
    }

    /// Puts it back as it was found; harmless if it never changed.
    static func restore() {
        saved.withLock { saved in
            guard var settings = saved else { return }
            // Typed keys are kept for the shell that comes next.
            _ = tcsetattr(0, TCSADRAIN, &settings)
            saved = nil
        }
    }

    /// Its size; nil if neither end of us is a terminal.
    static func size() -> TerminalSize? {
        for descriptor in [Int32(0), 1, 2] {
            var size = winsize()
            if ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0, size.ws_col > 0 {
                return TerminalSize(rows: Int(size.ws_row), columns: Int(size.ws_col))
            }
        }
        return nil
    }
}
