//! `altiplano space list` and `altiplano space info`

use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;

use super::Global;
use super::args::Sizes;
use crate::error::Result;
use crate::nn::count::Cost;
use crate::nn::space::{Build, Networks};
use crate::philox::Stream;
use crate::space::Space;

/// Purpose word: what is chosen where an architecture is repaired.
const REPAIR_PURPOSE: u32 = 0x5245_5041;

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
        /// Make one of what is no architecture, at random (--seed) where there is a choice.
        #[arg(long)]
        repair: bool,
    },
}

#[derive(Serialize)]
struct Listed {
    space: String,
    /// None beyond 64 bits.
    architectures: Option<u64>,
    /// None where they cannot be listed.
    unique: Option<u64>,
    forms: Vec<String>,
    names: String,
}

#[derive(Serialize)]
struct Info {
    space: String,
    arch: String,
    /// What it was made of, if that was no architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<String>,
    build: Build,
    /// Rows and columns that it sees, which are not the build's where architectures have sides of their own.
    image: [usize; 2],
    params: u64,
    macs: u64,
    representative: String,
    /// Whether the space has no two names for one network, if that is known.
    #[serde(skip)]
    unique: Option<bool>,
    remark: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    match &args.command {
        Sub::List => {
            let listed = |space: &Arc<dyn Networks>| {
                let plain: &dyn Space = &**space;
                Listed {
                    space: space.name().to_owned(),
                    architectures: plain.count().or(plain.vectors()),
                    unique: plain.count_classes(),
                    forms: space.forms().iter().map(|form| (*form).to_owned()).collect(),
                    names: space.notation().to_owned(),
                }
            };
            let list: Vec<Listed> = global.registry.spaces().map(listed).collect();
            global.print(&list, || list.iter().map(Listed::text).collect())
        }
        Sub::Info { sizes, arch: text, repair } => {
            let family = sizes.stand_alone(global)?;
            let parsed = family.parse(text);
            let is_repaired = *repair && parsed.is_err();
            let arch = match is_repaired {
                true => family.repaired(family.read(text)?, &mut Stream::new(global.seed, REPAIR_PURPOSE, 0))?,
                false => parsed?,
            };
            let Cost { params, macs } = family.cost(&arch)?;
            let [height, width, _] = family.network(&arch)?.input();
            let info = Info {
                space: family.name().into(),
                arch: family.show(&arch),
                repaired: is_repaired.then(|| text.clone()),
                build: family.build.clone(),
                image: [height, width],
                params,
                macs,
                representative: family.show(&family.canonical(&arch)),
                unique: family.count_classes().map(|classes| Some(classes) == family.vectors()),
                remark: family.remark(&arch).map(str::to_owned),
            };
            global.print(&info, || info.text())
        }
    }
}

impl Listed {
    fn text(&self) -> String {
        let Listed { space, architectures, unique, forms, names } = self;
        let many = architectures.map_or("more than 2^64".to_owned(), |count| count.to_string());
        let unique = unique.map_or(String::new(), |unique| format!(", {unique} of them unique"));
        let names = if names.is_empty() { String::new() } else { format!("    named {names}\n") };
        format!("{space}: {many} architectures{unique}\n{names}    networks: {}\n", forms.join(", "))
    }
}

impl Info {
    fn text(&self) -> String {
        let Info { arch, build, params, macs, representative, remark, .. } = self;
        let [height, width] = self.image;
        let same = match (representative == arch, self.unique) {
            (true, Some(true)) => "no other architecture is the same network".to_owned(),
            (true, Some(false)) => "first of its isomorphism class".to_owned(),
            (true, None) => String::new(),
            (false, _) => format!("isomorphic to {representative}"),
        };
        let repaired =
            self.repaired.as_ref().map_or(String::new(), |text| format!("repaired: {text} is no architecture\n"));
        format!(
            "{repaired}{arch}\n{params} parameters, {macs} multiply-adds for an image of {height}x{width}, {} classes ({})\n{}",
            build.classes,
            build.words(),
            remark.as_ref().unwrap_or(&same)
        )
        .trim_end()
        .to_owned()
    }
}
