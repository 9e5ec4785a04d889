//! What `check` prints: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::letters::{is_hidden, width, width_of};

/// The widest text of a server in the table, in columns of the terminal.
const MAX_COLUMN_WIDTH: usize = 40;

/// The result of checking one server.
pub(super) struct Row {
    pub name: String,
    /// What the server offers, or why it was not reached.
    pub outcome: Result<ServerSummary, String>,
    pub took: Duration,
}

/// What a server offers.
pub(super) struct ServerSummary {
    /// The negotiated protocol version.
    pub version: String,
    pub server: String,
    pub server_version: String,
    /// How many tools there are; `None` if the server does not have tools at all. The same for resources and prompts.
    pub tools: Option<usize>,
    pub resources: Option<usize>,
    pub prompts: Option<usize>,
}

/// The era of a version: those up to 2025-11-25 have a handshake.
fn era(version: &str) -> &'static str {
    if version <= "2025-11-25" { "legacy" } else { "modern" }
}

/// The table, with a line for each server.
pub(super) fn text(rows: &[Row]) -> String {
    let heads = ["NAME", "REACHED", "PROTOCOL", "SERVER", "TOOLS", "RESOURCES", "PROMPTS", "TIME", "ERROR"];
    let mut cells = vec![heads.map(str::to_owned)];
    cells.extend(rows.iter().map(cells_of));
    let mut widths = [0; 9];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = width_of(cell).max(*width);
        }
    }
    let mut text = String::new();
    for row in &cells {
        let pad = |(cell, width): (&String, usize)| format!("{cell}{}", " ".repeat(width - width_of(cell)));
        let padded: Vec<_> = row.iter().zip(widths).map(pad).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cells_of(row: &Row) -> [String; 9] {
    let none = || "-".to_owned();
    let count = |count: Option<usize>| count.map_or_else(none, |count| count.to_string());
    let time = seconds(row.took);
    match &row.outcome {
        Ok(found) => [
            one_line(&row.name, MAX_COLUMN_WIDTH),
            "yes".to_owned(),
            one_line(&format!("{} {}", era(&found.version), found.version), MAX_COLUMN_WIDTH),
            one_line(&format!("{} {}", found.server, found.server_version), MAX_COLUMN_WIDTH),
            count(found.tools),
            count(found.resources),
            count(found.prompts),
            time,
            String::new(),
        ],
        Err(error) => {
            let name = one_line(&row.name, MAX_COLUMN_WIDTH);
            [name, "no".to_owned(), none(), none(), none(), none(), none(), time, one_line(error, 2000)]
        }
    }
}

/// A text of a server, on one line and without control characters: it must not be able to command the terminal.
fn one_line(text: &str, longest: usize) -> String {
    let visible = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut room = longest;
    let fits = |letter: &char| {
        let fits = width(*letter) <= room;
        room = room.saturating_sub(width(*letter));
        fits
    };
    // The number of letters is bounded as well as their width: combining marks have no width.
    let letters = text.trim().chars().filter(|letter| !is_hidden(*letter)).take(longest);
    let text: String = letters.map(visible).take_while(fits).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Escapes control characters in JSON, which people may look at in a terminal too.
fn escape_for_terminals(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        // Line feeds end the lines of the JSON itself. Those in texts are escaped already.
        if letter != '\n' && letter.is_control() || is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// The JSON, with an object for each server.
pub(super) fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows.iter().map(object).collect();
    let reached = rows.iter().all(|row| row["reached"] == true);
    escape_for_terminals(&format!("{:#}\n", json!({ "reached": reached, "servers": rows })))
}

fn object(row: &Row) -> Value {
    let took = u64::try_from(row.took.as_millis()).unwrap_or(u64::MAX);
    match &row.outcome {
        Ok(found) => json!({
            "name": row.name,
            "reached": true,
            "era": era(&found.version),
            "protocolVersion": found.version,
            "serverInfo": { "name": found.server, "version": found.server_version },
            "tools": found.tools,
            "resources": found.resources,
            "prompts": found.prompts,
            "timeMs": took,
        }),
        Err(error) => json!({ "name": row.name, "reached": false, "timeMs": took, "error": error }),
    }
}

/// A time in seconds or milliseconds.
pub(super) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f32())
    }
}

/// Writes to stdout; fails if stdout is closed.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 2] {
        let found = ServerSummary {
            version: "2025-11-25".to_owned(),
            server: "demo\u{1b}[31m".to_owned(),
            server_version: "1".to_owned(),
            tools: Some(6),
            resources: None,
            prompts: Some(0),
        };
        let dead = Err("it is\ngone".to_owned());
        [
            Row { name: "good".to_owned(), outcome: Ok(found), took: Duration::from_millis(12) },
            Row { name: "longer-name".to_owned(), outcome: dead, took: Duration::from_millis(1500) },
        ]
    }

    #[test]
    fn a_table_is_aligned_and_tame() {
        let expected = "\
NAME         REACHED  PROTOCOL           SERVER       TOOLS  RESOURCES  PROMPTS  TIME   ERROR
good         yes      legacy 2025-11-25  demo [31m 1  6      -          0        12 ms
longer-name  no       -                  -            -      -          -        1.5 s  it is gone
";
        assert_eq!(text(&rows()), expected);
    }

    #[test]
    fn json_says_the_same() {
        let json: Value = serde_json::from_str(&json(&rows())).unwrap();
        assert_eq!((&json["reached"], &json["servers"][0]["reached"]), (&Value::Bool(false), &Value::Bool(true)));
        assert_eq!((&json["servers"][0]["tools"], &json["servers"][0]["resources"]), (&json!(6), &Value::Null));
        assert_eq!(json["servers"][1]["error"], "it is\ngone");
    }

    #[test]
    fn eras_are_told_apart() {
        assert_eq!((era("2024-11-05"), era("2025-11-25"), era("2026-07-28")), ("legacy", "legacy", "modern"));
    }

    #[test]
    fn what_is_not_seen_is_left_out_and_wide_letters_are_aligned() {
        let mut rows = rows();
        if let Ok(found) = &mut rows[0].outcome {
            found.server = "日本\u{202e}\u{200b}x\u{9b}31m\u{e0041}".to_owned();
        }
        let text = text(&rows);
        let lines: Vec<_> = text.lines().collect();
        let before = |line: &str, word: &str| width_of(&line[..line.find(word).unwrap()]);
        assert_eq!(before(lines[0], "TOOLS"), before(lines[1], "6      -"), "{text}");
        assert!(lines[1].contains("日本x 31m 1"), "{text}");
        let json = json(&rows);
        assert!(!json.contains(['\u{202e}', '\u{200b}', '\u{9b}', '\u{e0041}']), "{json}");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["servers"][0]["serverInfo"]["name"], "日本\u{202e}\u{200b}x\u{9b}31m\u{e0041}");
        assert_eq!(width_of(&one_line(&"日".repeat(100), MAX_COLUMN_WIDTH)), MAX_COLUMN_WIDTH);
    }
}
