//! `sessile token`: prints a fresh token and its line.
//!
//! The line goes to stdout, so that it can be appended to the file of tokens, and only the line: the file must not get
//! the token. The token goes to stderr, where whoever runs this sees it once.

use std::process::ExitCode;

use sessile::tokens::NewToken;

use super::{fail, table};
use crate::telemetry::{print_notice, print_plain};

pub(super) fn print(new: &NewToken) -> ExitCode {
    // The line first: a token whose line is lost is of no use.
    if let Err(error) = table::print(&format!("{}\n", new.line())) {
        return fail(&format!("the line could not be printed: {error}"));
    }
    print_notice(
        "the line on stdout is for the file of --tokens; this is the token, for its holder alone and shown once:",
    );
    print_plain(new.expose());
    ExitCode::SUCCESS
}
