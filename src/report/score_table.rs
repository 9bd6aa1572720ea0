//! Tables of numbers by architecture, as CSV: scores and accuracies.
//!
//! The first line names the columns; one of them is `arch`. Where a list of architectures will do, there need not be such a line
//! ([`Table::read_list`]). Files may have a byte order mark, cells in quotes and lines that end in `\r\n`. An empty cell, `nan`
//! and `inf` are numbers that are not finite. What an architecture is, and which ones are the same, is for the caller to say
//! ([`Identity`]).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use crate::error::{Error, Result, unknown};

/// The column with the architecture's name.
pub const ARCH: &str = "arch";

/// Largest file, in bytes, and most columns.
const MAX_BYTES: u64 = 256 << 20;
const MAX_COLUMNS: usize = 4_096;

/// Which architecture a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number in the space.
    pub own: u64,
    /// The number of its class: architectures of one class are the same network.
    pub class: u64,
    /// Whether it is the one that stands for its class.
    pub representative: bool,
}

/// Says which architecture a name is.
pub type Identify<'a> = dyn Fn(&str) -> Result<Identity> + 'a;

/// A file as it was read; its cells are text still.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<(u64, StringRecord)>,
}

/// One architecture's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line in the file, from 1.
    pub line: u64,
    /// The architecture.
    pub arch: Identity,
    /// One for each column that was picked, NaN for an empty cell.
    pub values: Vec<f64>,
}

/// Rows of a table, no architecture twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picked {
    /// In the file's order.
    pub rows: Vec<Row>,
    /// Rows left out because they repeat another one.
    pub duplicates: usize,
    /// Rows left out because another one of their class is there; see [`one_per_class`].
    pub isomorphic: usize,
}

