//! Zip archives, NumPy's `.npz` among them, read with limits.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::{Held, Members, unpack};
use super::left_out::LeftOut;
use super::source::{Key, Limits, leave_out};
use crate::error::{Error, Result};

/// How zip archives begin.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Collects the wanted members of the archive `path`, which `file` reads.
pub(super) fn read_members(
    path: &Path,
    file: BufReader<File>,
    key: &Key,
    limits: Limits,
    into: Option<&Path>,
    left_out: &mut LeftOut,
) -> Result<Members> {
    let unreadable = |why: String| Error::file(path, None, format!("not a readable zip archive: {why}"));
    let failed = |e: ZipError| unreadable(e.to_string());
    let mut archive = ZipArchive::new(file).map_err(failed)?;
    if archive.has_duplicate_names() {
        return Err(unreadable("a name is in it twice".into()));
    }
    let (mut members, mut total) = (Members::new(), 0_u64);
    for place in 0..archive.len() {
        // Whether it can be decompressed matters only if it is wanted.
        let (full, size, is_file) = {
            let member = archive.by_index_raw(place).map_err(failed)?;
            (String::from_utf8_lossy(member.name_raw()).into_owned(), member.size(), member.is_file())
        };
        if !is_file {
            continue;
        }
        let refused = |why: String| Error::file(path, None, why);
        let Some(name) = key(&full.replace('\\', "/")).map_err(refused)? else {
            leave_out(left_out, &full);
            continue;
        };
        if members.contains_key(&name) {
            return Err(Error::file(path, None, format!("`{name}` is in it twice; expected one data set per archive")));
        }
        let most = limits.file.min(limits.archive.saturating_sub(total));
        let too_long = |length: u64| {
            let why =
                format!("{length} bytes; at most {} are read of a file, {} of an archive", limits.file, limits.archive);
            Error::file(path.join(&full), None, why)
        };
        if size > most {
            return Err(too_long(size));
        }
        let member = archive.by_index(place).map_err(failed)?;
        // What it says of its size need not be so.
        let mut member = member.take(most.saturating_add(1));
        let broken = |e: std::io::Error| Error::file(path.join(&full), None, format!("cannot decompress: {e}"));
        let (held, length) = match into {
            None => {
                let mut bytes = Vec::new();
                let length = member.read_to_end(&mut bytes).map_err(broken)? as u64;
                (Held::Bytes(bytes), length)
            }
            Some(folder) => {
                let file = folder.join(&name);
                let length = unpack(&mut member, &file, &broken)?;
                (Held::File(file), length)
            }
        };
        if length > most {
            return Err(too_long(length));
        }
        if length != size {
            return Err(Error::file(path.join(&full), None, format!("{length} bytes, and its head says {size}")));
        }
        total += length;
        members.insert(name, (full, held));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;
    use crate::data::source::Source;
    use crate::data::{Format, load};

    /// Packs files.
    fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(vec![]));
        for (i, (name, bytes)) in files.iter().enumerate() {
            let method = if i % 2 == 0 { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
            writer.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn open(bytes: &[u8], limits: Limits) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.zip");
        std::fs::write(&path, bytes).unwrap();
        let folder = dir.path().join("in/unpacked");
        std::fs::create_dir_all(&folder).unwrap();
        let wanted = |name: &str| name.starts_with('a');
        // Unpacked it is the same, and nothing lies anywhere else.
        let unpacked = Source::archive(&path, wanted, limits, Some(&folder)).map(drop);
        let kept = Source::archive(&path, wanted, limits, None);
        assert_eq!(kept.as_ref().err().map(ToString::to_string), unpacked.err().map(|e| e.to_string()));
        let around = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!((around(dir.path()), around(&dir.path().join("in"))), (2, 1));
        kept
    }

    #[test]
    fn members_are_found_by_base_name_and_climb_nowhere() {
        let names: [(&str, &[u8]); 5] = [
            ("x/a.txt", b"one\n"),
            ("../../a2.txt", b"two\n"),
            ("/tmp/a3.txt", b"3\n"),
            ("..\\a4.txt", b"4\n"),
            ("b", b"x"),
        ];
        let source = open(&zip_of(&names), Limits::default()).unwrap();
        assert_eq!(source.names().collect::<Vec<_>>(), ["a.txt", "a2.txt", "a3.txt", "a4.txt"]);
        assert_eq!(
            (source.lines("a.txt").unwrap(), source.lines("a2.txt").unwrap()),
            (vec!["one".into()], vec!["two".to_owned()])
        );
        let error = open(&zip_of(&[("p/a", b"1"), ("q/a", b"2")]), Limits::default()).err().unwrap();
        assert!(error.to_string().contains("`a` is in it twice"), "{error}");
    }

    #[test]
    fn bombs_and_lies_are_refused() {
        let message = |bytes: &[u8], limits| open(bytes, limits).err().unwrap().to_string();
        let bomb = zip_of(&[("a", &vec![0; 1 << 20])]);
        assert!(bomb.len() < 5000);
        let why = message(&bomb, Limits { file: 1000, archive: 5000 });
        assert!(why.contains("1048576 bytes; at most 1000"), "{why}");
        let several = zip_of(&[("a1", &[1; 600]), ("a2", &[1; 600])]);
        assert!(message(&several, Limits { file: 1000, archive: 1000 }).contains("1000 of an archive"));
        // One that says less than it holds: the size stands in the directory at the end.
        let mut liar = bomb.clone();
        let at = liar.windows(4).rposition(|head| head == b"PK\x01\x02").unwrap() + 24;
        liar[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
        let why = message(&liar, Limits { file: 1000, archive: 5000 });
        assert!(why.contains("set.zip/a"), "{why}");
        for cut in [5, 40, bomb.len() / 2, bomb.len() - 1] {
            let why = message(&bomb[..cut], Limits::default());
            assert!(why.contains("set.zip"), "{why}");
        }
    }

    #[test]
    fn damaged_archives_never_panic() {
        let whole = zip_of(&[("x/a1", &[7; 600]), ("x/a2", &[9; 20])]);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0xFF >> (place % 7);
            if let Ok(source) = open(&bytes, Limits::default()) {
                // Contents are summed, names are not.
                assert!(source.names().count() <= 2);
            }
        }
    }

    #[test]
    fn arrays_as_numpy_packs_them_are_a_set() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
        let sets = ["arrays.npz", "packed.npz"].map(|name| load(golden.join(name).to_str().unwrap()).unwrap());
        for set in &sets {
            assert_eq!((set.format, set.train.len(), set.test.len(), set.train.classes), (Format::Npy, 6, 2, 3));
            assert_eq!((set.train.height, set.train.width, set.train.channels), (5, 4, 1));
            assert_eq!(set.train.at_hand(1).unwrap()[..3], [20, 21, 22]);
            assert_eq!((set.train.labels.as_slice(), set.files.len()), ([0, 1, 2, 0, 1, 2].as_slice(), 1));
        }
        assert_eq!(sets[0].train, sets[1].train);
    }
}
