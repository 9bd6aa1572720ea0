//! Named files in a folder, or in a tar or zip archive, read with limits.
//!
//! Every reader of a layout goes through [`Reader`], which checks each request against what is there before
//! memory is taken, counts bytes for messages, and caps what decompression may produce.

use super::archive::{GzMembers, Held, Members, is_content, read_members};
use super::left_out::LeftOut;
use super::zip_archive;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most bytes of a text file.
const MAX_TEXT: u64 = 16 << 20;

/// How much a single file and a whole archive may hold, decompressed, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub file: u64,
    pub archive: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { file: 2 << 30, archive: 4 << 30 }
    }
}

/// By what an archive's member is kept, given its name in the archive with `/` between folders: the name under which it is found, none if
/// it is not wanted, or why the archive is refused.
pub(super) type Key<'k> = dyn Fn(&str) -> std::result::Result<Option<String>, String> + 'k;

/// A folder, or the members of interest of an archive.
pub(super) struct Source {
    root: PathBuf,
    names: BTreeSet<String>,
    /// `None` for a folder.
    members: Option<Members>,
    limits: Limits,
    left_out: LeftOut,
    /// Names of what was opened.
    opened: RefCell<BTreeSet<String>>,
}

/// Adds a file that is not wanted to what is left out, if it looks like a part of a data set by its name.
pub(super) fn leave_out(left_out: &mut LeftOut, path: &str) {
    if path.rsplit('/').next().is_some_and(|name| name.starts_with('.')) {
        return;
    }
    let plain = path.strip_suffix(".gz").unwrap_or(path);
    for (ending, kind) in [(".npy", ".npy file"), (".bin", ".bin file"), ("ubyte", "IDX file")] {
        if plain.ends_with(ending) {
            left_out.add(path.into(), kind, "the layout has no such name");
        }
    }
}

impl Source {
    /// The files directly in `root` whose name is `wanted`.
    pub fn folder(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Source> {
        let (mut names, mut left_out) = (BTreeSet::new(), LeftOut::default());
        for entry in std::fs::read_dir(root).map_err(Error::io("read", root))? {
            let entry = entry.map_err(Error::io("read", root))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !root.join(&name).is_file() {
                continue;
            }
            if wanted(&name) {
                names.insert(name);
            } else {
                leave_out(&mut left_out, &name);
            }
        }
        let opened = RefCell::default();
        Ok(Source { root: root.to_path_buf(), names, members: None, limits: Limits::default(), left_out, opened })
    }

    /// The members of a `.tar.gz`, `.tar`, `.zip` or `.npz` whose base name is `wanted`. Only plain members count; links and
    /// devices are skipped.
    ///
    /// They are kept in memory, or unpacked into the folder `into`.
    pub fn archive(path: &Path, wanted: impl Fn(&str) -> bool, limits: Limits, into: Option<&Path>) -> Result<Source> {
        let base = |full: &str| full.rsplit('/').next().unwrap_or_default().to_owned();
        Self::members_by(path, &|full| Ok(Some(base(full)).filter(|name| wanted(name))), limits, into)
    }

    /// The same of members that are kept by their own keys, below folders where these have some.
    pub fn members_by(path: &Path, key: &Key, limits: Limits, into: Option<&Path>) -> Result<Source> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let mut magic = Vec::new();
        (&mut file).take(512).read_to_end(&mut magic).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
        let (file, mut left_out) = (BufReader::new(file), LeftOut::default());
        if magic.starts_with(zip_archive::MAGIC) {
            let members = zip_archive::read_members(path, file, key, limits, into, &mut left_out)?;
            return Ok(Self::of_members(path, members, limits, left_out));
        }
        let inner: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(GzMembers::new(file))
        } else if magic.get(257..262) == Some(b"ustar") {
            Box::new(file)
        } else {
            let why = "neither zip nor gzip nor tar; expected a folder, or a .tar.gz, .tgz, .tar, .zip or .npz archive. If this is \
                       one file of a data set, name its folder";
            return Err(Error::file(path, Some(0), why));
        };
        let members = read_members(path, inner, key, limits, into, &mut left_out)?;
        Ok(Self::of_members(path, members, limits, left_out))
    }

    fn of_members(path: &Path, members: Members, limits: Limits, left_out: LeftOut) -> Source {
        let (names, opened) = (members.keys().cloned().collect(), RefCell::default());
        Source { root: path.to_path_buf(), names, members: Some(members), limits, left_out, opened }
    }

    /// The folder or archive.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All wanted names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What looks like a part of a data set and is none.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The files on the disk that were opened: of an archive itself.
    pub fn files_read(&self) -> Vec<PathBuf> {
        match self.members {
            Some(_) => vec![self.root.clone()],
            None => self.opened.borrow().iter().map(|name| self.root.join(name)).collect(),
        }
    }

    /// The path of a file, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        match self.members.as_ref().and_then(|m| m.get(name)) {
            Some((full, _)) => self.root.join(full),
            None => self.root.join(name),
        }
    }

    /// Where a file lies on the disk, if it does.
    pub fn on_disk(&self, name: &str) -> Option<PathBuf> {
        match &self.members {
            None => Some(self.root.join(name)),
            Some(members) => match members.get(name) {
                Some((_, Held::File(file))) => Some(file.clone()),
                _ => None,
            },
        }
    }

    /// Opens a file; one whose name ends in `.gz` is decompressed.
    pub fn open(&self, name: &str) -> Result<Reader<'_>> {
        let path = self.path(name);
        let mut reader = match &self.members {
            Some(members) => match members.get(name) {
                Some((_, Held::Bytes(bytes))) => Reader::of_bytes(&path, bytes),
                Some((_, Held::File(file))) => Reader { path: path.as_path().into(), ..Reader::of_file(file)? },
                None => return Err(Error::file(path, None, "this member is missing from the archive")),
            },
            None => Reader::of_file(&path)?,
        };
        self.opened.borrow_mut().insert(name.to_owned());
        reader.limit = self.limits.file;
        if name.ends_with(".gz") {
            let buffered = BufReader::with_capacity(1 << 16, reader.inner);
            reader.inner = Box::new(GzMembers::new(buffered));
            reader.len = None;
        }
        Ok(reader)
    }

    /// The non-empty lines of a small text file, trimmed.
    pub fn lines(&self, name: &str) -> Result<Vec<String>> {
        let text = self.open(name)?.text("one name per line")?;
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
    }
}