impl Table {
    /// Reads a file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &contents(path)?)
    }

    /// Reads a file that may also be a list without a line that names the columns: then its first cell is an architecture, and
    /// the column below it is called [`ARCH`].
    pub fn read_list(path: impl AsRef<Path>, identify: &Identify) -> Result<Self> {
        let path = path.as_ref();
        Self::records(path, &contents(path)?, Some(identify))
    }

    /// Reads text; errors name `path`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::records(path, bytes, None)
    }

    /// With `list` the names of the columns may be missing.
    fn records(path: &Path, bytes: &[u8], list: Option<&Identify>) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut lines = Lines { bytes, at: 0, line: 1 };
        let fail = |line: u64, why: String| Error::file(path, None, format!("line {line}: {why}"));
        let (mut header, mut rows): (Vec<String>, Vec<(u64, StringRecord)>) = (vec![], vec![]);
        let mut record = StringRecord::new();
        loop {
            let more = reader.read_record(&mut record);
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(broken(path, e, &mut lines)),
            }
            let line = lines.of(record.position());
            if record.len() == 1 && record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            if header.is_empty() {
                if record.len() > MAX_COLUMNS {
                    return Err(fail(
                        line,
                        format!("there are {} columns, expected at most {MAX_COLUMNS}", record.len()),
                    ));
                }
                let listed = list.map(|identify| identify(record.get(0).unwrap_or_default()));
                if !matches!(listed, Some(Ok(_))) {
                    header = record.iter().map(|name| name.trim().to_owned()).collect();
                    check_header(&header, listed.and_then(Result::err)).map_err(|why| fail(line, why))?;
                    continue;
                }
                header.push(ARCH.to_owned());
                // Whatever else such lines have, has no name.
                header.resize(record.len(), String::new());
            }
            if record.len() != header.len() {
                return Err(fail(line, format!("has {} cells, the header {}", record.len(), header.len())));
            }
            rows.push((line, record.clone()));
        }
        if header.is_empty() {
            let line = if list.is_some() { "; expected architectures, one per line, or" } else { "; expected" };
            return Err(Error::file(
                path,
                None,
                format!("is empty{line} a CSV file whose first line names the columns"),
            ));
        }
        Ok(Table { path: path.to_owned(), header, rows })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The place of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|known| known == name)
    }

    /// The place of a column that `option` asks for.
    pub fn require(&self, option: &str, name: &str) -> Result<usize> {
        let known: Vec<&str> = self.header.iter().map(String::as_str).collect();
        let what = || format!("{option}: column of {}", self.path.display());
        self.find(name).ok_or_else(|| unknown(&what(), &shorten(name), &known))
    }

    /// Columns that hold a number in some row, or nothing at all.
    pub fn numeric(&self) -> Vec<usize> {
        let empty =
            |column: usize| self.rows.iter().all(|(_, row)| row.get(column).is_none_or(|c| c.trim().is_empty()));
        let number = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|(_, row)| row.get(column));
            cells.any(|cell| !cell.trim().is_empty() && number(cell).is_some())
        };
        (0..self.header.len()).filter(|column| number(*column) || empty(*column)).collect()
    }

    /// The different texts in a column, in the order in which they appear.
    pub fn texts(&self, column: usize) -> Vec<String> {
        let mut known = HashSet::new();
        let cells = self.rows.iter().filter_map(|(_, row)| row.get(column)).map(str::trim);
        cells.filter(|text| known.insert(*text)).map(str::to_owned).collect()
    }

    /// The numbers in `columns`, in rows whose cell in column `only.0` is `only.1`.
    ///
    /// A second row of an architecture must repeat the first in all of them but those that `loose` names (seconds, which
    /// differ from run to run); then it is left out.
    pub fn pick(
        &self,
        columns: &[usize],
        loose: &[usize],
        only: Option<(usize, &str)>,
        identify: &Identify,
    ) -> Result<Picked> {
        let arch = self.find(ARCH).unwrap_or_default();
        let mut picked = Picked::default();
        let mut known: HashMap<u64, usize> = HashMap::new();
        for (line, cells) in &self.rows {
            if only.is_some_and(|(column, text)| cells.get(column).unwrap_or_default().trim() != text) {
                continue;
            }
            let fail = |column: usize, why: String| {
                let name = shorten(&self.header[column]);
                Error::file(&self.path, None, format!("line {line}, column `{name}`: {why}"))
            };
            let identity = identify(cells.get(arch).unwrap_or_default()).map_err(|e| fail(arch, e.to_string()))?;
            let cell = |column: &usize| {
                let text = cells.get(*column).unwrap_or_default();
                number(text).ok_or_else(|| fail(*column, format!("`{}` is no number", shorten(text))))
            };
            let values = columns.iter().map(cell).collect::<Result<Vec<f64>>>()?;
            let Some(before) = known.get(&identity.own).map(|place| &picked.rows[*place]) else {
                known.insert(identity.own, picked.rows.len());
                picked.rows.push(Row { line: *line, arch: identity, values });
                continue;
            };
            let pairs = columns.iter().zip(before.values.iter().zip(&values));
            let mut different = pairs.filter(|(c, (a, b))| !loose.contains(c) && a != b && !(a.is_nan() && b.is_nan()));
            if let Some((column, (first, second))) = different.next() {
                let why = format!("{second}, but line {} has {first} for the same architecture", before.line);
                return Err(fail(*column, why));
            }
            picked.duplicates += 1;
        }
        Ok(picked)
    }
}

/// Keeps of each class the first row that is preferred, or else the first.
pub fn one_per_class(picked: &mut Picked, preferred: impl Fn(&Row) -> bool) {
    let mut chosen: HashMap<u64, usize> = HashMap::new();
    for (place, row) in picked.rows.iter().enumerate() {
        let slot = chosen.entry(row.arch.class).or_insert(place);
        if preferred(row) && !preferred(&picked.rows[*slot]) {
            *slot = place;
        }
    }
    let before = picked.rows.len();
    let mut place = 0;
    picked.rows.retain(|row| {
        place += 1;
        chosen.get(&row.arch.class) == Some(&(place - 1))
    });
    picked.isomorphic += before - picked.rows.len();
}

/// Pairs of rows of one class, in the order of `left`; `right` has one row of each class.
pub fn join<'a>(left: &'a Picked, right: &'a Picked) -> Vec<(&'a Row, &'a Row)> {
    let by_class: HashMap<u64, &Row> = right.rows.iter().map(|row| (row.arch.class, row)).collect();
    left.rows.iter().filter_map(|row| Some((row, *by_class.get(&row.arch.class)?))).collect()
}

