//! The server at the end of every path. It answers at once, with a result of the size that the call asks for. It
//! understands only what the clients in this folder send, without a JSON parser or an HTTP library, so that it costs
//! next to nothing. That is why it is not the scripted HTTP server of the tests: the cost of that one would be measured.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};

use memchr::memmem;

use crate::Outcome;

/// The argument that makes a bench serve on stdin and stdout.
pub(crate) const STDIO: &str = "--echo-stdio";

const INITIALIZED: &str = r#","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}}"#;

/// Results from this size on are images.
const IMAGE: usize = 100_000;

/// The part of an answer behind the id, by the size of the result.
#[derive(Default)]
pub(crate) struct Answers(HashMap<usize, Vec<u8>>);

impl Answers {
    /// The id and the rest of the answer to a message; `None` for a notification.
    pub(crate) fn to<'a>(&'a mut self, message: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let id = value_of(message, b"\"id\":")?;
        if memmem::find(message, b"\"initialize\"").is_some() {
            return Some((id, INITIALIZED.as_bytes()));
        }
        let size = value_of(message, b"\"size\":").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        Some((id, self.0.entry(size.unwrap_or(0)).or_insert_with_key(|size| result(*size))))
    }
}

/// The value behind a name, if it is a number or a word.
pub(crate) fn value_of<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = &message[memmem::find(message, name)? + name.len()..];
    let end = value.iter().position(|byte| matches!(byte, b',' | b'}'))?;
    Some(&value[..end])
}

fn result(size: usize) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 1_u32;
    let mut data = String::with_capacity(size);
    for _ in 0..size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.push(ALPHABET[(state >> 26) as usize].into());
    }
    let content = if size < IMAGE {
        format!(r#"{{"type":"text","text":"{data}"}}"#)
    } else {
        format!(r#"{{"type":"image","data":"{data}","mimeType":"image/png"}}"#)
    };
    format!(r#","result":{{"content":[{content}]}}}}"#).into_bytes()
}

fn write_parts(writer: &mut impl Write, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut rest = parts;
    while !rest.is_empty() {
        let written = writer.write_vectored(rest)?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Serves one client on stdin and stdout until it leaves.
pub(crate) fn serve_stdio() -> Outcome<()> {
    // Stdout's own buffer would cut a long answer at its newline.
    let mut output = std::fs::File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?);
    let mut input = io::stdin().lock();
    let mut answers = Answers::default();
    let mut buffer = vec![0; 256 * 1024];
    let (mut start, mut end) = (0, 0);
    loop {
        while let Some(length) = memchr::memchr(b'\n', &buffer[start..end]) {
            if let Some((id, rest)) = answers.to(&buffer[start..start + length]) {
                let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":".as_slice(), id, rest, b"\n"];
                write_parts(&mut output, &mut parts.map(IoSlice::new))?;
            }
            start += length + 1;
        }
        buffer.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        if end == buffer.len() {
            return Err("a request is too long".into());
        }
        match input.read(&mut buffer[end..])? {
            0 => return Ok(()),
            read => end += read,
        }
    }
}

/// Serves streamable HTTP, with a thread for each connection.
pub(crate) fn serve_http(listener: &TcpListener) {
    for socket in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // An error here is a client that has left.
            let _ = serve_connection(socket);
        });
    }
}

fn serve_connection(mut socket: TcpStream) -> Outcome<()> {
    socket.set_nodelay(true)?;
    let mut answers = Answers::default();
    let mut buffer = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let head = loop {
            if let Some(end) = memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            match socket.read(&mut piece)? {
                0 => return Ok(()),
                read => buffer.extend_from_slice(&piece[..read]),
            }
        };
        let headers = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or("0");
        let whole = head + length.trim().parse::<usize>()?;
        while buffer.len() < whole {
            match socket.read(&mut piece)? {
                0 => return Ok(()),
                read => buffer.extend_from_slice(&piece[..read]),
            }
        }
        if !headers.starts_with("post ") {
            // GET and DELETE: this server has no stream of its own and no sessions.
            socket.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n")?;
            buffer.drain(..whole);
            continue;
        }
        let as_events = headers.contains("text/event-stream");
        match answers.to(&buffer[head..whole]) {
            Some((id, rest)) => respond(&mut socket, as_events, id, rest)?,
            None => socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?,
        }
        buffer.drain(..whole);
    }
}

fn respond(socket: &mut TcpStream, as_events: bool, id: &[u8], rest: &[u8]) -> io::Result<()> {
    const SESSION: &str = "mcp-session-id: direct";
    const BEFORE: &str = "{\"jsonrpc\":\"2.0\",\"id\":";
    let length = BEFORE.len() + id.len() + rest.len();
    if !as_events {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{SESSION}\r\ncontent-length: {length}\r\n\r\n{BEFORE}"
        );
        return write_parts(socket, &mut [head.as_bytes(), id, rest].map(IoSlice::new));
    }
    let prime = "id: 1-0\nretry: 1000\ndata: \n\nevent: message\nid: 1-1\ndata: ";
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n{SESSION}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{prime}{BEFORE}",
        prime.len() + length + 2
    );
    write_parts(socket, &mut [head.as_bytes(), id, rest, b"\n\n\r\n0\r\n\r\n"].map(IoSlice::new))
}
