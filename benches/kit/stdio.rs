//! A stdio client on blocking pipes.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use memchr::memmem;

use crate::Outcome;
use crate::calls;

/// A program that this client has started.
pub(crate) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    buffer: Vec<u8>,
}

impl Client {
    /// Starts the program and opens a session with it.
    pub(crate) fn open(program: impl AsRef<OsStr>, args: &[&OsStr]) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no stdout")?;
        let mut client = Self { child, input, output, buffer: vec![0; 256 * 1024] };
        client.say(calls::INITIALIZE)?;
        client.hear("\"id\":0,")?;
        client.say(calls::INITIALIZED)?;
        Ok(client)
    }

    pub(crate) fn call(&mut self, id: u64, size: usize) -> Outcome<()> {
        self.say(&calls::call(id, size))?;
        let length = self.hear(&format!("\"id\":{id},"))?;
        if length > size { Ok(()) } else { Err(format!("the answer to call {id} has {length} bytes").into()) }
    }

    fn say(&mut self, message: &str) -> Outcome<()> {
        let input = self.input.as_mut().ok_or("no stdin")?;
        input.write_all(format!("{message}\n").as_bytes())?;
        Ok(())
    }

    /// Reads one line, which has to begin with a message of that id, and returns its length.
    fn hear(&mut self, id: &str) -> Outcome<usize> {
        let mut length = 0;
        loop {
            let read = self.output.read(&mut self.buffer)?;
            if read == 0 {
                return Err("the server is gone".into());
            }
            if length == 0 && memmem::find(&self.buffer[..read.min(64)], id.as_bytes()).is_none() {
                return Err(format!("not an answer: {}", String::from_utf8_lossy(&self.buffer[..read.min(512)])).into());
            }
            length += read;
            // One message is under way at a time: a newline can only be the last byte.
            if self.buffer[read - 1] == b'\n' {
                return Ok(length);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