/// A cell's number, NaN if it is empty.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.is_empty() { Some(f64::NAN) } else { text.parse().ok() }
}

/// What is wrong with the names of columns; `listed` is why their line is no architecture, if that would do too.
fn check_header(header: &[String], listed: Option<Error>) -> std::result::Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    if let Some((place, name)) =
        header.iter().enumerate().find(|(_, name)| !name.is_empty() && !seen.insert(name.as_str()))
    {
        return Err(format!("column {} is another `{}`", place + 1, shorten(name)));
    }
    if header.iter().any(|name| name == ARCH) {
        return Ok(());
    }
    let names: Vec<String> = header.iter().take(20).map(|name| shorten(name)).collect();
    let listed = listed.map(|why| format!("; nor does it begin a list of architectures: {why}")).unwrap_or_default();
    Err(format!("there is no column `{ARCH}`; the columns are {}{listed}", names.join(", ")))
}

/// The bytes of a file that is not too large.
fn contents(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let meta = file.metadata().map_err(Error::io("read", path))?;
    if meta.is_dir() {
        return Err(Error::file(path, None, "is a folder; expected a CSV file"));
    }
    if meta.len() > MAX_BYTES {
        let why = format!("has {} bytes, expected at most {MAX_BYTES}", meta.len());
        return Err(Error::file(path, None, why));
    }
    let mut bytes = vec![];
    // What is no plain file tells no length.
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Counts lines up to a record. The reader's own count is one behind after `\r\n`, and after empty lines.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line in which the record at `position` begins; positions must not go back.
    fn of(&mut self, position: Option<&csv::Position>) -> u64 {
        let start = position.map_or(0, |at| at.byte() as usize);
        while let Some(byte) = self.bytes.get(self.at) {
            let breaks = matches!(byte, b'\r' | b'\n');
            if self.at >= start && !breaks {
                break;
            }
            let pair = *byte == b'\r' && self.bytes.get(self.at + 1) == Some(&b'\n');
            self.line += u64::from(breaks && !pair);
            self.at += 1;
        }
        self.line
    }
}

fn broken(path: &Path, error: csv::Error, lines: &mut Lines) -> Error {
    let line = error.position().map(|at| format!("line {}: ", lines.of(Some(at)))).unwrap_or_default();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("read", path)(source),
        csv::ErrorKind::Utf8 { .. } => Error::file(path, None, format!("{line}is not UTF-8 text")),
        other => Error::file(path, None, format!("{line}is no CSV ({other:?})")),
    }
}

