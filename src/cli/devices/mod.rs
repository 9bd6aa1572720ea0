//! `altiplano devices`: adapters, and with `--explain` what stands between a graphics card and its adapter.

mod advice;
mod explain;
mod hardware;
mod loader;
pub(super) mod own_manifest;
mod packages;
mod system;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use serde::Serialize;

use super::{Global, tiles};
use crate::error::Result;
use crate::gpu::{AdapterReport, adapters};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Say why there is no adapter, or why the graphics card is not the one chosen, and what to do.
    #[arg(long)]
    explain: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    report: &'a AdapterReport,
    /// Whether commands run with tiles that `altiplano tune` has stored.
    tuned: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.explain {
        return explain::run(global);
    }
    let choice = pollster::block_on(adapters(global.device.as_deref()))?;
    let listed = |report| Listed { report, tuned: tiles::tuned(report).is_some() };
    let list: Vec<Listed> = choice.adapters.iter().map(listed).collect();
    global.print(&list, || {
        let mut text = String::new();
        for Listed { report: a, tuned } in &list {
            let l = &a.limits;
            text += &format!(
                "{}{} {}\n    {}, {}, driver {}\n    {}bindings up to {} MiB, {} storage buffers, workgroup memory {} KiB, subgroups of {} to {}\n    features: {}\n    tiles: {}\n",
                if a.chosen { "* " } else { "  " },
                a.index,
                a.name,
                a.backend,
                a.kind,
                a.driver,
                a.memory.map_or(String::new(), |bytes| format!("{} MiB of memory, ", bytes >> 20)),
                l.slab_bytes >> 20,
                l.storage_buffers,
                l.workgroup_bytes >> 10,
                l.subgroup.0,
                l.subgroup.1,
                a.features.join(", "),
                if *tuned { "tuned" } else { "the preset's (`altiplano tune` looks for faster ones)" },
            );
        }
        let chosen = if choice.adapters.is_empty() { "" } else { "* chosen: " };
        text + chosen + &choice.why
    })
}
