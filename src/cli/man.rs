//! `altiplano man --out DIR`: a manual page of the program, and one of each command.

use std::path::{Path, PathBuf};

use clap_mangen::Man;
use serde::Serialize;

use super::Global;
use super::place::{FORCE, Outputs, Scratch};
use crate::error::{Error, Result, serialize_path};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder for the pages, such as ~/.local/share/man/man1, where `man` looks; it may hold others.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace pages that exist.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Done {
    #[serde(serialize_with = "serialize_path")]
    folder: PathBuf,
    pages: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args, command: clap::Command) -> Result<()> {
    let Args { out, force } = args;
    Outputs::new(&[]).folder("--out", out, None)?;
    // `help` would have a page for each command once more.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = vec![];
    collect(&command, &mut pages).map_err(Error::io("write", out))?;
    let refuse = (!force).then_some(FORCE);
    for (name, _) in pages.iter().filter(|_| out.is_dir()) {
        Outputs::new(&[]).file("--out", Some(&out.join(name)), &[], refuse)?;
    }
    // All are made before any takes the place of an earlier one.
    let scratch = Scratch::new(out)?;
    let put = |name: &str, bytes: &[u8]| {
        let path = scratch.at.join(name);
        std::fs::write(&path, bytes).map_err(Error::io("write", path))
    };
    pages.iter().try_for_each(|(name, bytes)| put(name, bytes))?;
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    for (name, _) in &pages {
        std::fs::rename(scratch.at.join(name), out.join(name)).map_err(Error::io("write", out.join(name)))?;
    }
    let done = Done { folder: out.clone(), pages: pages.into_iter().map(|(name, _)| name).collect() };
    global.print(&done, || text(&done, out))
}

/// The page of a command, behind those of its own commands.
fn collect(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        collect(inner, pages)?;
    }
    let page = Man::new(command.clone());
    let mut bytes = vec![];
    page.render(&mut bytes)?;
    pages.push((page.get_filename(), bytes));
    Ok(())
}

fn text(done: &Done, out: &Path) -> String {
    let first = done.pages.last().map_or("altiplano.1", String::as_str);
    format!(
        "{} pages in {}; read one with: man {}",
        done.pages.len(),
        out.display(),
        super::run::quoted(&out.join(first))
    )
}