/// At most 60 characters of something that a file has.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers name architectures; those with the same tens are one class, its round number stands for it.
    fn identify(text: &str) -> Result<Identity> {
        let own: u64 = text.trim().parse().map_err(|_| Error::invalid("arch", format!("`{text}`")))?;
        Ok(Identity { own, class: own / 10, representative: own.is_multiple_of(10) })
    }

    fn parse(text: &str) -> Result<Table> {
        Table::parse(Path::new("t.csv"), text.as_bytes())
    }

    fn all(text: &str) -> Result<Picked> {
        let table = parse(text)?;
        let columns: Vec<usize> = (0..table.header().len()).filter(|c| table.header()[*c] != ARCH).collect();
        let loose: Vec<usize> = table.find("seconds").into_iter().collect();
        table.pick(&columns, &loose, None, &identify)
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let message = all(text).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not in: {message}"));
    }

    #[test]
    fn reads_cells_and_joins_by_class() {
        let text = "\u{feff}arch, a ,seconds\r\n13,1.5,1\r\n\r\n 10 ,nan,2\r\n13,1.5,3\r\n\"27\",,\r\n31,-inf,1\r\n";
        let mut scores = all(text).unwrap();
        let lines: Vec<u64> = scores.rows.iter().map(|row| row.line).collect();
        assert_eq!((lines, scores.duplicates), (vec![2, 4, 6, 7], 1));
        assert!(scores.rows[2].values[0].is_nan() && scores.rows[3].values[0] == f64::NEG_INFINITY);
        one_per_class(&mut scores, |row| row.arch.representative);
        let kept: Vec<u64> = scores.rows.iter().map(|row| row.arch.own).collect();
        assert_eq!((kept, scores.isomorphic), (vec![10, 27, 31], 1));
        let truth = all("arch,b\n30,3\n19,1\n55,5\n").unwrap();
        let joined = join(&scores, &truth);
        let values: Vec<_> = joined.iter().map(|(s, t)| (s.arch.own, t.values[0])).collect();
        assert_eq!(values, [(10, 1.0), (31, 3.0)]);
    }

    #[test]
    fn columns_are_found_by_name_and_by_content() {
        let table = parse("arch,set,acc,none\n1,x,1,\n2,y,,\n3,x,inf,\n").unwrap();
        assert_eq!(table.numeric(), [0, 2, 3]);
        assert_eq!(table.texts(1), ["x", "y"]);
        assert_eq!(table.pick(&[2], &[], Some((1, "x")), &identify).unwrap().rows.len(), 2);
        let message = table.require("--columns", "ac").unwrap_err().to_string();
        assert!(message.contains("--columns: column of t.csv") && message.contains("did you mean `acc`?"), "{message}");
    }

    #[test]
    fn a_list_needs_no_names() {
        let list = |text: &str| {
            let table = Table::records(Path::new("l.txt"), text.as_bytes(), Some(&identify))?;
            table.pick(&[], &[], None, &identify)
        };
        for text in
            ["13\n27\n", "\u{feff}\"13\"\r\n \r\n27\r\n", "13,x,x\n27,,\n", "arch\n13\n27", "a,\"arch\"\n1,13\n,27\n"]
        {
            let own: Vec<u64> = list(text).unwrap().rows.iter().map(|row| row.arch.own).collect();
            assert_eq!(own, [13, 27], "{text:?}");
        }
        for (text, parts) in [
            ("", &["l.txt", "one per line"][..]),
            ("x\n13\n", &["line 1", "no column `arch`", "list of architectures: arch: `x`"]),
            ("13\n\n27\nx\n", &["l.txt", "line 4, column `arch`: arch: `x`"]),
            ("13\n27,1\n", &["line 2", "has 2 cells"]),
        ] {
            let message = list(text).unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not in: {message}"));
        }
        // Where a list will not do, it is a table without the column.
        assert!(parse("13\n27\n").unwrap_err().to_string().contains("no column `arch`"));
    }

    #[test]
    fn bad_tables_are_refused_with_their_place() {
        refused("", &["t.csv", "is empty"]);
        refused("name,a\n1,2\n", &["line 1", "no column `arch`", "name, a"]);
        refused("arch,a,a\n", &["line 1", "column 3 is another `a`"]);
        refused("arch,a\n1,2\n1\n", &["line 3", "has 1 cells, the header 2"]);
        refused("arch,a\n1,2\n2,x\n", &["t.csv", "line 3, column `a`: `x` is no number"]);
        refused("arch,a\nz,2\n", &["line 2, column `arch`", "`z`"]);
        refused("arch,a\n1,2\n2,2\n1,3\n", &["line 4, column `a`: 3, but line 2 has 2"]);
        let bytes = Table::parse(Path::new("t.csv"), b"arch,a\r\n1,2\r\n2,\xff\r\n").unwrap_err().to_string();
        assert!(bytes.contains("line 3") && bytes.contains("UTF-8"), "{bytes}");
        assert!(all(&format!("arch{}\n", ",".repeat(5000))).unwrap_err().to_string().contains("5001 columns"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"arch,a1\"\n\r.-ne\xff \xef\xbb\xbf".to_vec()), 0..80)) {
            for start in [&b"arch,a\n"[..], b""] {
                if let Ok(table) = Table::parse(Path::new("t"), &[start, &bytes].concat()) {
                    let columns = table.numeric();
                    let _ = table.pick(&columns, &[], None, &identify).map(|mut picked| one_per_class(&mut picked, |_| false));
                }
            }
        }
    }
}
