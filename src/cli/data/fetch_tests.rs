//! Downloads from a server that fails and lies in all the ways a server may.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use md5::{Digest, Md5};

use super::*;
use crate::progress::silent;

#[path = "../../../tests/common/server.rs"]
pub(in super::super) mod server;
use server::{Server, empty, head, part_head, whole, whole_or_part};

/// Patience of a test.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(10),
        stall: Duration::from_millis(400),
        slow: 1000,
        tries: 3,
        further: 1 << 20,
        pause: Duration::from_millis(1),
        redirects: 3,
        most: 1 << 20,
        proxy: false,
    }
}

pub(in super::super) fn md5_text(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file to fetch into a folder that is not there yet.
struct Case {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    md5: String,
}

impl Case {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * i / 7) as u8).collect();
        Case { dir: tempfile::tempdir().unwrap(), md5: md5_text(&bytes), bytes }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("some/set/file.gz")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("some/set/file.gz.part")
    }

    /// Leaves what an earlier run would have.
    fn write_part(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.part().parent().unwrap()).unwrap();
        std::fs::write(self.part(), bytes).unwrap();
    }

    fn fetch_as(&self, server: &Server, bytes: Option<u64>, limits: &Limits) -> Result<Outcome> {
        let (address, file) = (format!("{}/file.gz", server.address), self.file());
        fetch(&Job { address: &address, file: &file, bytes, md5: Some(&self.md5) }, limits, &mut silent())
    }

    fn fetch(&self, server: &Server) -> Result<Outcome> {
        self.fetch_as(server, Some(self.bytes.len() as u64), &limits())
    }

    /// It arrives, and nothing else stays.
    #[track_caller]
    fn arrives(&self, server: &Server) {
        assert_eq!(self.fetch(server).unwrap(), Outcome::Fetched);
        assert!(std::fs::read(self.file()).unwrap() == self.bytes);
        assert!(!self.part().exists());
    }

    /// It fails with such a message, and what is kept is this much.
    #[track_caller]
    fn fails(&self, fetched: Result<Outcome>, parts: &[&str], kept: usize) {
        let error = fetched.unwrap_err();
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(error.exit_code(), 1);
        assert!(!self.file().exists());
        assert_eq!(std::fs::metadata(self.part()).map_or(0, |data| data.len()), kept as u64);
        // Neither folders nor files that are empty.
        assert_eq!(self.dir.path().join("some").exists(), kept > 0);
    }
}

/// How many bytes each request had already.
fn starts(server: &Server) -> Vec<usize> {
    server.requests().iter().map(|request| request.from().unwrap_or(0)).collect()
}

#[test]
fn a_file_is_fetched_once() {
    let case = Case::new();
    let server = Server::honest(&case.bytes);
    case.arrives(&server);
    assert_eq!(case.fetch(&server).unwrap(), Outcome::There);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line, "GET /file.gz HTTP/1.1");
    assert_eq!(requests[0].headers["accept-encoding"], "identity");
    assert!(requests[0].headers["user-agent"].starts_with("altiplano/"));
    // One of another length, or with other bytes, is left as it is.
    for (other, why) in [(case.bytes[1..].to_vec(), "199999 bytes; published are 200000"), (vec![7; 200_000], "MD5 ")] {
        std::fs::write(case.file(), &other).unwrap();
        let error = case.fetch(&server).unwrap_err();
        assert!(error.to_string().contains(why) && error.exit_code() == 2, "{error}");
        assert!(std::fs::read(case.file()).unwrap() == other);
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let case = Case::new();
    let bytes = case.bytes.clone();
    let server = Server::new(move |request, stream| match request.number {
        0 => {
            head(stream, "200 OK", &[format!("Content-Length: {}", bytes.len())])?;
            stream.write_all(&bytes[..70_000])
        }
        // Without a length, so that its end looks like the file's.
        1 => {
            head(stream, "206 Partial Content", &["Content-Range: bytes 70000-199999/200000".into()])?;
            stream.write_all(&bytes[70_000..150_000])
        }
        _ => whole_or_part(request, stream, &bytes),
    });
    case.arrives(&server);
    assert_eq!(starts(&server), [0, 70_000, 150_000]);
}

