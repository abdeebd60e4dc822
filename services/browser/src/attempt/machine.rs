//! What an attempt does next: `(event, now) -> action`. No clock, no browser, no storage.

use std::time::Duration;

use sonde_proto::visit::v1::{
    AttemptResult, Command, CommandResult, CommandStatus, Failure, FailureKind, Outcome, Phase,
    RecordVideoCommand, RetryAdvice, SealSummary, StopVideo, VisitLimits, command::Step,
    record_video_command::Action as Video,
};
use tokio::time::Instant;

use super::fault;
use super::limits::Times;
use crate::engine::{CommandReport, Ending};

/// A moment by both clocks: deadlines are monotonic, what people read is not.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub at: Instant,
    /// Microseconds since the epoch.
    pub wall_us: i64,
}

/// What an attempt is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub visit_id: i64,
    pub commands: Vec<Command>,
    pub limits: VisitLimits,
    /// Longest time that the preparation waits for the hooks of the crawl.
    pub crawl_hooks: Duration,
    /// Stays open for further commands until it is told to finish.
    pub interactive: bool,
}

/// Ends an attempt early.
#[derive(Debug, Clone, PartialEq)]
pub enum Interrupt {
    /// By the caller, with its reason.
    Cancelled(String),
    LeaseExpired,
    /// The browser is gone, with how.
    BrowserGone(String),
    /// The engine did not come back long after its deadline.
    Hung,
    /// The browser takes more memory than it may, with how much.
    TooHeavy(String),
    /// Storage takes nothing of it any more.
    Refused(Failure),
}

impl Interrupt {
    /// Why the browser can take no other visit, where that follows.
    pub fn unfit(&self) -> Option<String> {
        match self {
            Self::BrowserGone(why) | Self::TooHeavy(why) => Some(why.clone()),
            Self::Hung => Some("it did not come back after a command's deadline".to_owned()),
            Self::Cancelled(_) | Self::LeaseExpired | Self::Refused(_) => None,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    Prepared,
    NotPrepared(Failure),
    CommandEnded(CommandReport),
    /// One more command of an interactive attempt.
    Step(Command),
    /// No more commands.
    Finish,
    Interrupted(Interrupt),
    /// With why storage does not have all of it.
    Flushed(Ending, Option<Failure>),
    Sealed(SealSummary),
    NotSealed(Failure),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Prepare { deadline: Instant },
    Run { index: u32, command: Command, deadline: Instant },
    AwaitStep { deadline: Option<Instant> },
    Flush { deadline: Instant },
    Seal { outcome: Outcome, incomplete_reason: String, ending: Ending, deadline: Instant },
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Prepare,
    Command,
    Await,
    Flush,
    Seal,
    Done,
}

/// One attempt, from preparation to its result.
#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    times: Times,
    stage: Stage,
    /// The command that runs or comes next.
    next: usize,
    command_began: Instant,
    give_up: Option<Instant>,
    phase: Phase,
    results: Vec<CommandResult>,
    verdict: Option<(Outcome, Failure)>,
    /// Why the data cannot be whole, for the seal.
    incomplete: String,
    seal: Option<SealSummary>,
    began: Now,
    finishing: bool,
    /// A video is recorded.
    recording: bool,
}

impl Machine {
    /// Starts with the preparation.
    pub fn start(plan: Plan, now: Now) -> (Self, Action) {
        let times = Times::new(&plan);
        let give_up = times.total.map(|total| now.at + total.saturating_sub(times.seal));
        let mut machine = Self {
            times,
            stage: Stage::Prepare,
            next: 0,
            command_began: now.at,
            give_up,
            phase: Phase::default(),
            results: Vec::new(),
            verdict: None,
            incomplete: String::new(),
            seal: None,
            began: now,
            finishing: !plan.interactive,
            recording: false,
            plan,
        };
        let deadline = machine.capped(now.at + times.prepare);
        machine.enter(Stage::Prepare, "prepare", now, deadline);
        (machine, Action::Prepare { deadline })
    }

    /// Where the attempt is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Results so far, in order.
    pub fn results(&self) -> &[CommandResult] {
        &self.results
    }

    /// A command of the plan.
    ///
    /// # Panics
    /// When there is none with this index.
    pub fn command(&self, index: u32) -> &Command {
        &self.plan.commands[index as usize]
    }

    /// What the present phase does or waits for.
    pub fn detail(&mut self, detail: String) {
        self.phase.detail = detail;
    }

    /// How it ended; complete after [`Action::End`].
    pub fn result(&self, now: Now) -> AttemptResult {
        let (outcome, failure) = match &self.verdict {
            Some((outcome, failure)) => (*outcome, Some(failure.clone())),
            None => (Outcome::Ok, None),
        };
        AttemptResult {
            visit_id: self.plan.visit_id,
            outcome: outcome.into(),
            failure,
            commands: self.results.clone(),
            seal: self.seal.clone(),
            started_at: Some(timestamp(self.began.wall_us)),
            ended_at: Some(timestamp(now.wall_us)),
        }
    }

