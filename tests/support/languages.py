# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Hello world in every language of the default layer: what is written, and what is run until it says it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    language: str
    file: str
    source: str
    #: Run by a shell in the folder with the file; compiles too, where that is how the language is used.
    command: str


PROGRAMS = [
    Program("Python", "hello.py", "print('hello')", "python3 hello.py"),
    Program("Node.js", "hello.js", "console.log('hello')", "node hello.js"),
    Program("TypeScript", "hello.ts", "const word: string = 'hello'; console.log(word)", "deno run hello.ts"),
    Program("TypeScript on Node.js", "hello.ts", "const word: string = 'hello'; console.log(word)", "node hello.ts"),
    Program("Go", "hello.go", 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n', "go run hello.go"),
    Program("Ruby", "hello.rb", "puts 'hello'", "ruby hello.rb"),
    Program("Rust", "hello.rs", 'fn main() { println!("hello"); }', "rustc hello.rs && ./hello"),
    Program(
        "Java", "Hello.java",
        'class Hello { public static void main(String[] a) { System.out.println("hello"); } }',
        "javac Hello.java && java Hello"),
    Program("PHP", "hello.php", "<?php echo \"hello\\n\";", "php hello.php"),
    Program("Erlang", "hello.erl", '-module(hello).\n-export([main/1]).\nmain(_) -> io:format("hello~n").\n', "escript hello.erl"),
    Program("Elixir", "hello.exs", 'IO.puts("hello")', "elixir hello.exs"),
    Program("C", "hello.c", '#include <stdio.h>\nint main(void) { puts("hello"); }\n', "gcc -o hello hello.c && ./hello"),
    Program(
        "C++", "hello.cpp", '#include <iostream>\nint main() { std::cout << "hello\\n"; }\n',
        "g++ -o hello hello.cpp && ./hello"),
    Program("Perl", "hello.pl", 'print "hello\\n";', "perl hello.pl"),
    Program("R", "hello.R", 'cat("hello\\n")', "Rscript hello.R"),
    Program("Lua", "hello.lua", "print('hello')", "lua5.4 hello.lua"),
]  # fmt: skip
