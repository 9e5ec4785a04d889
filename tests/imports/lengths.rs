//! No file is too long: a file is one noun, and who looks for something reads one file.

use crate::tokens::read_sources;

/// The longest production file, in lines, with the tests that stand in it.
const LONGEST: usize = 400;

/// The longest file of tests, in lines.
const LONGEST_TESTS: usize = 500;

/// Production files that are longer still. A file leaves the list when it has been split; none comes onto it.
const TO_BE_SPLIT: [&str; 0] = [];

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for folder in ["src", "demo/src", "tests"] {
        for (file, text) in read_sources(folder) {
            let path = format!("{folder}/{file}");
            let is_test = folder == "tests" || file.split('/').any(|part| matches!(part, "tests" | "tests.rs"));
            let limit = if is_test { LONGEST_TESTS } else { LONGEST };
            let lines = text.lines().count();
            if lines > limit && !TO_BE_SPLIT.contains(&path.as_str()) {
                long.push(format!("{path} has {lines} lines, {limit} are the most: split it by noun"));
            }
        }
    }
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}
