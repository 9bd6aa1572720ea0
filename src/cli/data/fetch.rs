//! One file over HTTP: gone on with where an earlier try stopped, bounded in time and in bytes, and in its place only when it is
//! whole and has the right checksum.
//!
//! What a server says counts for nothing until it fits: its length must be the published one, a part must be the part that was
//! asked for, and bytes beyond the end are refused. A fault that may pass (a cut or stalled connection, an overloaded server) is
//! tried again; one that will not (no such file, another file) ends the download at once.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Agent, Body};

use super::part::{CHUNK, Folders, Part, md5_of};
use crate::error::{Error, Result};
use crate::progress::{Event, Observer, tell};

/// A file to fetch.
pub(super) struct Job<'a> {
    /// Where it is.
    pub address: &'a str,
    /// Where it goes.
    pub file: &'a Path,
    /// Its length, if that is known.
    pub bytes: Option<u64>,
    /// Its checksum, if that is known.
    pub md5: Option<&'a str>,
}

/// What a server may take.
pub(super) struct Limits {
    /// Time to find a server and connect to it, and to wait for an answer.
    pub connect: Duration,
    /// Time in which at least `slow` bytes must come.
    pub stall: Duration,
    /// The fewest bytes in that time.
    pub slow: u64,
    /// Tries in a row that get no further by `further` bytes.
    pub tries: u32,
    /// Bytes that make a try count as one that got further.
    pub further: u64,
    /// Wait before the second try; twice as long before each later one.
    pub pause: Duration,
    /// Addresses that a server may send on to, one after another.
    pub redirects: u32,
    /// The most bytes of a file whose length is not known.
    pub most: u64,
    /// Whether the environment's proxies are used.
    pub proxy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            slow: 30 << 10,
            tries: 5,
            further: 1 << 20,
            pause: Duration::from_secs(1),
            redirects: 5,
            most: 8 << 30,
            proxy: true,
        }
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The right file was there already.
    There,
    /// It was fetched.
    Fetched,
}

/// Why a try failed.
enum Failure {
    /// Another one may go on from here.
    Again(String),
    /// Another one has to begin anew.
    Anew(String),
    /// Another one would fail as well.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

impl Job<'_> {
    fn error(&self, why: impl Into<String>) -> Error {
        Error::Download { address: self.address.into(), why: why.into() }
    }

    fn most(&self, limits: &Limits) -> u64 {
        self.bytes.unwrap_or(limits.most)
    }

    /// Refuses a length that a server tells and that is not the published one.
    fn check_told(&self, told: Option<u64>, limits: &Limits) -> Result<()> {
        match (told, self.bytes) {
            (Some(told), Some(bytes)) if told != bytes => {
                Err(self.error(format!("the server has {told} bytes; the published file has {bytes}")))
            }
            (Some(told), None) if told > limits.most => {
                Err(self.error(format!("the server has {told} bytes; at most {} are taken", limits.most)))
            }
            _ => Ok(()),
        }
    }
}

/// Fetches a file. It says how far it is in units of 1024 bytes.
///
/// # Errors
/// [`Error::File`] if another file is in its place, [`Error::Download`] if the server does not give it or gives another one,
/// [`Error::Io`] if it cannot be written, [`Error::Cancelled`] if the observer asks to stop. A part that may be gone on with stays
/// as `FILE.part`; nothing else does.
pub(super) fn fetch(job: &Job, limits: &Limits, observer: &mut Observer) -> Result<Outcome> {
    if std::fs::symlink_metadata(job.file).is_ok() {
        return is_right(job, observer).map(|()| Outcome::There);
    }
    let folders = Folders::make(job.file.parent().unwrap_or(Path::new("")))?;
    let fetched = fetch_part(job, limits, observer);
    if fetched.is_err() {
        folders.remove_empty();
    }
    fetched.map(|()| Outcome::Fetched)
}

/// Checks a file that is there.
fn is_right(job: &Job, observer: &mut Observer) -> Result<()> {
    let wrong = |why: String| {
        let why = format!("is there and is not the published file: {why}. Move it away to download that");
        Err(Error::file(job.file, None, why))
    };
    let there = std::fs::metadata(job.file).map_err(Error::io("read", job.file))?;
    if !there.is_file() {
        return wrong("expected a regular file".into());
    }
    if let Some(bytes) = job.bytes.filter(|&bytes| bytes != there.len()) {
        return wrong(format!("{} bytes; published are {bytes}", there.len()));
    }
    let Some(md5) = job.md5 else { return Ok(()) };
    let (found, _) = md5_of(job.file, observer)?;
    if found == md5 { Ok(()) } else { wrong(format!("MD5 {found}; published is {md5}")) }
}

