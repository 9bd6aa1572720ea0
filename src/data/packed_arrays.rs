//! Archives of `.npy` files, unpacked into a folder: what `CorruptedSet` reads one image at a time lies on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Limits, Source};
use crate::error::{Error, Result};

/// Unpacks the arrays of a `.tar`, `.tar.gz` or `.zip` into the new folder `into`, whatever folders they are in there; returns
/// how many there are. One of them must be `labels.npy`. All else in the archive is left out: members of other names, links,
/// and paths that lead elsewhere.
///
/// The folder is there whole or not at all; until it is whole it has `.unpacking` behind its name.
///
/// # Errors
/// [`Error::File`] if the archive is damaged, too large, has a name twice or no labels, or if `into` is there already;
/// [`Error::Io`] if reading or writing fails.
pub fn unpack_arrays(archive: &Path, into: &Path) -> Result<usize> {
    if fs::symlink_metadata(into).is_ok() {
        return Err(Error::file(into, None, "is there already; move it away"));
    }
    let mut name = into.as_os_str().to_owned();
    name.push(".unpacking");
    let scratch = PathBuf::from(name);
    // Of a run that was killed.
    if scratch.is_dir() {
        fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?;
    }
    fs::create_dir(&scratch).map_err(Error::io("create", &scratch))?;
    let unpacked = unpack(archive, &scratch)
        .and_then(|count| fs::rename(&scratch, into).map(|()| count).map_err(Error::io("rename", &scratch)));
    if unpacked.is_err() {
        let _ = fs::remove_dir_all(&scratch);
    }
    unpacked
}

fn unpack(archive: &Path, into: &Path) -> Result<usize> {
    let source = Source::archive(archive, is_array, Limits::default(), Some(into))?;
    if !source.has("labels.npy") {
        return Err(Error::file(
            archive,
            None,
            "has no labels.npy; expected an archive of corrupted images, as CIFAR-10-C",
        ));
    }
    Ok(source.names().count())
}

/// Whether a base name is that of an array, and a harmless one on any disk.
fn is_array(name: &str) -> bool {
    let stem = name.strip_suffix(".npy").unwrap_or_default();
    !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::tests::tar_of;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn arrays_are_unpacked_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, into) = (dir.path().join("c.tar"), dir.path().join("c"));
        // What a killed run left.
        fs::create_dir(dir.path().join("c.unpacking")).unwrap();
        fs::write(dir.path().join("c.unpacking/fog.npy"), "old").unwrap();
        let files: [(&str, &[u8]); 5] = [
            ("C/labels.npy", b"1"),
            ("C/fog.npy", b"23"),
            ("C/._fog.npy", b"x"),
            ("C/notes.txt", b"x"),
            ("C/deep/gaussian_noise.npy", b""),
        ];
        fs::write(&archive, tar_of(&files)).unwrap();
        assert_eq!(unpack_arrays(&archive, &into).unwrap(), 3);
        assert_eq!(names(dir.path()), ["c", "c.tar"]);
        assert_eq!(names(&into), ["fog.npy", "gaussian_noise.npy", "labels.npy"]);
        assert_eq!(fs::read(into.join("fog.npy")).unwrap(), b"23");
        // What is there is not touched.
        let why = unpack_arrays(&archive, &into).unwrap_err().to_string();
        assert!(why.contains("is there already"), "{why}");
    }

    #[test]
    fn nothing_stays_of_a_bad_archive() {
        let whole = tar_of(&[("C/labels.npy", b"1"), ("C/fog.npy", &[7; 2000])]);
        let mut outside = tar_of(&[("labels.npy", b"1"), ("up.npy", b"2")]);
        // The crate writes no such name itself; the sum over the header is right for it.
        let at = outside.len() - 1024 - 1024;
        let mut header = tar::Header::from_byte_slice(&outside[at..at + 512]).clone();
        header.as_old_mut().name[..14].copy_from_slice(b"../../a/up.npy");
        header.set_cksum();
        outside[at..at + 512].copy_from_slice(header.as_bytes());
        for (bytes, want) in [
            (whole[..whole.len() - 2048].to_vec(), "cut off"),
            (tar_of(&[("C/fog.npy", b"1")]), "has no labels.npy"),
            (tar_of(&[("a/labels.npy", b"1"), ("b/labels.npy", b"1")]), "in it twice"),
            (b"<html>not found</html>".to_vec(), "neither zip nor gzip nor tar"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let archive = dir.path().join("c.tar");
            fs::write(&archive, bytes).unwrap();
            let why = unpack_arrays(&archive, &dir.path().join("c")).unwrap_err().to_string();
            assert!(why.contains(want), "{why}");
            assert_eq!(names(dir.path()), ["c.tar"]);
        }
        // A path that leads elsewhere counts by its last part.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.tar"), outside).unwrap();
        assert_eq!(unpack_arrays(&dir.path().join("c.tar"), &dir.path().join("c")).unwrap(), 2);
        assert_eq!(names(dir.path()), ["c", "c.tar"]);
        assert_eq!(names(&dir.path().join("c")), ["labels.npy", "up.npy"]);
    }
}
