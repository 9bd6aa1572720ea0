//! A table of pictures and their classes: CSV with a header, columns `path` and `class`, and optionally `split`.
//!
//! Paths are relative to the table, and lead nowhere else. Classes go by name, or by value where all are whole numbers; images stay in
//! the order of their rows. What the split calls `val` is trained on where there is a `test`, and is the test part otherwise.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::decode::Labelled;
use super::images::MAX_CLASSES;
use super::left_out::LeftOut;
use super::listed::{HoldOut, Listed};
use super::reading::Reading;
use super::source::Reader;
use super::{Dataset, Format};
use crate::error::{Error, Result};

/// The name by which a table is found in a folder.
pub(super) const USUAL: &str = "labels.csv";
const MAX_ROWS: usize = 1_000_000;
const MAX_BYTES: u64 = 256 << 20;
/// Names of columns, the usual one first.
const PATHS: &[&str] = &["path", "file", "filename", "file_name", "filepath", "image"];
const CLASSES: &[&str] = &["class", "label", "category"];
const SPLITS: &[&str] = &["split", "part", "subset", "set"];

/// Whether a file is a table by its name.
pub(super) fn is_named_so(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"))
}

/// Reads the table and its pictures.
pub(super) fn load(path: &Path, reading: &Reading) -> Result<Dataset> {
    let mut reader = Reader::of_file(path)?;
    if reader.len().is_some_and(|length| length > MAX_BYTES) {
        return Err(reader.error(format!("a table of more than {MAX_BYTES} bytes")));
    }
    let bytes = reader.rest()?;
    let wrong = |(line, why): (u64, String)| Error::file(path, None, format!("line {line}: {why}"));
    let table = Table::parse(&bytes, MAX_ROWS).map_err(wrong)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = |part: Part| -> Vec<Labelled> {
        let rows = table.rows.iter().filter(|row| row.part == part);
        rows.map(|row| (folder.join(&row.path), row.label)).collect()
    };
    let (mut train, val, mut test) = (files(Part::Train), files(Part::Val), files(Part::Test));
    if train.is_empty() {
        return Err(Error::file(
            path,
            None,
            "no row is for training; where there is a column split, some must say train",
        ));
    }
    let mut notes = vec![];
    match (val.is_empty(), test.is_empty()) {
        (true, _) => {}
        (false, true) => {
            notes.push("test part: the rows of val, as there are none of test".into());
            test = val;
        }
        (false, false) => {
            notes.push(format!(
                "val: {} more training images, as test is the test part and validation images are split off these",
                val.len()
            ));
            train.extend(val);
        }
    }
    // A table that is called as all of them are says nothing by its name.
    let stem = if path.ends_with(USUAL) { folder.file_name() } else { path.file_stem() };
    Listed {
        root: folder,
        name: stem.map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned()),
        format: Format::LabelTable,
        source: path,
        classes: table.classes,
        train,
        test: Some(test).filter(|test| !test.is_empty()),
        hold_out: HoldOut::ByName,
        without: "no rows of test or val",
        lists: vec![path.into()],
        left_out: LeftOut::new(reading.handling.strict),
        notes,
    }
    .load(reading)
}

/// What a row's picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    fn named(text: &str) -> Option<Part> {
        match text.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Part::Train),
            "val" | "valid" | "validation" | "dev" => Some(Part::Val),
            "test" | "testing" => Some(Part::Test),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Row {
    path: PathBuf,
    label: u16,
    part: Part,
}

#[derive(Debug)]
struct Table {
    classes: Vec<String>,
    rows: Vec<Row>,
}

/// Line, and what is wrong with it.
type Wrong = (u64, String);