    /// Takes what happened, and says what to do.
    pub fn apply(&mut self, event: Event, now: Now) -> Action {
        match (self.stage, event) {
            (Stage::Prepare, Event::Prepared) => self.proceed(now),
            (Stage::Prepare, Event::NotPrepared(failure)) => {
                let mut outcome = fault::outcome(&failure);
                if failure.fingerprint == "browser:launch" {
                    // There was no browser that could have crashed.
                    outcome = Outcome::Error;
                }
                self.judge(outcome, failure);
                self.flush(now)
            }
            (Stage::Command, Event::CommandEnded(report)) => self.command_ended(report, now),
            (Stage::Await, Event::Step(command)) => {
                self.plan.commands.push(command);
                self.proceed(now)
            }
            (Stage::Await, Event::Finish) => {
                self.finishing = true;
                self.proceed(now)
            }
            (Stage::Prepare | Stage::Command | Stage::Await, Event::Interrupted(why)) => {
                self.interrupted(why, now)
            }
            (Stage::Flush, Event::Flushed(ending, failure)) => self.flushed(ending, failure, now),
            (Stage::Seal, Event::Sealed(seal)) => self.sealed(seal),
            (Stage::Seal, Event::NotSealed(failure)) => {
                self.judge(Outcome::Error, failure);
                self.end()
            }
            (stage, event) => {
                debug_assert!(false, "{event:?} cannot come in {stage:?}");
                self.judge(Outcome::Error, fault::invalid("event", format!("out of order in {stage:?}")));
                self.end()
            }
        }
    }

    fn capped(&self, deadline: Instant) -> Instant {
        self.give_up.map_or(deadline, |last| deadline.min(last))
    }

    fn enter(&mut self, stage: Stage, name: &str, now: Now, deadline: Instant) {
        self.stage = stage;
        let count = self.plan.commands.len() as u32 + 3;
        let index = match stage {
            Stage::Prepare => 1,
            Stage::Command | Stage::Await => self.next as u32 + 2,
            Stage::Flush => count - 1,
            Stage::Seal | Stage::Done => count,
        };
        let left = deadline.saturating_duration_since(now.at).as_micros();
        self.phase = Phase {
            index,
            count,
            name: name.to_owned(),
            detail: String::new(),
            started_at: Some(timestamp(now.wall_us)),
            deadline: Some(timestamp(now.wall_us + i64::try_from(left).unwrap_or(i64::MAX / 2))),
        };
    }

    /// The next command, or the end of them.
    fn proceed(&mut self, now: Now) -> Action {
        let Some(command) = self.plan.commands.get(self.next).cloned() else {
            if self.finishing {
                return self.wind_up(now);
            }
            let deadline = self.give_up.unwrap_or(now.at + Duration::from_secs(24 * 3600));
            self.enter(Stage::Await, "wait", now, deadline);
            self.phase.detail = "waiting for a step".to_owned();
            return Action::AwaitStep { deadline: self.give_up };
        };
        let deadline = self.capped(now.at + command.time());
        self.command_began = now.at;
        self.enter(Stage::Command, command.name(), now, deadline);
        Action::Run { index: self.next as u32, command, deadline }
    }

    fn command_ended(&mut self, report: CommandReport, now: Now) -> Action {
        let command = &self.plan.commands[self.next];
        let (name, may_fail) = (command.name(), command.continue_on_error);
        self.results.push(CommandResult {
            index: self.next as u32,
            name: name.to_owned(),
            status: report.status.into(),
            error: report.error.clone(),
            duration_ms: i64::try_from(now.at.duration_since(self.command_began).as_millis())
                .unwrap_or(i64::MAX),
            final_url: report.final_url,
            http_status: report.http_status,
            artifacts: report.artifacts,
            value_json: report.value_json,
        });
        if let Some(recording) = recording_after(command, report.status) {
            self.recording = recording;
        }
        self.next += 1;
        let fine = match report.status {
            CommandStatus::Ok => true,
            CommandStatus::Critical => false,
            // A live driver sees the result and decides itself.
            _ => may_fail || self.plan.interactive,
        };
        if fine {
            return self.proceed(now);
        }
        let outcome = match report.status {
            CommandStatus::Neterror => Outcome::Neterror,
            CommandStatus::Timeout => Outcome::Timeout,
            CommandStatus::Critical => Outcome::Crashed,
            _ => Outcome::Error,
        };
        let failure = report.failure.unwrap_or_else(|| fault::command(name, report.error));
        self.judge(outcome, failure);
        if report.status == CommandStatus::Critical {
            return self.flush(now);
        }
        self.wind_up(now)
    }

