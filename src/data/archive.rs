//! Tar archives and gzip streams, read front to back with limits.

use super::left_out::LeftOut;
use super::source::{Key, Limits, leave_out};
use crate::error::{Error, Result};
use flate2::bufread::GzDecoder;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The most bytes of a header that carries a long name.
const MAX_HEADER: u64 = 64 << 10;

/// Key to (name in the archive, contents).
pub(super) type Members = BTreeMap<String, (String, Held)>;

/// Where the contents of an archive's member are.
pub(super) enum Held {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Collects the wanted members of the archive `path`, which `inner` reads.
pub(super) fn read_members(
    path: &Path,
    inner: impl Read,
    key: &Key,
    limits: Limits,
    into: Option<&Path>,
    left_out: &mut LeftOut,
) -> Result<Members> {
    let position = Rc::new(Cell::new(0));
    let reader = Capped { inner, position: position.clone(), limit: limits.archive };
    let failed = |e: io::Error| match is_content(&e) {
        true => Error::file(path, Some(position.get()), format!("not a readable tar archive: {e}")),
        false => Error::io("read", path)(e),
    };
    let mut members = Members::new();
    // The name that stands before a member whose header has no room for it.
    let mut long_name = None;
    let mut archive = tar::Archive::new(reader);
    // Raw: the crate would trust the sizes of what carries long names.
    for entry in archive.entries().map_err(failed)?.raw(true) {
        let mut entry = entry.map_err(failed)?;
        let (kind, size, start) = (entry.header().entry_type(), entry.size(), position.get());
        let wrong = |why: String| Error::file(path, Some(start), why);
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            if size > MAX_HEADER {
                return Err(wrong(format!("a header of {size} bytes before a member; at most {MAX_HEADER} are read")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 != size {
                return Err(wrong(format!("a header is cut off: expected {size} bytes, found {}", bytes.len())));
            }
            let found = if kind.is_gnu_longname() {
                Some(bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec())
            } else {
                pax_path(&bytes).ok_or_else(|| wrong("a PAX header that is not `length key=value` per line".into()))?
            };
            long_name = found.or(long_name);
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            continue;
        }
        let bytes = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let full = String::from_utf8_lossy(&bytes).into_owned();
        if !kind.is_file() {
            continue;
        }
        let Some(name) = key(&full).map_err(wrong)? else {
            leave_out(left_out, &full);
            continue;
        };
        let member = path.join(&full);
        if size > limits.file {
            let why = format!("{size} bytes; at most {} are read", limits.file);
            return Err(Error::file(member, None, why));
        }
        if members.contains_key(&name) {
            let why = format!("`{name}` is in it twice; expected one data set per archive");
            return Err(Error::file(path, Some(start), why));
        }
        let (held, length) = match into {
            None => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(failed)?;
                let length = bytes.len() as u64;
                (Held::Bytes(bytes), length)
            }
            Some(folder) => {
                let file = folder.join(&name);
                let length = unpack(&mut entry, &file, &failed)?;
                (Held::File(file), length)
            }
        };
        if length != size {
            let why = format!("`{full}` is cut off: expected {size} bytes, found {length}");
            return Err(Error::file(path, Some(start + length), why));
        }
        members.insert(name, (full, held));
    }
    // Up to the end, where gzip keeps the checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    Ok(members)
}

/// Copies a member into a new file, whose folder is made where it is missing, a part at a time; returns its length.
pub(super) fn unpack(entry: &mut impl Read, file: &Path, failed: &impl Fn(io::Error) -> Error) -> Result<u64> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let mut to = File::create_new(file).map_err(Error::io("create", file))?;
    let (mut part, mut length) = (vec![0; 1 << 16], 0);
    loop {
        let read = entry.read(&mut part).map_err(failed)?;
        if read == 0 {
            return Ok(length);
        }
        to.write_all(&part[..read]).map_err(Error::io("write", file))?;
        length += read as u64;
    }
}

/// The path in a PAX header, whose lines are `length key=value`, the length being that of the line. `None` if they are
/// not.
fn pax_path(mut bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut path = None;
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        if record[..equals] == *b"path" {
            path = Some(record[equals + 1..].to_vec());
        }
        bytes = &bytes[length..];
    }
    Some(path)
}

