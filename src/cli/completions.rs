//! `altiplano completions SHELL`: a script by which a shell completes commands and options.

use clap_complete::Shell;
use serde::Serialize;

use super::Global;
use super::train::program;
use crate::error::Result;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell that reads the script.
    shell: Shell,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

pub(super) fn run(global: &Global, args: &Args, mut command: clap::Command) -> Result<()> {
    let mut bytes = vec![];
    clap_complete::generate(args.shell, &mut command, program(), &mut bytes);
    let script = Script { shell: args.shell.to_string(), script: String::from_utf8_lossy(&bytes).into_owned() };
    global.print(&script, || script.script.clone())
}