    /// After the last command that is run: a video that is still recorded is made by a command of our own.
    fn wind_up(&mut self, now: Now) -> Action {
        if !self.recording {
            return self.flush(now);
        }
        self.recording = false;
        self.finishing = true;
        // What comes after it was not run, and its place is its own.
        self.next = self.plan.commands.len();
        self.plan.commands.push(stop_recording());
        self.proceed(now)
    }

    fn interrupted(&mut self, why: Interrupt, now: Now) -> Action {
        self.note(&why);
        // There is no time for it.
        self.recording = false;
        let (outcome, failure) = match why {
            Interrupt::Cancelled(reason) => (Outcome::Cancelled, fault::cancelled(&reason)),
            Interrupt::LeaseExpired => (Outcome::Error, fault::lease_expired()),
            Interrupt::BrowserGone(how) => {
                (Outcome::Crashed, fault::browser("gone", format!("the browser is gone: {how}")))
            }
            Interrupt::Hung => {
                (Outcome::Crashed, fault::browser("hung", "the browser did not come back after its deadline"))
            }
            Interrupt::TooHeavy(how) => {
                (Outcome::Error, fault::resources("memory", format!("the browser was ended: {how}")))
            }
            Interrupt::Refused(failure) => (Outcome::Error, failure),
        };
        if self.stage == Stage::Command {
            let status = match outcome {
                Outcome::Crashed => CommandStatus::Critical,
                _ => CommandStatus::Error,
            };
            let report = CommandReport::failed(status, failure.fingerprint.clone(), failure.clone());
            self.judge(outcome, failure);
            // The verdict is there: whatever the command's own rules, nothing follows.
            return match self.command_ended(report, now) {
                Action::Flush { deadline } => Action::Flush { deadline },
                _ => self.flush(now),
            };
        }
        self.judge(outcome, failure);
        self.flush(now)
    }

    /// What an interruption says of the data.
    fn note(&mut self, why: &Interrupt) {
        let reason = match why {
            Interrupt::Cancelled(_) => return,
            Interrupt::LeaseExpired => "lease_expired",
            Interrupt::BrowserGone(_) => "crashed",
            Interrupt::Hung => "hung",
            Interrupt::TooHeavy(_) => "memory_limit",
            Interrupt::Refused(_) => "refused",
        };
        if self.incomplete.is_empty() {
            self.incomplete = reason.to_owned();
        }
    }

    /// The first verdict stays.
    fn judge(&mut self, outcome: Outcome, mut failure: Failure) {
        if self.verdict.is_none() {
            failure.phase = self.phase.line();
            self.verdict = Some((outcome, failure));
        }
    }

    fn flush(&mut self, now: Now) -> Action {
        // The rest of the time is the seal's own.
        let deadline = now.at + self.times.seal / 4;
        self.enter(Stage::Flush, "flush", now, deadline);
        Action::Flush { deadline }
    }

    fn flushed(&mut self, ending: Ending, failure: Option<Failure>, now: Now) -> Action {
        if let Some(failure) = failure {
            self.judge(Outcome::Error, failure);
        }
        if self.incomplete.is_empty() {
            self.incomplete.clone_from(&ending.incomplete_reason);
        }
        let deadline = now.at + self.times.seal * 3 / 4;
        self.enter(Stage::Seal, "seal", now, deadline);
        let outcome = self.verdict.as_ref().map_or(Outcome::Ok, |(outcome, _)| *outcome);
        Action::Seal { outcome, incomplete_reason: self.incomplete.clone(), ending, deadline }
    }

    fn sealed(&mut self, seal: SealSummary) -> Action {
        if !seal.complete {
            let message = format!("the data of the attempt are not whole: {}", seal.reason);
            let mut failure = fault::instrument("incomplete", message);
            failure.kind = FailureKind::Instrument.into();
            failure.retry = RetryAdvice::Same.into();
            self.judge(Outcome::Error, failure);
        }
        self.seal = Some(seal);
        self.end()
    }

    fn end(&mut self) -> Action {
        self.stage = Stage::Done;
        Action::End
    }
}

/// What a command that ended says of whether a video is recorded.
fn recording_after(command: &Command, status: CommandStatus) -> Option<bool> {
    let Some(Step::RecordVideo(RecordVideoCommand { action: Some(action) })) = &command.step else {
        return None;
    };
    match action {
        // One that was refused may have found a recording that runs.
        Video::Start(_) => (status == CommandStatus::Ok).then_some(true),
        Video::Stop(_) => Some(false),
    }
}

/// Its failure is told by its row, and is not the visit's.
fn stop_recording() -> Command {
    let video = RecordVideoCommand { action: Some(Video::Stop(StopVideo::default())) };
    Command { step: Some(Step::RecordVideo(video)), continue_on_error: true, ..Command::default() }
}

/// Microseconds since the epoch as a timestamp.
pub fn timestamp(us: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