#[test]
fn a_stalled_connection_is_given_up_and_gone_on_with() {
    let case = Case::new();
    let bytes = case.bytes.clone();
    let server = Server::new(move |request, stream| {
        if request.number > 0 {
            return whole_or_part(request, stream, &bytes);
        }
        head(stream, "200 OK", &[format!("Content-Length: {}", bytes.len())])?;
        stream.write_all(&bytes[..50_000])?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let start = Instant::now();
    case.arrives(&server);
    assert_eq!(starts(&server), [0, 50_000]);
    assert!(start.elapsed() < Duration::from_secs(10));

    // One that never says anything, and one that drips.
    let case = Case::new();
    let quiet = Server::new(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let impatient = Limits { connect: Duration::from_millis(200), ..limits() };
    let fetched = case.fetch_as(&quiet, Some(200_000), &impatient);
    case.fails(fetched, &["nothing came in time", "tried 3 times"], 0);
    let bytes = case.bytes.clone();
    let dripping = Server::new(move |request, stream| {
        let from = request.from().unwrap_or(0);
        if from == 0 {
            whole_head(stream, bytes.len())?
        } else {
            part_head(stream, from, bytes.len())?
        }
        for byte in &bytes[from..] {
            stream.write_all(&[*byte])?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    let error = case.fetch(&dripping).unwrap_err().to_string();
    assert!(
        error.contains("only ") && error.contains("bytes are kept, the same command goes on from there"),
        "{error}"
    );
    let kept = std::fs::read(case.part()).unwrap();
    assert!(!kept.is_empty() && case.bytes.starts_with(&kept));
    case.arrives(&Server::honest(&case.bytes));
}

fn whole_head(stream: &mut std::net::TcpStream, length: usize) -> std::io::Result<()> {
    head(stream, "200 OK", &[format!("Content-Length: {length}")])
}

#[test]
fn lies_about_the_length_are_found_out() {
    for told in [199_999, 200_001, 5_000_000_000] {
        let case = Case::new();
        let bytes = case.bytes.clone();
        let server = Server::new(move |_, stream| {
            whole_head(stream, told)?;
            stream.write_all(&bytes)
        });
        let why = format!("the server has {told} bytes; the published file has 200000");
        case.fails(case.fetch(&server), &[&why, "/file.gz: "], 0);
        assert_eq!(server.requests().len(), 1);
    }
    // Where no length is published: too short is another file, too long never comes.
    let case = Case::new();
    let bytes = case.bytes.clone();
    let short = Server::new(move |_, stream| {
        whole_head(stream, 100_000)?;
        stream.write_all(&bytes)
    });
    case.fails(case.fetch_as(&short, None, &limits()), &["MD5 ", "Nothing of it is kept"], 0);
    let bytes = case.bytes.clone();
    let long = Server::new(move |request, stream| {
        let from = request.from().unwrap_or(0);
        if from == 0 {
            whole_head(stream, 300_000)?
        } else {
            part_head(stream, from, 300_000)?
        }
        stream.write_all(&bytes[from..])
    });
    let fetched = case.fetch_as(&long, None, &limits());
    case.fails(
        fetched,
        &["the connection ended after 200000 bytes", "tried 3 times", "200000 bytes are kept"],
        200_000,
    );
    let huge = Server::new(|_, stream| whole_head(stream, 5_000_000_000));
    let why = ["the server has 5000000000 bytes; at most 1048576 are taken"];
    let case = Case::new();
    case.fails(case.fetch_as(&huge, None, &limits()), &why, 0);
}

#[test]
fn other_bytes_are_not_kept() {
    let case = Case::new();
    let mut other = case.bytes.clone();
    other[123_456] ^= 1;
    let server = Server::honest(&other);
    let why = format!("MD5 {}; published is {}", md5_text(&other), case.md5);
    case.fails(case.fetch(&server), &[&why, "Nothing of it is kept"], 0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn endless_data_is_cut_off() {
    let endless = || {
        Server::new(|_, stream| {
            head(stream, "200 OK", &["Content-Type: text/html".into()])?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        })
    };
    let case = Case::new();
    case.fails(case.fetch(&endless()), &["more than 200000 bytes, the published length"], 0);
    let server = endless();
    case.fails(case.fetch_as(&server, None, &limits()), &["more than 1048576 bytes, the most that is taken"], 0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_need_not_know_of_parts() {
    let case = Case::new();
    case.write_part(&case.bytes[..80_000]);
    let bytes = case.bytes.clone();
    let server = Server::new(move |_, stream| whole(stream, &bytes));
    case.arrives(&server);
    assert_eq!(starts(&server), [80_000]);
}

#[test]
fn a_part_that_does_not_fit_is_fetched_anew() {
    // Other bytes, more of them than the file has, and as many.
    for (old, requests) in
        [(vec![1; 80_000], vec![80_000, 0]), (vec![1; 200_001], vec![0]), (vec![1; 200_000], vec![0])]
    {
        let case = Case::new();
        case.write_part(&old);
        let server = Server::honest(&case.bytes);
        case.arrives(&server);
        assert_eq!(starts(&server), requests);
    }
    // All of it.
    let case = Case::new();
    case.write_part(&case.bytes);
    let server = Server::honest(&case.bytes);
    case.arrives(&server);
    assert!(server.requests().is_empty());
    // The same where the length is not known.
    for (old, whole) in [(case.bytes.clone(), true), (vec![1; 200_000], false), (vec![1; 300_000], false)] {
        let case = Case::new();
        case.write_part(&old);
        let server = Server::honest(&case.bytes);
        assert_eq!(case.fetch_as(&server, None, &limits()).unwrap(), Outcome::Fetched);
        assert!(std::fs::read(case.file()).unwrap() == case.bytes);
        assert_eq!(starts(&server), if whole { vec![200_000] } else { vec![old.len(), 0] });
    }
}

#[test]
fn parts_that_were_not_asked_for_are_refused() {
    let ranges = [
        "Content-Range: bytes 0-199999/200000",
        "Content-Range: bytes 80001-199999/200000",
        "Content-Range: bytes 80000-150000/200000",
        "Content-Range: bytes 80000-/200000",
        "Content-Range: bytes 18446744073709551615-18446744073709551615/*",
        "Content-Range: bytes 80000-99999999999999999999/200000",
        "Content-Length: 10",
    ];
    for range in ranges {
        let case = Case::new();
        case.write_part(&case.bytes[..80_000]);
        let bytes = case.bytes.clone();
        let server = Server::new(move |request, stream| match request.from() {
            Some(from) => {
                head(stream, "206 Partial Content", &[range.into()])?;
                stream.write_all(&bytes[from..])
            }
            None => whole(stream, &bytes),
        });
        case.arrives(&server);
        assert_eq!(starts(&server), [80_000, 0], "{range}");
    }
    // Of a file of another length, and where nothing was asked for.
    let case = Case::new();
    case.write_part(&case.bytes[..80_000]);
    let other = Server::new(|_, stream| part_head(stream, 80_000, 300_000));
    case.fails(case.fetch(&other), &["the server has 300000 bytes; the published file has 200000"], 80_000);
    let case = Case::new();
    let unasked = Server::new(|_, stream| part_head(stream, 0, 200_000));
    case.fails(case.fetch(&unasked), &["the server answers 206"], 0);
}

#[test]
fn redirects_are_followed_up_to_a_limit() {
    let case = Case::new();
    case.write_part(&case.bytes[..80_000]);
    let bytes = case.bytes.clone();
    let server = Server::new(move |request, stream| match request.number {
        0 => empty(stream, "302 Found", &["Location: /elsewhere/file".into()]),
        _ => whole_or_part(request, stream, &bytes),
    });
    case.arrives(&server);
    assert_eq!(starts(&server), [80_000, 80_000]);
    let case = Case::new();
    let circle = Server::new(|_, stream| empty(stream, "302 Found", &["Location: /file.gz".into()]));
    case.fails(case.fetch(&circle), &["the server sends on and on"], 0);
    assert_eq!(circle.requests().len(), 4);
    // Nowhere, and to what is no address of the web.
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://"] {
        let server = Server::new(move |_, stream| empty(stream, "302 Found", &[format!("Location: {location}")]));
        assert!(case.fetch(&server).is_err(), "{location}");
        assert!(!case.dir.path().join("some").exists());
    }
}

#[test]
fn refusals_are_final_and_failures_are_not() {
    for (status, why, tries) in [
        ("404 Not Found", "the server answers 404 (no such file)", 1),
        ("403 Forbidden", "the server answers 403 (not allowed)", 1),
        ("204 No Content", "the server answers 204", 1),
        ("500 Internal Server Error", "the server answers 500 (the server failed); tried 3 times", 3),
        ("503 Service Unavailable", "the server answers 503 (the server failed); tried 3 times", 3),
        ("429 Too Many Requests", "the server answers 429 (too many requests); tried 3 times", 3),
    ] {
        let case = Case::new();
        let server = Server::new(move |_, stream| empty(stream, status, &[]));
        case.fails(case.fetch(&server), &[why], 0);
        assert_eq!(server.requests().len(), tries, "{status}");
        // What was there before is for another server.
        case.write_part(&case.bytes[..80_000]);
        case.fails(case.fetch(&server), &[], 80_000);
    }
    let case = Case::new();
    let bytes = case.bytes.clone();
    let recovers = Server::new(move |request, stream| match request.number {
        0 | 1 => empty(stream, "502 Bad Gateway", &[]),
        _ => whole_or_part(request, stream, &bytes),
    });
    case.arrives(&recovers);
    // Nobody listens there, and nothing of HTTP comes.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (address, case) = (format!("http://127.0.0.1:{port}/a"), Case::new());
    let job = Job { address: &address, file: &case.file(), bytes: None, md5: None };
    case.fails(fetch(&job, &limits(), &mut silent()), &["refused", "tried 3 times"], 0);
    for nonsense in [&b"SSH-2.0\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", b"\0\0\0\0\r\n\r\n", b""] {
        let server = Server::new(move |_, stream| stream.write_all(nonsense));
        assert!(case.fetch(&server).is_err(), "{nonsense:?}");
        assert!(!case.dir.path().join("some").exists());
    }
}

#[test]
fn tries_that_get_further_are_not_counted() {
    let case = Case::new();
    let bytes = case.bytes.clone();
    // Ten pieces of a file, and three tries.
    let server = Server::new(move |request, stream| {
        let from = request.from().unwrap_or(0);
        if from == 0 {
            whole_head(stream, bytes.len())?
        } else {
            part_head(stream, from, bytes.len())?
        }
        stream.write_all(&bytes[from..bytes.len().min(from + 20_000)])
    });
    let fetched = case.fetch(&server);
    case.fails(fetched, &["the connection ended after 60000", "tried 3 times"], 60_000);
    let patient = Limits { further: 20_000, ..limits() };
    assert_eq!(case.fetch_as(&server, Some(200_000), &patient).unwrap(), Outcome::Fetched);
    // Whole answers that end early get no further than the first did.
    let case = Case::new();
    let bytes = case.bytes.clone();
    let server = Server::new(move |_, stream| {
        whole_head(stream, bytes.len())?;
        stream.write_all(&bytes[..50_000])
    });
    let fetched = case.fetch_as(&server, Some(200_000), &patient);
    case.fails(fetched, &["the connection ended after 50000", "tried 3 times"], 50_000);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn whoever_stops_keeps_the_part() {
    let case = Case::new();
    let server = Server::honest(&case.bytes);
    let (address, file, mut seen) = (format!("{}/file.gz", server.address), case.file(), 0);
    let job = Job { address: &address, file: &file, bytes: Some(200_000), md5: Some(&case.md5) };
    let mut stop = |event: &Event| match event {
        Event::Advance { done, .. } if *done > 0 => {
            seen = *done;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    assert!(matches!(fetch(&job, &limits(), &mut stop), Err(Error::Cancelled)));
    let kept = std::fs::read(case.part()).unwrap();
    assert!(seen > 0 && seen == kept.len() as u64 >> 10 && case.bytes.starts_with(&kept));
    // Two at a time are one too many.
    let held = Part::open(&file, 200_000, &mut silent()).unwrap();
    let error = fetch(&job, &limits(), &mut silent()).unwrap_err().to_string();
    assert!(error.contains("another process is downloading to it"), "{error}");
    held.leave();
    case.arrives(&server);
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let case = Case::new();
    let server = Server::honest(&case.bytes);
    std::fs::create_dir_all(case.part()).unwrap();
    let error = case.fetch(&server).unwrap_err().to_string();
    assert!(error.contains("file.gz.part") && error.contains("expected a regular file"), "{error}");
    std::fs::create_dir_all(case.file()).unwrap();
    let error = case.fetch(&server).unwrap_err().to_string();
    assert!(error.contains("expected a regular file") && server.requests().is_empty(), "{error}");
}
