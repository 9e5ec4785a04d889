//! The memory of a process as Linux counts it, and the processes below one.

use std::fs;

use crate::Outcome;

/// Memory of one process, in KB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All resident pages, also shared ones.
    pub(crate) resident: u64,
    /// Pages that no other process shares.
    pub(crate) private: u64,
}

pub(crate) fn of(pid: u32) -> Outcome<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    Ok(Memory { resident: sum(&["Rss:"]), private: sum(&["Private_Clean:", "Private_Dirty:"]) })
}

/// A child of a process, or a child of its children.
pub(crate) struct Descendant {
    pub(crate) pid: u32,
    /// Whether the process is one of sessile's reapers.
    pub(crate) is_reaper: bool,
}

/// All descendants of a process. A process that starts or ends in the meantime may be missed.
pub(crate) fn descendants(pid: u32) -> Vec<Descendant> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let is_reaper = command.split(|byte| *byte == 0).any(|arg| arg == b"__reaper");
            found.push(Descendant { pid: child, is_reaper });
            parents.push(child);
        }
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|text| text.parse().ok()).collect::<Vec<_>>()).collect()
}
