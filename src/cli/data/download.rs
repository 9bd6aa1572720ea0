//! `altiplano data download`: published data sets, into the folders from which they are read.
//!
//! What is to be done is planned without the network, and printed as commands for a shell where nothing is fetched: on request,
//! and in builds without the feature `download`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Global;
use crate::data::{Published, published};
use crate::error::{Error, Result, path_text, unknown};

/// Whether this build fetches files.
const FETCHES: bool = cfg!(feature = "download");

/// How to get a build that does.
const BUILD: &str = "cargo build --release --features download";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Sets: cifar10, cifar100, mnist, fashion-mnist, cifar10-c, cifar100-c.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Folder for them; sets of several files lie in folders of their own below it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take each file from URL/FILE instead of from its publisher.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Fetch nothing; print addresses, checksums and commands that do it, as a build without the feature `download` always does.
    #[arg(long)]
    dry_run: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Answer {
    /// Whether files were fetched, or found to be there.
    done: bool,
    /// What a build that fetches nothing lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<&'static str>,
    sets: Vec<Set>,
}

#[derive(Serialize)]
struct Set {
    name: &'static str,
    page: &'static str,
    checksums_from: &'static str,
    sizes_from: &'static str,
    #[serde(serialize_with = "crate::error::serialize_path")]
    folder: PathBuf,
    files: Vec<Planned>,
    /// What unpacks its archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    unpack: Option<String>,
    /// The option that reads it.
    option: &'static str,
    /// And its value.
    #[serde(serialize_with = "crate::error::serialize_path")]
    data: PathBuf,
}

#[derive(Serialize)]
struct Planned {
    #[serde(serialize_with = "crate::error::serialize_path")]
    file: PathBuf,
    address: String,
    bytes: Option<u64>,
    md5: Option<&'static str>,
    state: State,
    /// What fetches it.
    fetch: String,
    /// What checks it.
    check: Option<String>,
}

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(not(feature = "download"), allow(dead_code, reason = "files have other states only where they are fetched"))]
enum State {
    Planned,
    Fetched,
    There,
    /// Its contents are, in the folder into which it is unpacked.
    Unpacked,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let mut sets = plan(args)?;
    let done = FETCHES && !args.dry_run;
    if done {
        fetch_all(global, &mut sets)?;
    }
    let answer = Answer { done, build: (!FETCHES).then_some(BUILD), sets };
    global.print(&answer, || if done { told(&answer) } else { script(&answer) })
}

/// What is to be fetched, and from where to where.
fn plan(args: &Args) -> Result<Vec<Set>> {
    let known: Vec<&str> = published().iter().map(|set| set.name).collect();
    let mut chosen: Vec<&Published> = Vec::new();
    for name in &args.names {
        let set = published().iter().find(|set| set.name == name).ok_or_else(|| unknown("data set", name, &known))?;
        if !chosen.iter().any(|there| there.name == set.name) {
            chosen.push(set);
        }
    }
    let mirror = args.mirror.as_deref().map(base).transpose()?;
    let mut sets: Vec<Set> = Vec::new();
    for set in chosen {
        let planned = planned(set, &args.out, mirror);
        let twice = |file: &Planned| sets.iter().flat_map(|set| &set.files).any(|other| other.address == file.address);
        if planned.files.iter().any(twice) {
            let why = format!("files of {} have the names of another set's; download them one by one", set.name);
            return Err(Error::invalid("--mirror", why));
        }
        sets.push(planned);
    }
    Ok(sets)
}

/// The address to which names of files are added.
fn base(mirror: &str) -> Result<&str> {
    let rest = mirror.strip_prefix("http://").or_else(|| mirror.strip_prefix("https://"));
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    match rest {
        Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => Ok(mirror.trim_end_matches('/')),
        _ => {
            let why = format!("`{mirror}` is not the address of a folder, such as https://example.org/data");
            Err(Error::invalid("--mirror", why))
        }
    }
}