impl Table {
    /// Reads at most `most` rows.
    fn parse(bytes: &[u8], most: usize) -> Result<Table, Wrong> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let line = |position: Option<&csv::Position>| line_of(bytes, position.map_or(0, csv::Position::byte));
        let failed = |e: csv::Error| (line(e.position()), e.to_string());
        let header = reader.headers().map_err(failed)?.clone();
        let columns = Columns::of(&header)?;
        let (mut found, mut seen) = (vec![], HashMap::new());
        for record in reader.records() {
            let record = record.map_err(failed)?;
            let wrong = |why: String| (line(record.position()), why);
            if found.len() == most {
                return Err(wrong(format!("more than {most} rows")));
            }
            let (path, class, part) = columns.row(&record).map_err(wrong)?;
            if let Some(before) = seen.insert(path.clone(), record.position().cloned()) {
                let before = line(before.as_ref());
                return Err(wrong(format!("`{}` stands in line {before} already", path.display())));
            }
            found.push((path, class, part));
        }
        if found.is_empty() {
            return Err((1, "no rows behind the header".into()));
        }
        let classes = sorted_classes(found.iter().map(|(_, class, _)| class.as_str()));
        if classes.len() > MAX_CLASSES {
            return Err((1, format!("{} classes; at most {MAX_CLASSES} are possible", classes.len())));
        }
        let places: HashMap<&str, u16> =
            classes.iter().zip(0..=u16::MAX).map(|(class, i)| (class.as_str(), i)).collect();
        let row = |(path, class, part): (PathBuf, String, Part)| Row { path, label: places[class.as_str()], part };
        let rows = found.into_iter().map(row).collect();
        Ok(Table { rows, classes })
    }
}

/// The line of a row that begins at a byte, or behind the ends of lines there.
fn line_of(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let blank = bytes[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    1 + bytes[..at + blank].iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Each class once: by value if all are whole numbers, else by name.
fn sorted_classes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let distinct: BTreeSet<&str> = names.collect();
    let mut classes: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
    if classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
    }
    classes
}

/// Where in a row things stand.
struct Columns {
    path: usize,
    class: usize,
    split: Option<usize>,
}

impl Columns {
    fn of(header: &csv::StringRecord) -> Result<Columns, Wrong> {
        let find = |names: &[&str]| {
            names.iter().find_map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name)))
        };
        let needed = |names: &[&str]| {
            let there: Vec<&str> = header.iter().collect();
            let why = || {
                format!(
                    "no column `{}` (or {}) in `{}`; expected a header such as path,class",
                    names[0],
                    names[1..].join(", "),
                    there.join(",")
                )
            };
            find(names).ok_or_else(|| (1, why()))
        };
        Ok(Columns { path: needed(PATHS)?, class: needed(CLASSES)?, split: find(SPLITS) })
    }

    fn row(&self, record: &csv::StringRecord) -> Result<(PathBuf, String, Part), String> {
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let class = cell(self.class);
        if class.is_empty() {
            return Err("the class is empty".into());
        }
        let part = match self.split.map(cell) {
            None => Part::Train,
            Some(text) => Part::named(text).ok_or_else(|| format!("split `{text}`; expected train, val or test"))?,
        };
        Ok((below(cell(self.path))?, class.to_owned(), part))
    }
}

