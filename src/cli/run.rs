//! A run in a folder: how it begins, goes on, and says how its network can be had again.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Global;
use super::configuration::{Configured, FILE, with_record};
use super::inputs::Record;
use super::place::{Outputs, data_place};
use super::progress::{Display, say};
use super::signs::Signs;
use super::tiles::{gpu_for_run, record};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::progress::Observer;
use crate::report::folder::{Existing, RESULT, RunFolder, TILES};

/// Where a run's results go, and what is done with those that are there.
pub(super) struct Place<'a> {
    pub global: &'a Global,
    /// The folder.
    pub out: &'a Path,
    pub resume: bool,
    pub force: bool,
    /// Whether a run that goes on must have the version, adapter, driver and tiles that it began with.
    pub strict: bool,
}

/// What a run does once its folder is open.
type InFolder<'a, R> = dyn FnMut(&Gpu, Preset, &RunFolder, &mut Observer) -> Result<R> + 'a;

/// Runs `job` in the folder, with its tiles and its configuration written first; a run that never began leaves nothing
/// behind.
///
/// # Errors
/// What the place, the adapter and the job have to say.
pub(super) fn in_folder<C: Serialize, R>(
    place: &Place,
    run: &Configured<C>,
    job: &mut InFolder<R>,
) -> Result<(R, RunFolder)> {
    let Place { global, out, resume, .. } = *place;
    let inputs: Vec<&str> = run.record.inputs.values().map(|input| input.path.as_str()).collect();
    let inputs: Vec<Option<&Path>> = inputs.into_iter().map(data_place).collect();
    Outputs::new(&inputs).folder("--out", out, None)?;
    let (gpu, preset) = gpu_for_run(global, out, resume)?;
    let mut now = run.record.clone().with_adapter(gpu.report(), preset);
    if place.strict && !run.begun.as_ref().is_some_and(Record::is_complete) {
        let why = "the run does not say with which version, adapter, driver and tiles it began; go on without --strict";
        return Err(Error::invalid("--strict", why));
    }
    if let Some(begun) = &run.begun {
        let changes = begun.changes(&now);
        if place.strict && !changes.is_empty() {
            let why = format!("the run would go on with something else, perhaps to other bits: {}", changes.join("; "));
            return Err(Error::invalid("--strict", why));
        }
        changes.iter().for_each(|change| say(&format!("warning: {change}; the run may end with other bits")));
        now.changes = [&begun.changes[..], &changes].concat();
    }
    let existing = match (resume, place.force) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Force,
        _ => Existing::Refuse,
    };
    let mut folder = RunFolder::create(out, existing)?;
    folder.set_changes(now.changes.clone());
    folder.write(TILES, &record(preset)?)?;
    folder.write(FILE, with_record(&run.config, &now)?.as_bytes())?;
    let mut display = Display::new(global)?;
    let mut signs = Signs::new(&folder);
    let result = job(&gpu, preset, &folder, &mut |event| {
        signs.event(event);
        display.event(event)
    });
    display.finish();
    signs.end(result.as_ref().err());
    match result {
        Ok(result) => Ok((result, folder)),
        Err(error) => {
            folder.abandon();
            Err(error)
        }
    }
}

/// What a finished search says of itself.
///
/// # Errors
/// If there is none in the folder, or one of another version.
pub(super) fn finished<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    let path = folder.join(RESULT);
    if !path.exists() {
        return Err(Error::file(folder, None, "holds no result.json: it is no search that was finished"));
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::file(&path, None, format!("{e}; expected the result of a search by this version")))
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_they_must_be() {
        assert_eq!(quoted(Path::new("runs/a-1.b")), "runs/a-1.b");
        assert_eq!(quoted(Path::new("my run's")), r"'my run'\''s'");
    }
}
