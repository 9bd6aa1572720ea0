//! `altiplano data list|info|verify|download`

mod download;
#[cfg(feature = "download")]
mod fetch;
#[cfg(feature = "download")]
mod part;

use clap::Subcommand;

use super::Global;
use super::inputs::ReadingArgs;
use crate::data::{describe_with, known, published};
use crate::error::{Result, path_text};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// The formats that are read, and where to get data in them.
    List,
    /// What a data set holds.
    Info {
        /// `digits`, or a folder or archive.
        data: String,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Read a data set whole and print its checksum.
    Verify {
        /// `digits`, or a folder or archive.
        data: String,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Fetch published data sets, check them, and put them where they are read from.
    Download(download::Args),
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    match &args.command {
        Sub::List => {
            let list = known();
            global.print(&list, || {
                let download = |name| format!("    altiplano data download {name} --out DIR\n");
                let mut text: String = list
                    .iter()
                    .map(|k| {
                        let get = k.download.map(download).unwrap_or_default();
                        format!("{} ({})\n    {}\n    {}\n{get}", k.name, k.format, k.layout, k.get)
                    })
                    .collect();
                for set in published().iter().filter(|set| set.layout.is_none()) {
                    text +=
                        &format!("{}, for evaluate --corrupted\n    {}\n{}", set.name, set.page, download(set.name));
                }
                text
            })
        }
        Sub::Download(args) => download::run(global, args),
        Sub::Info { data, reading } | Sub::Verify { data, reading } => {
            let s = describe_with(data, &reading.reading())?;
            global.print(&s, || {
                let verified = match (&args.command, s.left_out) {
                    (Sub::Verify { .. }, 0) => "whole: yes\n".into(),
                    (Sub::Verify { .. }, n) => format!("whole: what was read is; left out {n}, see the note\n"),
                    _ => String::new(),
                };
                // The note has the first of them.
                let bad = s.unreadable.iter().skip(1).map(|bad| format!("cannot be read: {}: {}\n", path_text(&bad.file), bad.why));
                let bad: String = bad.collect();
                let notes: String = s.notes.iter().map(|note| format!("note: {note}\n")).collect();
                format!(
                    "{} ({}), {}\n{}x{} with {} channels, {} classes: {}\ntraining {} images, test {} images\nmean {:.4?}, deviation {:.4?}\nCRC-32 {}\n{verified}{notes}{bad}",
                    s.name,
                    s.format,
                    s.source,
                    s.height,
                    s.width,
                    s.channels,
                    s.classes,
                    s.class_names.join(", "),
                    s.train.images,
                    s.test.images,
                    s.mean,
                    s.std,
                    s.crc32,
                )
            })
        }
    }
}