/// A path that stays below the table's folder.
fn below(text: &str) -> Result<PathBuf, String> {
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(format!("`{text}` leads out of the table's folder; expected a path below it")),
        }
    }
    match path.as_os_str().is_empty() {
        true => Err("the path is empty".into()),
        false => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{load as load_any, load_with};

    fn parse(text: &str) -> Result<Table, Wrong> {
        Table::parse(text.as_bytes(), 100)
    }

    #[test]
    fn tables_are_read_as_people_write_them() {
        let table = parse("\u{FEFF}Class , Filename,note,SPLIT\r\n\"b, c\",./x/1.png,hm,train\r\n 10 ,\"x/2,.png\",,Test\r\n9,3.png,,valid\r\n").unwrap();
        assert_eq!(table.classes, ["10", "9", "b, c"]);
        let rows: Vec<(&Path, u16, Part)> = table.rows.iter().map(|r| (r.path.as_path(), r.label, r.part)).collect();
        let want = [("x/1.png", 2, Part::Train), ("x/2,.png", 0, Part::Test), ("3.png", 1, Part::Val)];
        assert_eq!(rows, want.map(|(path, label, part)| (Path::new(path), label, part)));
        assert_eq!(parse("label,image\n10,a\n9,b\n2,c\n").unwrap().classes, ["2", "9", "10"]);
    }

    #[test]
    fn hostile_tables_are_refused_with_their_line() {
        for (text, line, why) in [
            ("", 1, "no column `path`"),
            ("path,class", 1, "no rows"),
            (
                "a/1.png,cat\na/2.png,dog\n",
                1,
                "no column `path` (or file, filename, file_name, filepath, image) in `a/1.png,cat`",
            ),
            ("path,kind\na,b\n", 1, "no column `class`"),
            ("path,class\n../a.png,x\n", 2, "leads out of the table's folder"),
            ("path,class\na.png,x\nb/../../a.png,x\n", 3, "leads out"),
            ("path,class\n/etc/a.png,x\n", 2, "leads out"),
            ("path,class\n,x\n", 2, "the path is empty"),
            ("path,class\n.,x\n", 2, "the path is empty"),
            ("path,class\na.png,\n", 2, "the class is empty"),
            ("path,class\na.png,x\n\n./a.png,y\n", 4, "`a.png` stands in line 2 already"),
            ("path,class,split\na.png,x,trian\n", 2, "split `trian`; expected train"),
            ("path,class\r\na.png,x\r\nb.png,\r\n", 3, "the class is empty"),
            ("path,class\na.png\n", 2, "found record with 1 fields"),
            ("path,class\n\"a.png,x\nb.png,y\n", 2, "fields"),
        ] {
            let (at, found) = parse(text).unwrap_err();
            assert!(at == line && found.contains(why), "{text:?}: line {at}: {found}");
        }
        let (_, why) = Table::parse(b"path,class\na\xFF.png,x\n", 9).unwrap_err();
        assert!(why.to_lowercase().contains("utf-8"), "{why}");
        let many: String = (0..5).map(|i| format!("{i}.png,x\n")).collect();
        assert_eq!(
            Table::parse(format!("path,class\n{many}").as_bytes(), 4).unwrap_err(),
            (6, "more than 4 rows".into())
        );
        assert_eq!(Table::parse(format!("path,class\n{many}").as_bytes(), 5).unwrap().rows.len(), 5);
    }

    #[test]
    fn a_table_and_its_pictures_are_a_set() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("pictures")).unwrap();
        let mut rows = String::from("path,class\n");
        for i in 0..20_u8 {
            image::GrayImage::from_pixel(3, 2, image::Luma([i])).save(at(&format!("pictures/{i}.png"))).unwrap();
            rows += &format!("pictures/{i}.png,{}\n", if i % 2 == 0 { "even" } else { "odd" });
        }
        std::fs::write(at("labels.csv"), &rows).unwrap();
        let table = at("labels.csv");
        let set = load_any(table.to_str().unwrap()).unwrap();
        assert_eq!((set.format, set.train.per_class(), set.test.len()), (Format::LabelTable, vec![8, 8], 4));
        assert!(set.notes[0].starts_with("no rows of test or val: 4 of 20 images, a fixed 20%"), "{:?}", set.notes);
        assert!((0..16).all(|i| set.train.labels[i] == u16::from(set.train.at_hand(i).unwrap()[0] % 2)));
        assert_eq!((set.files.len(), set.name.as_str()), (21, dir.path().file_name().unwrap().to_str().unwrap()));
        // Of the folder it is the same, wherever that lies.
        let same = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!((&same.train, same.identity().unwrap()), (&set.train, set.identity().unwrap()));
        let moved = tempfile::tempdir().unwrap();
        for file in &set.files {
            let to = moved.path().join(file.strip_prefix(dir.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, to).unwrap();
        }
        let moved = load_any(moved.path().to_str().unwrap()).unwrap().identity().unwrap();
        assert!(moved.same_contents(&set.identity().unwrap()) && moved.path != set.identity().unwrap().path);
        // Parts of its own, and a picture that is missing.
        let rows: String = rows
            .lines()
            .enumerate()
            .map(|(i, row)| match i {
                0 => format!("{row},split\n"),
                1..=10 => format!("{row},train\n"),
                11..=15 => format!("{row},val\n"),
                _ => format!("{row},test\n"),
            })
            .collect();
        std::fs::write(&table, rows.clone() + "none.png,odd,test\n").unwrap();
        let set = load_any(table.to_str().unwrap()).unwrap();
        assert_eq!((set.train.len(), set.test.len(), set.left_out), (15, 5, 1));
        assert!(set.notes[0].starts_with("val: 5 more training images"), "{:?}", set.notes);
        assert!(set.unreadable[0].file == Path::new("none.png") && set.unreadable[0].why.contains("cannot read"));
        std::fs::write(&table, rows.replace(",test", ",train")).unwrap();
        let set = load_any(table.to_str().unwrap()).unwrap();
        assert_eq!((set.train.len(), set.test.len()), (15, 5));
        assert_eq!(set.notes, ["test part: the rows of val, as there are none of test"]);
        let why = load_with(table.to_str().unwrap(), &Reading { test_share: Some(0.3), ..Reading::default() });
        assert!(why.unwrap_err().to_string().contains("--test-share"));
    }
}
