//! How a hook ended: from its own word, its exit, and what the runner had to do to it.

use super::record::{Record, Status};
use crate::process::Exit;

/// What exit 0 without a word of the hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// No results, as today's runners have it.
    #[default]
    Current,
    /// Success, as ArchiveBox had it in January 2026.
    Seed,
}

/// Why the runner ended a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its time was over.
    Timeout,
    /// It printed or wrote too much.
    Output,
    /// The operator skipped it.
    Skipped,
    /// The run was given up.
    Aborted,
    /// The snapshot or crawl ended while it ran in the background, and it obeyed.
    CleanUp,
}

/// The exit code of a killed process, by convention of shells.
pub const KILLED: i32 = 137;
/// The exit code by which a hook says that its settings kept it from running.
pub const SKIPPED: i32 = 10;
/// SIGTERM.
const TERM: i32 = 15;

/// An exit as one number: the code, 128 + the signal, or -1 where it is lost.
pub fn code(exit: Exit) -> i32 {
    exit.code.or(exit.signal.map(|s| 128 + s)).unwrap_or(-1)
}

/// Status and a line that says why, "" when there is nothing to say.
pub fn conclude(
    exit: Exit,
    ended: Option<Ended>,
    own: Option<&Record>,
    stderr: &str,
    mode: Mode,
) -> (Status, String) {
    let said = own.and_then(|r| r.text("output_str")).unwrap_or_default().to_owned();
    match ended {
        Some(Ended::Timeout) => return (Status::Failed, "its time was over; it was killed".into()),
        Some(Ended::Output) => return (Status::Failed, "it printed more than is kept; it was killed".into()),
        Some(Ended::Skipped) => return (Status::Skipped, "skipped by the operator".into()),
        Some(Ended::Aborted) => return (Status::Skipped, "the run was given up".into()),
        Some(Ended::CleanUp) | None => {}
    }
    let code = code(exit);
    // A background hook that obeys SIGTERM ended well.
    let obeyed = ended == Some(Ended::CleanUp) && code == 128 + TERM;
    let own = own.and_then(Record::status);
    match (code, own) {
        (_, Some(Err(word))) => (Status::Failed, format!("the hook gave an unknown status {word:?}")),
        (0, Some(Ok(status))) => (status, said),
        (_, Some(Ok(status))) if obeyed => (status, said),
        (SKIPPED, _) => (Status::Skipped, said),
        (0, None) => (silent(mode), said),
        (_, None) if obeyed => (silent(mode), said),
        (_, own) => {
            let last = stderr.trim_end().lines().next_back().unwrap_or_default();
            let why = if own == Some(Ok(Status::Failed)) && !said.is_empty() { &said } else { last };
            (Status::Failed, format!("{exit}: {why}").trim_end_matches(": ").to_owned())
        }
    }
}

fn silent(mode: Mode) -> Status {
    match mode {
        Mode::Current => Status::NoResults,
        Mode::Seed => Status::Succeeded,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::{Line, read};
    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code: Some(code), signal: None }
    }

    const TERMINATED: Exit = Exit { code: None, signal: Some(15) };

    fn own(status: &str) -> Record {
        let text = json!({"type": "ArchiveResult", "status": status, "output_str": "said"}).to_string();
        match read(text.as_bytes(), ("p", "h"), &json!({})) {
            Line::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn status(exit: Exit, ended: Option<Ended>, own: Option<&Record>, mode: Mode) -> Status {
        conclude(exit, ended, own, "a\nlast", mode).0
    }

    /// A32, D-g
    #[test]
    fn exits_without_a_word_are_judged_by_mode() {
        assert_eq!(status(exit(0), None, None, Mode::Current), Status::NoResults);
        assert_eq!(status(exit(0), None, None, Mode::Seed), Status::Succeeded);
        for mode in [Mode::Current, Mode::Seed] {
            assert_eq!(status(exit(10), None, None, mode), Status::Skipped);
            assert_eq!(status(exit(1), None, None, mode), Status::Failed);
        }
        assert_eq!(conclude(exit(1), None, None, "a\nlast\n", Mode::Current).1, "exit code 1: last");
        let lost = Exit { code: None, signal: None };
        assert_eq!(status(lost, None, None, Mode::Seed), Status::Failed);
    }

    /// A31, A32: its own word counts where the exit does not deny it.
    #[test]
    fn its_own_word_counts_unless_the_exit_denies_it() {
        assert_eq!(status(exit(0), None, Some(&own("noresult")), Mode::Seed), Status::NoResults);
        assert_eq!(status(exit(0), None, Some(&own("failed")), Mode::Seed), Status::Failed);
        assert_eq!(status(exit(1), None, Some(&own("succeeded")), Mode::Seed), Status::Failed);
        assert_eq!(conclude(exit(1), None, Some(&own("failed")), "x", Mode::Seed).1, "exit code 1: said");
        assert_eq!(status(exit(0), None, Some(&own("great")), Mode::Seed), Status::Failed);
    }

    /// A39: SIGTERM in clean-up is success, SIGKILL is not, and SIGTERM at any other time is not.
    #[test]
    fn only_obedience_in_clean_up_is_success() {
        let done = own("succeeded");
        assert_eq!(status(TERMINATED, Some(Ended::CleanUp), Some(&done), Mode::Current), Status::Succeeded);
        assert_eq!(status(exit(143), Some(Ended::CleanUp), Some(&done), Mode::Current), Status::Succeeded);
        assert_eq!(status(TERMINATED, Some(Ended::CleanUp), None, Mode::Seed), Status::Succeeded);
        assert_eq!(status(TERMINATED, None, Some(&done), Mode::Current), Status::Failed);
        let killed = Exit { code: None, signal: Some(9) };
        assert_eq!(code(killed), KILLED);
        assert_eq!(status(killed, Some(Ended::Timeout), Some(&done), Mode::Current), Status::Failed);
    }
}