fn fetch_part(job: &Job, limits: &Limits, observer: &mut Observer) -> Result<()> {
    let mut part = Part::open(job.file, job.most(limits), observer)?;
    match try_all(job, limits, &mut part, observer) {
        Ok(()) => part.put(job.file),
        Err(error) => {
            part.leave();
            Err(error)
        }
    }
}

/// Tries until the part is the file.
fn try_all(job: &Job, limits: &Limits, part: &mut Part, observer: &mut Observer) -> Result<()> {
    let agent = agent(limits);
    let (mut failed, mut furthest) = (0, part.length());
    loop {
        let before = part.length();
        let tried = if job.bytes == Some(before) { Ok(()) } else { try_once(job, limits, &agent, part, observer) };
        let why = match tried.and_then(|()| check(job, part, before)) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again(why)) => why,
            Err(Failure::Anew(why)) => {
                part.clear()?;
                why
            }
        };
        if part.length() >= furthest.saturating_add(limits.further) {
            failed = 0;
        }
        furthest = furthest.max(part.length());
        failed += 1;
        if failed >= limits.tries {
            let kept = match part.length() {
                0 => String::new(),
                length => format!("; {length} bytes are kept, the same command goes on from there"),
            };
            return Err(job.error(format!("{why}; tried {failed} times{kept}")));
        }
        log::warn!("{}: {why}; trying again", job.address);
        pause(limits.pause * 2u32.saturating_pow(failed - 1), part, observer)?;
    }
}

/// Whether the checksum is right; `before` bytes of the file are from earlier tries.
fn check(job: &Job, part: &mut Part, before: u64) -> Result<(), Failure> {
    let Some(md5) = job.md5 else { return Ok(()) };
    let found = part.md5();
    if found == md5 {
        return Ok(());
    }
    let why = format!("MD5 {found}; published is {md5}: this is another file, or it was damaged");
    // Parts of two files may be one before and one behind.
    if before > 0 {
        return Err(Failure::Anew(why));
    }
    part.clear()?;
    Err(Failure::Final(job.error(why + ". Nothing of it is kept")))
}

/// Waits, and hears whether to stop.
fn pause(time: Duration, part: &Part, observer: &mut Observer) -> Result<()> {
    let until = Instant::now() + time;
    loop {
        tell(observer, Event::Advance { done: part.length() >> 10, note: "waiting for another try".into() })?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn agent(limits: &Limits) -> Agent {
    let mut config = Agent::config_builder()
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.connect))
        .timeout_recv_response(Some(limits.connect))
        .timeout_per_read(Some(limits.stall))
        .max_redirects(limits.redirects)
        .max_redirects_will_error(true)
        .http_status_as_error(false)
        .user_agent(concat!("altiplano/", env!("CARGO_PKG_VERSION")));
    if !limits.proxy {
        config = config.proxy(None);
    }
    config.build().into()
}

/// One request, from where the part ends.
fn try_once(
    job: &Job,
    limits: &Limits,
    agent: &Agent,
    part: &mut Part,
    observer: &mut Observer,
) -> Result<(), Failure> {
    // As the file is: its checksum is that of these bytes.
    let mut request = agent.get(job.address).header("Accept-Encoding", "identity");
    let from = part.length();
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let mut response = request.call().map_err(|error| no_answer(job, error))?;
    let status = response.status().as_u16();
    match (status, from) {
        (200, _) => {
            job.check_told(response.body().content_length(), limits)?;
            // A server may give the whole where a part was asked for.
            if from > 0 {
                part.clear()?;
            }
        }
        (206, 1..) => continues(job, limits, &response, from)?,
        // The part is as long as the file, or longer.
        (416, 1..) => {
            let all = header(&response, "content-range").and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
            job.check_told(all, limits)?;
            return if all == Some(from) { Ok(()) } else { Err(Failure::Anew(said(status))) };
        }
        (408 | 429 | 500.., _) => return Err(Failure::Again(said(status))),
        _ => return Err(Failure::Final(job.error(said(status)))),
    }
    receive(job, limits, &mut response, part, observer)
}