/// Whether an error is about the bytes and not about the system.
pub(super) fn is_content(e: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(e.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// Counts bytes and fails beyond a limit.
struct Capped<R> {
    inner: R,
    position: Rc<Cell<u64>>,
    limit: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position.set(self.position.get() + n as u64);
        if self.position.get() > self.limit {
            let why = format!("it holds more than {} bytes, the most that is read of an archive", self.limit);
            return Err(io::Error::other(why));
        }
        Ok(n)
    }
}

/// Decompresses gzip, whose members may follow each other; behind the last one there may be zeros, which fill a tape's
/// block.
pub(super) struct GzMembers<R> {
    /// `None` at the end.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzMembers<R> {
    pub fn new(inner: R) -> Self {
        GzMembers { decoder: Some(GzDecoder::new(inner)) }
    }
}

impl<R: BufRead> Read for GzMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            match decoder.get_mut().fill_buf()?.first().copied() {
                None => self.decoder = None,
                Some(0) => {
                    only_zeros(decoder.get_mut())?;
                    self.decoder = None;
                }
                Some(_) => self.decoder = self.decoder.take().map(|ended| GzDecoder::new(ended.into_inner())),
            }
        }
        Ok(0)
    }
}

/// Reads to the end, which must be nothing but zeros.
fn only_zeros(inner: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = inner.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more than zeros behind the end of gzip's data"));
        }
        let length = bytes.len();
        inner.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::Source;
    use crate::data::source::tests::{gz, tar_of};

    fn open(bytes: &[u8]) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar.gz");
        std::fs::write(&path, bytes).unwrap();
        Source::archive(&path, |name| name.starts_with('a'), Limits::default(), None)
    }

    fn message(bytes: &[u8]) -> String {
        open(bytes).err().unwrap().to_string()
    }

    /// An entry of any kind.
    fn entry(kind: tar::EntryType, name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        let mut block = [header.as_bytes().as_slice(), bytes].concat();
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }

    /// A line of a PAX header.
    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length += 1;
        }
        format!("{length}{rest}").into_bytes()
    }

    #[test]
    fn long_names_are_read() {
        use tar::EntryType as Kind;
        let folder = "a-rather-long-folder-name/".repeat(6);
        let long = format!("{folder}a1.txt");
        // The crate writes GNU's long names itself.
        let source = open(&gz(&tar_of(&[(long.as_str(), b"one\n")]))).unwrap();
        assert_eq!(source.lines("a1.txt").unwrap(), ["one"]);
        assert!(source.path("a1.txt").ends_with(&long));
        // PAX: other keys, a line break within a value, a global header, a folder whose name is not the next file's.
        let path = record("path", &long);
        let header = [record("comment", "two\nlines"), path.clone(), record("mtime", "1.5")].concat();
        let tar = [
            entry(Kind::XGlobalHeader, "g", &record("path", "every/a9.txt")),
            entry(Kind::XHeader, "x", &header),
            entry(Kind::Regular, "b", b"one\n"),
            entry(Kind::XHeader, "x", &record("path", &folder)),
            entry(Kind::Directory, "d", b""),
            entry(Kind::Regular, "a2.txt", b"two\n"),
            vec![0; 1024],
        ]
        .concat();
        for bytes in [gz(&tar), tar] {
            let source = open(&bytes).unwrap();
            assert_eq!(source.names().collect::<Vec<_>>(), ["a1.txt", "a2.txt"]);
            assert_eq!(source.lines("a1.txt").unwrap(), ["one"]);
        }
        // Torn and hostile headers.
        let with = |header: &[u8]| [entry(Kind::XHeader, "x", header), entry(Kind::Regular, "b", b"1")].concat();
        for bad in
            [&path[..path.len() - 1], b"0 path=a", b"x path=a\n", b"99999999999999999999 path=a\n", b"9 path:a\n", b"7"]
        {
            let why = message(&with(bad));
            assert!(why.contains("a PAX header"), "{why}");
        }
        assert!(message(&with(&vec![b'1'; 70_000])).contains("at most 65536"));
        let mut cut = entry(Kind::GNULongName, "L", &[b'a'; 2000]);
        cut.truncate(1500);
        assert!(message(&cut).contains("a header is cut off"), "{}", message(&cut));
    }

    #[test]
    fn zeros_behind_gzip_are_padding() {
        let whole = gz(&tar_of(&[("a", b"1")]));
        for zeros in [1, 511, 200_000] {
            let source = open(&[whole.clone(), vec![0; zeros]].concat()).unwrap();
            assert_eq!(source.lines("a").unwrap(), ["1"]);
        }
        for more in [b"\0\0\x01".as_slice(), b"x", &[0x1f, 0x8b]] {
            let why = message(&[whole.as_slice(), more].concat());
            assert!(why.contains("not a readable tar archive"), "{why}");
        }
        // Members that follow each other are one stream.
        let tar = tar_of(&[("a", &[b'7'; 900])]);
        let two = [gz(&tar[..700]), gz(&tar[700..]), vec![0; 512]].concat();
        assert_eq!(open(&two).unwrap().lines("a").unwrap(), ["7".repeat(900)]);
        // A file of its own is padded alike.
        let inner = [gz(b"1\n"), vec![0; 100]].concat();
        assert_eq!(open(&tar_of(&[("a.gz", inner.as_slice())])).unwrap().lines("a.gz").unwrap(), ["1"]);
    }
}
