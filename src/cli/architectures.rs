//! Which architectures a command is about: named ones, those of a file, a sample, the whole space.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::names::Names;
use crate::error::{Error, Result};
use crate::philox::Stream;
use crate::report::score_table::{Row, Table};
use crate::search::domain::Whole;
use crate::search::strategy::random::distinct;
use crate::space::{Arch, Space};

/// Purpose word: order of architectures.
const SAMPLE_PURPOSE: u32 = 0x5343_5341;

#[derive(clap::Args)]
pub(super) struct Choice {
    /// Architectures to score.
    #[arg(long, num_args = 1..)]
    arch: Vec<String>,
    /// A file of architectures: one per line, or a CSV with a column `arch`, in quotes where names hold commas.
    #[arg(long)]
    pub archs: Option<PathBuf>,
    /// That many architectures at random: of the file, or of the space; one of each isomorphism class.
    #[arg(long)]
    sample: Option<usize>,
    /// Numeric column of the file: the sample takes one architecture from each of as many equal strata of it.
    #[arg(long, value_name = "COLUMN", requires_all = ["archs", "sample"])]
    stratify: Option<String>,
    /// The whole space, one architecture of each isomorphism class.
    #[arg(long, conflicts_with_all = ["arch", "archs", "sample"])]
    all: bool,
}

impl Choice {
    /// The architectures that were asked for, none twice.
    ///
    /// # Errors
    /// If none was, a name is none, or there are fewer than the sample.
    pub(super) fn architectures(&self, space: &dyn Space, seed: u64) -> Result<Vec<Arch>> {
        let mut list: Vec<Arch> = self.arch.iter().map(|text| space.parse(text)).collect::<Result<_>>()?;
        let mut strata = vec![];
        if let Some(path) = &self.archs {
            let rows = read(space, path, self.stratify.as_deref())?;
            strata = rows.iter().map(|(_, value)| *value).collect();
            list.extend(rows.into_iter().map(|(arch, _)| arch));
        }
        if self.all || (list.is_empty() && self.sample.is_some()) {
            list = match (space.classes(), self.sample) {
                (Some(classes), _) => classes.collect(),
                // Too many to list, and so to shuffle.
                (None, Some(count)) => distinct(&Whole(space), count, &|generation, slot| {
                    Box::new(Stream::new(seed, SAMPLE_PURPOSE, 1 + (generation << 32 | slot)))
                })?,
                (None, None) => {
                    let why = format!("the architectures of {} are too many to list; take a --sample", space.name());
                    return Err(Error::invalid("--all", why));
                }
            };
        }
        if let Some(count) = self.sample {
            let mut seen = HashSet::new();
            // Named architectures have no stratum; they are refused beside one by the column's length.
            let mut keyed: Vec<(f64, Arch)> = match &self.stratify {
                Some(_) if !self.arch.is_empty() => {
                    return Err(Error::invalid("--stratify", "is for the architectures of a file; leave --arch out"));
                }
                Some(_) => strata.into_iter().zip(list).collect(),
                None => list.into_iter().map(|arch| (0.0, arch)).collect(),
            };
            keyed.retain(|(_, arch)| seen.insert(space.canonical(arch)));
            if count == 0 || count > keyed.len() {
                return Err(Error::invalid("--sample", format!("{count} of {} different architectures", keyed.len())));
            }
            let mut stream = Stream::new(seed, SAMPLE_PURPOSE, 0);
            list = if self.stratify.is_some() {
                // In random order, so that a job that stops midway has a sample of all strata.
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                let border = |stratum: usize| stratum * keyed.len() / count;
                let mut pick =
                    |k: usize| keyed[border(k) + stream.below((border(k + 1) - border(k)) as u64) as usize].1.clone();
                let mut list: Vec<Arch> = (0..count).map(&mut pick).collect();
                stream.shuffle(&mut list);
                list
            } else {
                stream.shuffle(&mut keyed);
                keyed.into_iter().take(count).map(|(_, arch)| arch).collect()
            };
        }
        let mut seen = HashSet::new();
        list.retain(|arch| seen.insert(arch.clone()));
        if list.is_empty() {
            return Err(Error::invalid("architectures", "none is given; use --arch, --archs, --sample or --all"));
        }
        Ok(list)
    }
}

/// Architectures of a file, and the values of a column.
fn read(space: &dyn Space, path: &Path, column: Option<&str>) -> Result<Vec<(Arch, f64)>> {
    let names = Names::new(space);
    let identify = |name: &str| names.identify(name);
    let table = Table::read_list(path, &identify)?;
    let columns: Vec<usize> = column.map(|name| table.require("--stratify", name)).transpose()?.into_iter().collect();
    // Of the rows of one architecture the first counts.
    let picked = table.pick(&columns, &columns, None, &identify)?;
    let known = |row: &Row| {
        let fail = |why: String| Error::file(path, None, format!("line {}: {why}", row.line));
        let arch = names.arch(row.arch.own).ok_or_else(|| fail("names no architecture".into()))?;
        match (row.values.first(), column) {
            (Some(value), Some(name)) if !value.is_finite() => {
                Err(fail(format!("column `{name}` has {value}, which is no number to stratify by")))
            }
            (value, _) => Ok((arch, value.copied().unwrap_or_default())),
        }
    };
    let list = picked.rows.iter().map(known).collect::<Result<Vec<_>>>()?;
    if list.is_empty() {
        return Err(Error::file(path, None, "holds no architecture"));
    }
    Ok(list)
}