fn said(status: u16) -> String {
    let meaning = match status {
        403 => " (not allowed)",
        404 => " (no such file)",
        416 => " (no such part)",
        429 => " (too many requests)",
        500.. => " (the server failed)",
        _ => "",
    };
    format!("the server answers {status}{meaning}")
}

/// What a request that got no answer means.
fn no_answer(job: &Job, error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let lasting = match &error {
        // So a certificate that is not trusted.
        E::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        E::Http(_) | E::BadUri(_) | E::InvalidProxyUrl | E::TooManyRedirects | E::RedirectFailed => true,
        E::Tls(_) | E::Rustls(_) => true,
        _ => false,
    };
    let why = in_words(error);
    if lasting { Failure::Final(job.error(why)) } else { Failure::Again(why) }
}

fn in_words(error: ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(what) => format!("nothing came in time ({what})"),
        ureq::Error::HostNotFound => "no such host, or no network".into(),
        ureq::Error::TooManyRedirects => "the server sends on and on".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok().map(str::trim)
}

/// Whether an answer is the file from byte `from` to its end.
fn continues(job: &Job, limits: &Limits, response: &Response<Body>, from: u64) -> Result<(), Failure> {
    let range = header(response, "content-range").unwrap_or_default();
    let Some((first, last, all)) = content_range(range) else {
        return Err(Failure::Anew(format!("the server sends a part without saying which: `{range}`")));
    };
    job.check_told(all, limits)?;
    let all = all.or(job.bytes);
    let length = last.checked_sub(first).and_then(|bytes| bytes.checked_add(1));
    let told = response.body().content_length();
    if first != from || length.is_none() || all.is_some_and(|all| last.checked_add(1) != Some(all)) {
        return Err(Failure::Anew(format!("the server sends another part than asked for: `{range}`, not from {from}")));
    }
    if told.is_some() && told != length {
        return Err(Failure::Anew(format!("the server sends a part of another length than it says: `{range}`")));
    }
    Ok(())
}

/// First and last byte, and the length of the file if it is told: `bytes 5-9/10`, `bytes 5-9/*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, all) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let all = if all == "*" { None } else { Some(all.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, all))
}

/// Adds the answer's bytes to the part.
fn receive(
    job: &Job,
    limits: &Limits,
    response: &mut Response<Body>,
    part: &mut Part,
    observer: &mut Observer,
) -> Result<(), Failure> {
    let most = job.most(limits);
    let mut reader = response.body_mut().as_reader();
    let mut chunk = vec![0; CHUNK];
    let (start, mut since, mut brought) = (Instant::now(), Instant::now(), 0);
    let began = part.length();
    loop {
        let read = match reader.read(&mut chunk) {
            Ok(read) => read,
            Err(error) => return Err(Failure::Again(format!("{} after {} bytes", cut(error), part.length()))),
        };
        if read == 0 {
            break;
        }
        if part.length() + read as u64 > most {
            part.clear()?;
            let bound = if job.bytes.is_some() { "the published length" } else { "the most that is taken" };
            return Err(job
                .error(format!("the server sends more than {most} bytes, {bound}. Nothing of it is kept"))
                .into());
        }
        part.push(&chunk[..read])?;
        brought += read as u64;
        if since.elapsed() >= limits.stall {
            if brought < limits.slow {
                let time = since.elapsed().as_secs_f64();
                return Err(Failure::Again(format!("only {brought} bytes in {time:.1} s")));
            }
            (since, brought) = (Instant::now(), 0);
        }
        let rate = (part.length() - began) as f64 / start.elapsed().as_secs_f64().max(1e-3) / f64::from(1 << 20);
        tell(observer, Event::Advance { done: part.length() >> 10, note: format!("{rate:.1} MiB/s") })?;
    }
    match job.bytes {
        Some(bytes) if part.length() < bytes => {
            Err(Failure::Again(format!("the connection ended after {} of {bytes} bytes", part.length())))
        }
        _ => Ok(()),
    }
}

/// Why a connection ended amid a file.
fn cut(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the connection ended".into(),
        _ => in_words(ureq::Error::from(error)),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
pub(super) mod tests;
