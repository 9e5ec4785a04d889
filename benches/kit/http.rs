//! A streamable HTTP client on a blocking socket. Its own cost is small, and the same on every path; that of the tests'
//! raw client, which wants a runtime and copies all that it reads, would be measured with the proxy's.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;

use memchr::memmem;

use crate::Outcome;
use crate::calls;

/// The URL of an MCP endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Outcome<Self> {
        let rest = url.trim().strip_prefix("http://").ok_or("the URL must begin with http://")?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, "mcp"));
        Ok(Self { address: address.to_owned(), path: format!("/{path}") })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }
}

/// The formats that the client accepts as an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    /// JSON and SSE, as the specification requires. Most servers then choose SSE.
    Events,
    /// JSON only.
    Json,
}

/// One connection, and the session that was opened on it.
pub(crate) struct Client {
    socket: TcpStream,
    /// Request line and headers, up to the length of the body.
    head: String,
    pub(crate) session: Option<String>,
    request: String,
    input: Input,
}

/// Bytes that were read from the connection and are not used yet.
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    session: Option<String>,
    /// The length of the body without its chunk headers.
    length: usize,
    /// The first bytes of the body.
    begin: Vec<u8>,
}

/// How many bytes of a body are kept.
const BEGIN: usize = 512;

enum Length {
    Known(usize),
    Chunked,
}

impl Client {
    pub(crate) fn connect(target: &Target, format: Format) -> Outcome<Self> {
        let socket = TcpStream::connect(&target.address)?;
        socket.set_nodelay(true)?;
        let accept = match format {
            Format::Events => "application/json, text/event-stream",
            Format::Json => "application/json",
        };
        let head = format!(
            "{} HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\ncontent-type: application/json\r\n",
            target.path, target.address
        );
        let input = Input { buffer: vec![0; 256 * 1024], start: 0, end: 0 };
        Ok(Self { socket, head, session: None, request: String::new(), input })
    }

    /// Opens a session.
    pub(crate) fn open(target: &Target, format: Format) -> Outcome<Self> {
        let mut client = Self::connect(target, format)?;
        client.initialize()?;
        Ok(client)
    }

    /// Opens a session. One that this connection had before is not ended.
    pub(crate) fn initialize(&mut self) -> Outcome<()> {
        self.session = None;
        let response = self.send("POST", calls::INITIALIZE)?;
        if response.status != 200 {
            return Err(format!("initialize was answered with status {}", response.status).into());
        }
        self.session = response.session;
        let response = self.send("POST", calls::INITIALIZED)?;
        if response.status != 202 {
            return Err(format!("a notification was answered with status {}", response.status).into());
        }
        Ok(())
    }

    pub(crate) fn call(&mut self, id: u64, size: usize) -> Outcome<()> {
        self.call_for(&calls::call(id, size), &format!("\"id\":{id},"), id, size)
    }

    /// Sends a call that gets two progress notifications before its answer.
    pub(crate) fn call_with_progress(&mut self, id: u64, size: usize) -> Outcome<()> {
        self.call_for(&calls::call_with_progress(id, size), "\"progress\":2", id, size)
    }

    /// Sends a call. The beginning of the response has to contain `mark`.
    fn call_for(&mut self, call: &str, mark: &str, id: u64, size: usize) -> Outcome<()> {
        let response = self.send("POST", call)?;
        let answered = memmem::find(&response.begin, mark.as_bytes()).is_some();
        if response.status == 200 && answered && response.length > size {
            return Ok(());
        }
        let begin = String::from_utf8_lossy(&response.begin);
        Err(format!("call {id} was answered with status {}: {begin}", response.status).into())
    }

    fn write(&mut self, method: &str, body: &str) -> Outcome<()> {
        self.request.clear();
        write!(self.request, "{method} {}", self.head)?;
        if let Some(session) = &self.session {
            write!(self.request, "mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n")?;
        }
        write!(self.request, "content-length: {}\r\n\r\n{body}", body.len())?;
        self.socket.write_all(self.request.as_bytes())?;
        Ok(())
    }

    /// Opens the GET stream, and leaves it open.
    pub(crate) fn listen(&mut self) -> Outcome<()> {
        self.write("GET", "")?;
        let (response, _) = self.input.head(&mut self.socket)?;
        if response.status == 200 { Ok(()) } else { Err(format!("GET: status {}", response.status).into()) }
    }

    pub(crate) fn send(&mut self, method: &str, body: &str) -> Outcome<Response> {
        self.write(method, body)?;
        let (mut response, length) = self.input.head(&mut self.socket)?;
        match length {
            Length::Known(length) => self.input.body(&mut self.socket, length, &mut response)?,
            Length::Chunked => loop {
                let line = self.input.until(&mut self.socket, b"\r\n")?;
                let size = std::str::from_utf8(&line)?.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size.trim(), 16)?;
                self.input.body(&mut self.socket, size, &mut response)?;
                self.input.until(&mut self.socket, b"\r\n")?;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(response)
    }
}

impl Input {
    fn fill(&mut self, socket: &mut TcpStream) -> Outcome<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match socket.read(&mut self.buffer[self.end..])? {
            0 => Err("the connection was closed".into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }

    /// Takes all bytes up to and including `mark`.
    fn until(&mut self, socket: &mut TcpStream, mark: &[u8]) -> Outcome<Vec<u8>> {
        loop {
            if let Some(at) = memmem::find(&self.buffer[self.start..self.end], mark) {
                let taken = self.buffer[self.start..self.start + at].to_vec();
                self.start += at + mark.len();
                return Ok(taken);
            }
            self.fill(socket)?;
        }
    }

    fn head(&mut self, socket: &mut TcpStream) -> Outcome<(Response, Length)> {
        let head = self.until(socket, b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&head)?.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().parse()?;
        let mut response = Response { status, session: None, length: 0, begin: Vec::with_capacity(BEGIN) };
        let mut length = Length::Known(0);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("mcp-session-id") {
                response.session = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        Ok((response, length))
    }

    /// Takes `length` bytes of the body.
    fn body(&mut self, socket: &mut TcpStream, length: usize, response: &mut Response) -> Outcome<()> {
        response.length += length;
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.fill(socket)?;
            }
            let taken = left.min(self.end - self.start);
            let wanted = taken.min(BEGIN - response.begin.len());
            response.begin.extend_from_slice(&self.buffer[self.start..self.start + wanted]);
            self.start += taken;
            left -= taken;
        }
        Ok(())
    }
}