/// One file, read front to back.
pub(super) struct Reader<'a> {
    path: PathBuf,
    inner: Box<dyn Read + 'a>,
    offset: u64,
    /// Total length, unless it comes out of a decompressor.
    len: Option<u64>,
    limit: u64,
}

impl<'a> Reader<'a> {
    /// Reads from memory; `path` is for messages.
    pub fn of_bytes(path: &Path, bytes: &'a [u8]) -> Self {
        let limit = Limits::default().file;
        Reader { path: path.into(), inner: Box::new(bytes), offset: 0, len: Some(bytes.len() as u64), limit }
    }

    /// Reads a file, which must be a regular one.
    pub fn of_file(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        if !metadata.is_file() {
            return Err(Error::file(path, None, "expected a regular file"));
        }
        let file = File::open(path).map_err(Error::io("read", path))?;
        let limit = Limits::default().file;
        Ok(Reader { path: path.into(), inner: Box::new(file), offset: 0, len: Some(metadata.len()), limit })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Total length, unless the file is compressed.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// An error at the current byte.
    pub fn error(&self, why: impl Into<String>) -> Error {
        Error::file(&self.path, Some(self.offset), why)
    }

    /// Exactly `count` bytes; `what` they are is for the message when the file ends before.
    pub fn exact(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        if self.offset.saturating_add(count) > self.limit {
            return Err(self.error(format!("{what} takes {count} bytes; at most {} are read", self.limit)));
        }
        let mut bytes = Vec::new();
        if let Some(len) = self.len {
            let left = len.saturating_sub(self.offset);
            if count > left {
                self.offset = len;
                return Err(self.error(format!("the file ends within {what}: expected {count} bytes, found {left}")));
            }
            self.reserve(&mut bytes, count)?;
        }
        self.read_up_to(count, &mut bytes)?;
        if (bytes.len() as u64) < count {
            let found = bytes.len();
            return Err(self.error(format!("the file ends within {what}: expected {count} bytes, found {found}")));
        }
        Ok(bytes)
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let too_long = format!("more than {} bytes, the most that is read of one file", self.limit);
        let mut bytes = Vec::new();
        if let Some(len) = self.len {
            if len > self.limit {
                return Err(self.error(too_long));
            }
            self.reserve(&mut bytes, len.saturating_sub(self.offset))?;
        }
        let most = self.limit.saturating_sub(self.offset).saturating_add(1);
        self.read_up_to(most, &mut bytes)?;
        if self.offset > self.limit {
            return Err(self.error(too_long));
        }
        Ok(bytes)
    }

    /// At most `count` bytes: fewer at the end.
    pub fn some(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_up_to(count.min(self.limit.saturating_sub(self.offset)), &mut bytes)?;
        Ok(bytes)
    }

    /// The whole of a small text file; `what` is expected of it.
    pub fn text(&mut self, what: &str) -> Result<String> {
        self.limit = self.limit.min(MAX_TEXT);
        String::from_utf8(self.rest()?).map_err(|e| {
            let offset = e.utf8_error().valid_up_to() as u64;
            Error::file(&self.path, Some(offset), format!("expected UTF-8 text, {what}"))
        })
    }

    /// Errors unless the file ends here.
    pub fn end(&mut self) -> Result<()> {
        let at = self.offset;
        let mut bytes = Vec::new();
        self.read_up_to(1, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        Err(Error::file(&self.path, Some(at), "expected the end of the file here, but there is more"))
    }

    fn reserve(&self, bytes: &mut Vec<u8>, count: u64) -> Result<()> {
        let fits = usize::try_from(count).ok().and_then(|count| bytes.try_reserve_exact(count).ok());
        fits.ok_or_else(|| self.error(format!("{count} bytes do not fit into memory")))
    }

    fn read_up_to(&mut self, count: u64, bytes: &mut Vec<u8>) -> Result<()> {
        let outcome = (&mut self.inner).take(count).read_to_end(bytes);
        self.offset += bytes.len() as u64;
        outcome.map(|_| ()).map_err(|e| match is_content(&e) {
            true => self.error(format!("cannot decompress: {e}; the file is damaged, cut off or not gzip")),
            false => Error::io("read", &self.path)(e),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    /// Compresses.
    pub fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Packs files into a tar archive.
    pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: &[u8], limits: Limits) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar.gz");
        std::fs::write(&path, bytes).unwrap();
        let kept = Source::archive(&path, |name| name.starts_with('a'), limits, None);
        let folder = dir.path().join("unpacked");
        std::fs::create_dir(&folder).unwrap();
        // Unpacked it holds the same, or fails alike.
        match (&kept, Source::archive(&path, |name| name.starts_with('a'), limits, Some(&folder))) {
            (Ok(kept), Ok(unpacked)) => {
                for name in kept.names() {
                    let read = |source: &Source| source.open(name).unwrap().rest().map_err(|e| e.to_string());
                    assert_eq!(read(kept), read(&unpacked));
                    assert!(unpacked.on_disk(name).unwrap().is_file() && kept.on_disk(name).is_none());
                }
            }
            (Err(kept), Err(unpacked)) => assert_eq!(kept.to_string(), unpacked.to_string()),
            (kept, unpacked) => panic!("{:?} and {:?}", kept.as_ref().err(), unpacked.err()),
        }
        kept
    }

    #[test]
    fn members_are_found_by_base_name() {
        let tar = tar_of(&[("x/a.txt", b"one\n\n two \n"), ("x/b", b"no")]);
        for bytes in [gz(&tar), tar] {
            let source = open(&bytes, Limits::default()).unwrap();
            assert_eq!(source.names().collect::<Vec<_>>(), ["a.txt"]);
            assert_eq!(source.lines("a.txt").unwrap(), ["one", "two"]);
            assert!(source.path("a.txt").ends_with("set.tar.gz/x/a.txt"));
        }
    }

    #[test]
    fn bombs_hit_the_limits() {
        let bomb = gz(&tar_of(&[("b", &vec![0; 1 << 20]), ("a", b"x")]));
        let error = open(&bomb, Limits { file: 100, archive: 100_000 }).err().unwrap().to_string();
        assert!(error.contains("more than 100000 bytes") && error.contains("set.tar.gz"), "{error}");
        let error = open(&gz(&tar_of(&[("a", &[0; 101])])), Limits { file: 100, archive: 1 << 20 }).err().unwrap();
        assert!(error.to_string().contains("101 bytes; at most 100"), "{error}");
        let inner = gz(&[0; 1000]);
        let source = open(&gz(&tar_of(&[("a.gz", &inner)])), Limits { file: 100, archive: 1 << 20 }).unwrap();
        let error = source.open("a.gz").unwrap().rest().unwrap_err();
        assert!(error.to_string().contains("more than 100 bytes"), "{error}");
    }

    #[test]
    fn doubled_and_foreign_files_are_refused() {
        let error = open(&gz(&tar_of(&[("p/a", b"1"), ("q/a", b"2")])), Limits::default()).err().unwrap();
        assert!(error.to_string().contains("twice"), "{error}");
        let whole = gz(&tar_of(&[("a", b"1")]));
        let error = open(&whole[..whole.len() - 1], Limits::default()).err().unwrap();
        assert!(error.to_string().contains("not a readable tar archive"), "{error}");
        let error = open(b"PK\x03\x04", Limits::default()).err().unwrap();
        assert!(error.to_string().contains("not a readable zip archive"), "{error}");
        let error = open(b"7z\xBC\xAF", Limits::default()).err().unwrap();
        assert!(error.to_string().contains("neither zip nor gzip nor tar"), "{error}");
        assert!(open(b"", Limits::default()).is_err());
    }

    #[test]
    fn requests_beyond_the_end_take_no_memory() {
        let mut reader = Reader::of_bytes(Path::new("f"), b"abc");
        let error = reader.exact(1 << 30, "pixels").unwrap_err();
        assert_eq!(error.to_string(), "f at byte 3: the file ends within pixels: expected 1073741824 bytes, found 3");
        assert!(Reader::of_bytes(Path::new("f"), b"").exact(u64::MAX, "x").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn damaged_archives_never_panic(keep in 0usize..4000, at in 0usize..4000, value: u8, packed: bool) {
            let tar = tar_of(&[("x/a1", &[7; 600]), ("x/a2", &[9; 20])]);
            let mut bytes = if packed { gz(&tar) } else { tar };
            let whole = bytes.len();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= value;
            }
            bytes.truncate(keep);
            match open(&bytes, Limits::default()) {
                Err(e) => prop_assert!(e.to_string().contains("set.tar.gz"), "{}", e),
                Ok(_) => prop_assert!(!packed || keep >= whole, "cut gzip was taken"),
            }
        }
    }
}
