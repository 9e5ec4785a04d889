//! The messages between proxy and reaper on the control socket.
//!
//! First the proxy sends one spec: its length, with the server's standard input as a passed descriptor on those bytes,
//! then its fields. After that there are only lines: `end <milliseconds>` to the reaper, and [`Report`]s from it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::launch::{ExitStatusKind, ProcessSpec, StartStep};

/// The largest spec, in bytes: more than any system takes as arguments and environment together.
const MAX_SPEC_BYTES: usize = 16 << 20;

/// A report of the reaper, which is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The server runs as this process, which was started at this tick. The two together are never used again.
    Started { pid: i32, born: u64 },
    /// The server could not be started.
    Failed { step: StartStep, errno: i32 },
    /// The server has ended.
    Ended(ExitStatusKind),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid, born } => write!(f, "started {pid} {born}"),
            Self::Failed { step, errno } => {
                let step = match step {
                    StartStep::Reaper => "reaper",
                    StartStep::Scratch => "scratch",
                    StartStep::Cwd => "cwd",
                    StartStep::Program => "program",
                };
                write!(f, "failed {step} {errno}")
            }
            Self::Ended(ExitStatusKind::Code(code)) => write!(f, "exited {code}"),
            Self::Ended(ExitStatusKind::Signal(signal)) => write!(f, "signal {signal}"),
            Self::Ended(ExitStatusKind::Unknown) => f.write_str("ended"),
        }
    }
}

impl FromStr for Report {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        fn number<T: FromStr>(word: &str) -> Result<T, ()> {
            word.parse().map_err(drop)
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["started", pid, born] => Ok(Self::Started { pid: number(pid)?, born: number(born)? }),
            ["failed", step, errno] => {
                let step = match step {
                    "reaper" => StartStep::Reaper,
                    "scratch" => StartStep::Scratch,
                    "cwd" => StartStep::Cwd,
                    "program" => StartStep::Program,
                    _ => return Err(()),
                };
                Ok(Self::Failed { step, errno: number(errno)? })
            }
            ["exited", code] => Ok(Self::Ended(ExitStatusKind::Code(number(code)?))),
            ["signal", signal] => Ok(Self::Ended(ExitStatusKind::Signal(number(signal)?))),
            ["ended"] => Ok(Self::Ended(ExitStatusKind::Unknown)),
            _ => Err(()),
        }
    }
}

/// Sends a spec, and with it the descriptor that is to be the server's standard input.
pub(super) fn send(socket: &UnixStream, spec: &ProcessSpec, stdin: BorrowedFd<'_>) -> io::Result<()> {
    let body = encode(spec)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::ArgumentListTooLong)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stdin];
    passed.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(socket, &[IoSlice::new(&length)], &mut passed, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(length.get(sent..).unwrap_or_default())?;
    socket.write_all(&body)
}

/// Receives a launch; an error where the proxy went away before it had sent all of it.
pub(super) fn receive(socket: &UnixStream) -> io::Result<(ProcessSpec, OwnedFd)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut passed, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let stdin = passed
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut socket = socket;
    socket.read_exact(length.get_mut(got..).unwrap_or_default())?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_SPEC_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((decode(&body).ok_or(io::ErrorKind::InvalidData)?, stdin))
}

fn encode(spec: &ProcessSpec) -> io::Result<Vec<u8>> {
    fn field(body: &mut Vec<u8>, text: &OsStr) -> io::Result<()> {
        body.extend(u32::try_from(text.len()).map_err(|_| io::ErrorKind::ArgumentListTooLong)?.to_le_bytes());
        body.extend(text.as_bytes());
        Ok(())
    }
    let mut body = Vec::new();
    field(&mut body, &spec.program)?;
    // An empty field stands for no path: a path is never empty.
    for path in [&spec.cwd, &spec.scratch] {
        field(&mut body, path.as_ref().map_or(OsStr::new(""), |path| path.as_os_str()))?;
    }
    for number in [spec.files, spec.mark] {
        field(&mut body, OsStr::new(&number.map_or(String::new(), |number| number.to_string())))?;
    }
    field(&mut body, OsStr::new(&spec.args.len().to_string()))?;
    for arg in &spec.args {
        field(&mut body, arg)?;
    }
    for (key, value) in &spec.env {
        field(&mut body, key)?;
        field(&mut body, value)?;
    }
    if body.len() > MAX_SPEC_BYTES { Err(io::ErrorKind::ArgumentListTooLong.into()) } else { Ok(body) }
}

fn decode(mut body: &[u8]) -> Option<ProcessSpec> {
    fn field(body: &mut &[u8]) -> Option<OsString> {
        let (length, rest) = body.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *body = rest;
        Some(OsString::from_vec(text.to_vec()))
    }
    let body = &mut body;
    let program = field(body)?;
    let cwd = Some(field(body)?).filter(|path| !path.is_empty()).map(Into::into);
    let scratch = Some(field(body)?).filter(|path| !path.is_empty()).map(Into::into);
    let files = field(body)?.to_str()?.parse().ok();
    let mark = field(body)?.to_str()?.parse().ok();
    let count: usize = field(body)?.to_str()?.parse().ok()?;
    let args = (0..count).map(|_| field(body)).collect::<Option<_>>()?;
    let mut env = Vec::new();
    while !body.is_empty() {
        env.push((field(body)?, field(body)?));
    }
    Some(ProcessSpec { program, args, env, cwd, scratch, files, mark })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            program: "cat".into(),
            args: vec!["".into(), OsString::from_vec(vec![0xff, b'\n', b' '])],
            env: vec![("A".into(), "b\nc".into()), ("E".into(), "".into())],
            cwd: None,
            scratch: Some("/tmp/x".into()),
            files: Some(1024),
            mark: Some(u64::MAX - 1),
        }
    }

    #[test]
    fn a_launch_arrives_as_it_was_sent_with_its_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&ours, &spec(), writer.as_fd()).unwrap();
        drop(writer);

        let (got, passed) = receive(&theirs).unwrap();
        assert_eq!(got, spec());
        std::fs::File::from(passed).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_launch_that_breaks_off_is_an_error() {
        let whole = encode(&spec()).unwrap();
        // Between two variables the rest may be missing and nobody could tell; the length on the wire says.
        let args_end = whole.windows(1).rposition(|byte| byte == [0xff]).unwrap();
        assert!((0..args_end).all(|end| decode(&whole[..end]).is_none()));

        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(receive(&theirs).is_err());
    }

    #[test]
    fn reports_survive_the_wire() {
        for report in [
            Report::Started { pid: 7, born: u64::MAX },
            Report::Failed { step: StartStep::Cwd, errno: 2 },
            Report::Failed { step: StartStep::Program, errno: 13 },
            Report::Failed { step: StartStep::Scratch, errno: 17 },
            Report::Failed { step: StartStep::Reaper, errno: 5 },
            Report::Ended(ExitStatusKind::Code(-1)),
            Report::Ended(ExitStatusKind::Signal(9)),
            Report::Ended(ExitStatusKind::Unknown),
        ] {
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        assert!("started 1".parse::<Report>().is_err());
        assert!("".parse::<Report>().is_err());
    }
}
