//! A server for tests of downloads, which answers as a test says, lies included.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request: its first line, and its headers by their names in small letters.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    /// How many came before it.
    pub number: usize,
}

impl Request {
    /// The byte from which it wants the file, if not from the first.
    pub fn from(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// It listens until the test ends.
pub struct Server {
    pub address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Each connection has one request, which `answer` answers; `CONNECT` is granted by itself, and the request behind it answered.
    pub fn new(answer: impl Fn(&Request, &mut TcpStream) -> Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (answer, log) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let server = Server { address, log: log.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                // Whoever hangs up has had enough.
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        server
    }

    /// Gives `bytes`, or the part that is asked for, and nothing wrong.
    pub fn honest(bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Server::new(move |request, stream| whole_or_part(request, stream, &bytes))
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

type Answer = dyn Fn(&Request, &mut TcpStream) -> Result<()>;

fn serve(mut stream: TcpStream, answer: &Answer, log: &Mutex<Vec<Request>>) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            if lines.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
            }
        }
        let mut log = log.lock().unwrap();
        let request = Request { line: line.trim().to_owned(), headers, number: log.len() };
        log.push(request.clone());
        drop(log);
        if request.line.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            continue;
        }
        answer(&request, &mut stream)?;
        return stream.shutdown(std::net::Shutdown::Write);
    }
}

/// The head of an answer: `200 OK` and lines of headers.
pub fn head(stream: &mut TcpStream, status: &str, headers: &[String]) -> Result<()> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

/// An answer without contents.
pub fn empty(stream: &mut TcpStream, status: &str, headers: &[String]) -> Result<()> {
    head(stream, status, &[headers, &["Content-Length: 0".to_owned()]].concat())
}

/// The whole of a file.
pub fn whole(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    head(stream, "200 OK", &[format!("Content-Length: {}", bytes.len())])?;
    stream.write_all(bytes)
}

/// The head of an answer with the file from a byte to its end.
pub fn part_head(stream: &mut TcpStream, from: usize, all: usize) -> Result<()> {
    let range = format!("Content-Range: bytes {from}-{}/{all}", all - 1);
    head(stream, "206 Partial Content", &[range, format!("Content-Length: {}", all - from)])
}

/// What an honest server gives.
pub fn whole_or_part(request: &Request, stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    match request.from() {
        None => whole(stream, bytes),
        Some(from) if from >= bytes.len() => {
            empty(stream, "416 Range Not Satisfiable", &[format!("Content-Range: bytes */{}", bytes.len())])
        }
        Some(from) => {
            part_head(stream, from, bytes.len())?;
            stream.write_all(&bytes[from..])
        }
    }
}
