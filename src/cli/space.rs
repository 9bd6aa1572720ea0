//! `altiplano space list` and `altiplano space info`

use clap::Subcommand;
use serde::Serialize;

use super::Global;
use super::args::Sizes;
use crate::error::Result;
use crate::space::Space;
use crate::space::nas_bench_201::{CLASSES, SIZE};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// List the search spaces.
    List,
    /// Parameters and multiply-adds of an architecture.
    Info {
        #[command(flatten)]
        sizes: Sizes,
        /// The architecture's name in its space.
        #[arg(long)]
        arch: String,
    },
}

#[derive(Serialize)]
struct Listed {
    space: &'static str,
    architectures: usize,
    unique: usize,
    names: &'static str,
}

#[derive(Serialize)]
struct Info {
    space: String,
    arch: String,
    classes: usize,
    image: String,
    channels: usize,
    cells: usize,
    params: u64,
    macs: u64,
    representative: String,
    has_path: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    match &args.command {
        Sub::List => {
            let list = [Listed {
                space: "nas-bench-201",
                architectures: SIZE,
                unique: CLASSES,
                names: "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|, or six digits",
            }];
            global.print(&list, || {
                list.iter()
                    .map(|l| {
                        format!(
                            "{}: {} architectures, {} of them unique\n    named {}\n",
                            l.space, l.architectures, l.unique, l.names
                        )
                    })
                    .collect()
            })
        }
        Sub::Info { sizes, arch } => {
            let space = sizes.stand_alone()?;
            let arch = space.parse(arch)?;
            let s = space.sizes;
            let info = Info {
                space: space.name().into(),
                arch: arch.to_string(),
                classes: s.classes,
                image: format!("{}x{}", s.height, s.width),
                channels: s.channels,
                cells: s.cells,
                params: space.params(&arch),
                macs: space.macs(&arch),
                representative: arch.representative().to_string(),
                has_path: arch.has_path(),
            };
            global.print(&info, || {
                format!(
                    "{}\n{} parameters, {} multiply-adds for an image of {}, {} classes ({} channels, {} cells per stage)\n{}",
                    info.arch,
                    info.params,
                    info.macs,
                    info.image,
                    info.classes,
                    info.channels,
                    info.cells,
                    match (info.has_path, info.representative == info.arch) {
                        (false, _) => "no path leads from its input to its output".into(),
                        (true, true) => "first of its isomorphism class".into(),
                        (true, false) => format!("isomorphic to {}", info.representative),
                    }
                )
            })
        }
    }
}
