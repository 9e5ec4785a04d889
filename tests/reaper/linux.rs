//! The tests of the reaper, and the commands with which they start this program again.

mod group;
mod harness;
mod killed;
mod limits;
mod sessions;
mod trees;
mod unrelated;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use sessile::reaper;

use group::{without_init_a_process_group_is_ended, without_reaper};
use killed::{
    a_killed_proxy_leaves_nothing, a_killed_reaper_leaves_nothing, a_killed_reaper_s_tree_does_not_outrun_the_proxy,
    a_proxy_killed_while_starting_leaves_nothing, folders_of_the_killed_are_removed_by_the_next,
    killed_reapers_of_a_claiming_proxy_leave_nothing, proxy, session,
};
use limits::{a_reaper_is_small_quiet_and_not_easily_hit, measure, two_hundred_at_once};
use sessions::{a_session_ended_while_starting_has_left_nothing, a_session_that_was_ended_has_left_nothing};
use trees::{
    a_clinging_tree_ends, a_server_starts_clean, a_server_that_ignores_sigterm_is_killed,
    a_start_that_nobody_waits_for_leaves_nothing, a_tree_that_flees_by_forking_ends,
    a_tree_that_forks_without_end_ends, an_end_that_nobody_waits_for_goes_on,
    an_exit_is_told_while_grandchildren_hold_stdout, bytes_pass_and_the_exit_code_is_told,
    dropping_the_child_ends_the_tree, environment_and_folders, what_cannot_start_says_why,
};
use unrelated::{
    children_from_before_main_are_left_alone, what_process_one_adopts_is_left_alone,
    without_a_mark_only_what_is_certain_ends,
};

pub(crate) fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.get(1) != Some(&"__no-reaper") {
        reaper::init();
    }
    match words[1..] {
        ["__proxy", count, ref rest @ ..] => run(proxy(count.parse().unwrap(), rest)),
        ["__session", scratch, ref command @ ..] => run(session(Path::new(scratch), command)),
        ["__no-reaper", pids] => run(without_reaper(Path::new(pids))),
        _ => return tests(),
    }
    ExitCode::SUCCESS
}

fn tests() -> ExitCode {
    reaper::raise_file_limit().unwrap();
    let trials = vec![
        trial("bytes_pass_and_the_exit_code_is_told", bytes_pass_and_the_exit_code_is_told),
        trial("a_server_starts_clean", a_server_starts_clean),
        trial("environment_and_folders", environment_and_folders),
        trial("what_cannot_start_says_why", what_cannot_start_says_why),
        trial("a_clinging_tree_ends", a_clinging_tree_ends),
        trial("a_server_that_ignores_sigterm_is_killed", a_server_that_ignores_sigterm_is_killed),
        trial("a_tree_that_forks_without_end_ends", a_tree_that_forks_without_end_ends),
        trial("a_tree_that_flees_by_forking_ends", a_tree_that_flees_by_forking_ends),
        trial("an_exit_is_told_while_grandchildren_hold_stdout", an_exit_is_told_while_grandchildren_hold_stdout),
        trial("dropping_the_child_ends_the_tree", dropping_the_child_ends_the_tree),
        trial("a_start_that_nobody_waits_for_leaves_nothing", a_start_that_nobody_waits_for_leaves_nothing),
        trial("an_end_that_nobody_waits_for_goes_on", an_end_that_nobody_waits_for_goes_on),
        trial("a_session_that_was_ended_has_left_nothing", a_session_that_was_ended_has_left_nothing),
        trial("a_session_ended_while_starting_has_left_nothing", a_session_ended_while_starting_has_left_nothing),
        trial("a_killed_proxy_leaves_nothing", a_killed_proxy_leaves_nothing),
        trial("a_proxy_killed_while_starting_leaves_nothing", a_proxy_killed_while_starting_leaves_nothing),
        trial("a_killed_reaper_leaves_nothing", a_killed_reaper_leaves_nothing),
        trial("killed_reapers_of_a_claiming_proxy_leave_nothing", killed_reapers_of_a_claiming_proxy_leave_nothing),
        trial("a_killed_reaper_s_tree_does_not_outrun_the_proxy", a_killed_reaper_s_tree_does_not_outrun_the_proxy),
        trial("children_from_before_main_are_left_alone", children_from_before_main_are_left_alone),
        trial("what_process_one_adopts_is_left_alone", what_process_one_adopts_is_left_alone),
        trial("without_a_mark_only_what_is_certain_ends", without_a_mark_only_what_is_certain_ends),
        trial("folders_of_the_killed_are_removed_by_the_next", folders_of_the_killed_are_removed_by_the_next),
        trial("a_reaper_is_small_quiet_and_not_easily_hit", a_reaper_is_small_quiet_and_not_easily_hit),
        trial("two_hundred_at_once", two_hundred_at_once),
        trial("without_init_a_process_group_is_ended", without_init_a_process_group_is_ended),
        trial("measure", measure).with_ignored_flag(true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F: Future<Output = ()> + 'static>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run(test());
        Ok::<(), Failed>(())
    })
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future);
}
