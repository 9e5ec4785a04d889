//! The built program, run to its end or until the test is done with it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The path of the program.
pub(crate) const SESSILE: &str = env!("CARGO_BIN_EXE_sessile");

/// What a program that has ended leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program, with these words and variables.
pub(crate) fn command(words: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(SESSILE);
    command.args(words).env_remove("SESSILE_LOG").envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it until it ends.
pub(crate) fn run(words: &[&str]) -> Ended {
    run_with(words, &[])
}

pub(crate) fn run_with(words: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = command(words, variables).output().unwrap();
    Ended {
        code: output.status.code().expect("it was killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Says these lines to `sessile stdio`, and closes its input.
pub(crate) fn says(words: &[&str], lines: &[&str]) -> Ended {
    let mut child = command(words, &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().expect("it was killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A folder with a configuration file in it.
pub(crate) struct File {
    folder: TempDir,
}

impl File {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mcp.json"), text).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> String {
        self.beside("mcp.json").to_str().unwrap().to_owned()
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const DEMO: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--log", "off"];

/// The demo server behind an HTTP front on a free port.
pub(crate) struct Serving {
    child: Child,
    pub url: String,
}

impl Serving {
    pub(crate) fn demo() -> Self {
        Self::start(command(&DEMO, &[]))
    }

    /// The same, with so many file descriptors.
    pub(crate) fn demo_with_descriptors(limit: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\""), SESSILE]).args(DEMO);
        command.env_remove("SESSILE_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("sessile: listening on ").expect("it says where it listens").to_owned();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Self { child, url }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