fn planned(set: &Published, out: &Path, mirror: Option<&str>) -> Set {
    let folder = if set.files.len() > 1 { out.join(set.name) } else { out.to_path_buf() };
    let plan = |file: &crate::data::PublishedFile| {
        let path = folder.join(file.name);
        let address = mirror.map_or_else(|| file.address.to_owned(), |mirror| format!("{mirror}/{}", file.name));
        let (shown, quoted) = (path_text(&path), quote(&address));
        Planned {
            fetch: format!("curl --fail -L -C - -o {} {quoted}", quote(&shown)),
            check: file.md5.map(|md5| format!("echo {} | md5sum -c -", quote(&format!("{md5}  {shown}")))),
            file: path,
            address,
            bytes: file.bytes,
            md5: file.md5,
            state: State::Planned,
        }
    };
    let files: Vec<Planned> = set.files.iter().map(plan).collect();
    let (option, data) = match (set.unpacked, files.as_slice()) {
        (Some(below), _) => ("--corrupted", out.join(below)),
        (None, [one]) => ("--data", one.file.clone()),
        (None, _) => ("--data", folder.clone()),
    };
    let archive = files.first().filter(|_| set.unpacked.is_some());
    let unpack =
        archive.map(|archive| format!("tar -xf {} -C {}", quote(&path_text(&archive.file)), quote(&path_text(out))));
    Set {
        name: set.name,
        page: set.page,
        checksums_from: set.checksums_from,
        sizes_from: set.sizes_from,
        folder,
        files,
        unpack,
        option,
        data,
    }
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:~@%+=,".contains(&byte);
    if !word.is_empty() && !word.starts_with('~') && word.bytes().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Commands for a shell; all else stands behind `#`.
fn script(answer: &Answer) -> String {
    let mut text = String::new();
    for set in &answer.sets {
        let _ = writeln!(text, "# {}: {}", set.name, set.page);
        let _ = writeln!(text, "# checksums as in {}; sizes as in {}", set.checksums_from, set.sizes_from);
        let _ = writeln!(text, "mkdir -p {}", quote(&path_text(&set.folder)));
        for file in &set.files {
            let bytes = file.bytes.map_or("no size is published".into(), |bytes| format!("{bytes} bytes"));
            let _ = writeln!(text, "{}   # {bytes}", file.fetch);
            let check = file.check.as_deref().unwrap_or("# no checksum is published");
            let _ = writeln!(text, "{check}");
        }
        if let Some(unpack) = &set.unpack {
            let _ = writeln!(text, "{unpack}");
        }
        let _ = writeln!(text, "# it is read by {} {}\n", set.option, quote(&path_text(&set.data)));
    }
    match answer.build {
        Some(build) => text + &format!("# nothing was fetched: this build does not; one by `{build}` does"),
        None => text + "# nothing was fetched",
    }
}

/// What was done.
fn told(answer: &Answer) -> String {
    let mut text = String::new();
    for set in &answer.sets {
        for file in &set.files {
            let state = match file.state {
                State::Planned => "not fetched",
                State::Fetched => "fetched",
                State::There => "was there",
                State::Unpacked => "was unpacked before, and is not checked",
            };
            let checked = match file.md5 {
                Some(md5) if file.state != State::Unpacked => format!(", MD5 {md5} as published"),
                Some(_) => String::new(),
                None => ", without a published checksum".into(),
            };
            let _ = writeln!(text, "{}: {state}{checked}", path_text(&file.file));
        }
        let _ = writeln!(text, "{}: {} {}", set.name, set.option, quote(&path_text(&set.data)));
    }
    text
}

#[cfg(not(feature = "download"))]
fn fetch_all(_: &Global, _: &mut [Set]) -> Result<()> {
    Ok(())
}

#[cfg(feature = "download")]
fn fetch_all(global: &Global, sets: &mut [Set]) -> Result<()> {
    use super::super::progress::{Display, note};

    let mut display = Display::new(global)?;
    let observer = &mut |event: &crate::progress::Event| display.event(event);
    let done = fetch_sets(sets, &super::fetch::Limits::default(), observer, &|text| note(global, text));
    display.finish();
    done
}

/// Fetches what is not there, and unpacks what has to be.
#[cfg(feature = "download")]
fn fetch_sets(
    sets: &mut [Set],
    limits: &super::fetch::Limits,
    observer: &mut crate::progress::Observer,
    note: &dyn Fn(&str),
) -> Result<()> {
    use super::fetch::{Job, Outcome, fetch};
    use crate::progress::{Event, tell};

    let all: u64 = sets.iter().flat_map(|set| &set.files).filter_map(|file| file.bytes).sum();
    let share = |bytes: u64| bytes as f64 / all.max(1) as f64;
    let mut before = 0;
    for set in sets {
        let unpacked = set.unpack.is_some() && set.data.join("labels.npy").is_file();
        // Told before gigabytes are fetched for it.
        if set.unpack.is_some() && !unpacked && std::fs::symlink_metadata(&set.data).is_ok() {
            return Err(Error::file(&set.data, None, "is there already, without labels.npy; move it away"));
        }
        for file in &mut set.files {
            let (bytes, name) = (file.bytes.unwrap_or(0), format!("{}, in KiB", path_text(&file.file)));
            let (from, to) = (share(before), share(before + bytes));
            tell(observer, Event::Stage { name: &name, units: bytes.div_ceil(1 << 10), from, to })?;
            before += bytes;
            if unpacked {
                file.state = State::Unpacked;
                continue;
            }
            let job = Job { address: &file.address, file: &file.file, bytes: file.bytes, md5: file.md5 };
            file.state = match fetch(&job, limits, observer)? {
                Outcome::There => State::There,
                Outcome::Fetched => State::Fetched,
            };
        }
        if let (Some(archive), false, true) = (set.files.first(), unpacked, set.unpack.is_some()) {
            note(&format!("unpacking to {}", path_text(&set.data)));
            crate::data::unpack_arrays(&archive.file, &set.data)?;
            note(&format!("{} is not needed any more", path_text(&archive.file)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, want) in [
            ("a/b-c_1.gz", "a/b-c_1.gz"),
            ("https://a.org:80/~b/c", "https://a.org:80/~b/c"),
            ("", "''"),
            ("~a", "'~a'"),
            ("two words", "'two words'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
        ] {
            assert_eq!(quote(word), want);
        }
    }

    #[test]
    fn mirrors_are_addresses_of_folders() {
        for (mirror, want) in [("http://a", "http://a"), ("https://a.org/b//", "https://a.org/b")] {
            assert_eq!(base(mirror).unwrap(), want);
        }
        for mirror in ["", "a.org", "ftp://a.org", "file:///etc", "http://", "http://a b", "http://a?x=", "http://a/#x"]
        {
            assert!(base(mirror).unwrap_err().to_string().contains("--mirror"), "{mirror}");
        }
    }

    #[cfg(feature = "download")]
    #[test]
    fn archives_are_unpacked_where_they_are_read() {
        use super::super::fetch::{Limits, tests::server::Server};
        use crate::data::PublishedFile;
        use crate::progress::silent;

        let mut tar = tar::Builder::new(Vec::new());
        for name in ["C/labels.npy", "C/fog.npy", "C/readme.txt"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            tar.append_data(&mut header, name, &b"123"[..]).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let server = Server::honest(&tar);
        let md5 = super::super::fetch::tests::md5_text(&tar).leak();
        let file = PublishedFile { name: "C.tar", address: "", bytes: Some(tar.len() as u64), md5: Some(md5) };
        let set = Published { files: vec![file].leak(), unpacked: Some("C"), ..published()[0] };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("sets");
        let run = || {
            let mut sets = [planned(&set, &out, Some(&server.address))];
            fetch_sets(&mut sets, &Limits { proxy: false, ..Limits::default() }, &mut silent(), &|_| {}).unwrap();
            (sets[0].files[0].state, sets[0].data.clone())
        };
        let (state, data) = run();
        assert!(state == State::Fetched && data == out.join("C"));
        let mut names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["fog.npy", "labels.npy"]);
        assert!(run().0 == State::Unpacked);
        // Unpacked again from the archive that is there.
        std::fs::remove_dir_all(&data).unwrap();
        assert!(run().0 == State::There && data.join("fog.npy").is_file());
        assert_eq!(server.requests().len(), 1);
    }
}
