//! The `altiplano` program: parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    altiplano::cli::main()
}
