use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{DumpPageSourceCommand, GetCommand, StartVideo};

use super::*;

fn now() -> Now {
    Now { at: Instant::now(), wall_us: 1_700_000_000_000_000 }
}

fn later(now: Now, by: Duration) -> Now {
    Now { at: now.at + by, wall_us: now.wall_us + by.as_micros() as i64 }
}

fn command(step: Step) -> Command {
    Command { step: Some(step), ..Command::default() }
}

fn plan(commands: Vec<Command>) -> Plan {
    Plan {
        visit_id: 7,
        commands,
        limits: VisitLimits::default(),
        crawl_hooks: Duration::ZERO,
        interactive: false,
    }
}

fn two() -> Vec<Command> {
    vec![
        command(Step::Get(GetCommand::default())),
        command(Step::DumpPageSource(DumpPageSourceCommand::default())),
    ]
}

fn report(status: CommandStatus, failure: Option<Failure>) -> CommandReport {
    CommandReport { status, failure, ..CommandReport::default() }
}

fn whole() -> SealSummary {
    SealSummary { complete: true, ..SealSummary::default() }
}

fn ends(machine: &mut Machine, at: Now) -> AttemptResult {
    let Action::Seal { .. } = machine.apply(Event::Flushed(Ending::default(), None), at) else {
        panic!("not sealed")
    };
    assert_eq!(machine.apply(Event::Sealed(whole()), at), Action::End);
    machine.result(at)
}

/// M40
#[tokio::test]
async fn all_ok_is_ok_and_phases_are_numbered() {
    let at = now();
    let (mut machine, action) = Machine::start(plan(two()), at);
    assert!(matches!(action, Action::Prepare { .. }));
    assert_eq!(machine.phase().line(), "1/5 prepare");
    assert!(matches!(machine.apply(Event::Prepared, at), Action::Run { index: 0, .. }));
    machine.detail("waiting for load".to_owned());
    assert_eq!(machine.phase().line(), "2/5 get: waiting for load");
    let next = machine.apply(Event::CommandEnded(CommandReport::ok()), later(at, Duration::from_millis(40)));
    assert!(matches!(next, Action::Run { index: 1, .. }));
    assert!(matches!(machine.apply(Event::CommandEnded(CommandReport::ok()), at), Action::Flush { .. }));
    assert_eq!(machine.phase().line(), "4/5 flush");
    let result = ends(&mut machine, at);
    assert_eq!(machine.phase().line(), "5/5 seal");
    assert_eq!((result.outcome(), result.commands.len()), (Outcome::Ok, 2));
    assert_eq!(result.commands[0].duration_ms, 40);
    assert_eq!(result.failure, None);
}

/// M40: the first command that fails decides, and the rest does not run.
#[tokio::test]
async fn outcomes_follow_the_command_that_failed() {
    for (status, failure, outcome) in [
        (CommandStatus::Neterror, Some(fault::network("net::ERR_NAME_NOT_RESOLVED")), Outcome::Neterror),
        (CommandStatus::Timeout, Some(fault::timeout("load", "late")), Outcome::Timeout),
        (CommandStatus::Error, None, Outcome::Error),
        (CommandStatus::Critical, Some(fault::browser("gone", "x")), Outcome::Crashed),
    ] {
        let at = now();
        let (mut machine, _) = Machine::start(plan(two()), at);
        machine.apply(Event::Prepared, at);
        let next = machine.apply(Event::CommandEnded(report(status, failure)), at);
        assert!(matches!(next, Action::Flush { .. }), "{status:?}");
        let result = ends(&mut machine, at);
        assert_eq!(result.outcome(), outcome);
        assert_eq!(result.failure.unwrap().phase, "2/5 get");
        assert_eq!(result.commands.len(), 1);
    }
}

/// M22
#[tokio::test]
async fn continue_on_error_goes_on_unless_the_browser_is_gone() {
    for (status, goes_on) in
        [(CommandStatus::Error, true), (CommandStatus::Timeout, true), (CommandStatus::Critical, false)]
    {
        let at = now();
        let mut commands = two();
        commands[0].continue_on_error = true;
        let (mut machine, _) = Machine::start(plan(commands), at);
        machine.apply(Event::Prepared, at);
        let next = machine.apply(Event::CommandEnded(report(status, None)), at);
        assert_eq!(matches!(next, Action::Run { index: 1, .. }), goes_on, "{status:?}");
    }
}

#[tokio::test]
async fn interruptions_end_the_running_command_and_seal() {
    for (why, outcome, incomplete) in [
        (Interrupt::Cancelled("enough".into()), Outcome::Cancelled, ""),
        (Interrupt::LeaseExpired, Outcome::Error, "lease_expired"),
        (Interrupt::BrowserGone("signal 9".into()), Outcome::Crashed, "crashed"),
        (Interrupt::Hung, Outcome::Crashed, "hung"),
    ] {
        let at = now();
        let mut commands = two();
        commands[0].continue_on_error = true;
        let (mut machine, _) = Machine::start(plan(commands), at);
        machine.apply(Event::Prepared, at);
        assert!(matches!(machine.apply(Event::Interrupted(why), at), Action::Flush { .. }));
        let seal = machine.apply(Event::Flushed(Ending::default(), None), at);
        let Action::Seal { outcome: sealed, incomplete_reason, .. } = seal else { panic!("{seal:?}") };
        assert_eq!((sealed, incomplete_reason.as_str()), (outcome, incomplete));
        machine.apply(Event::Sealed(whole()), at);
        let result = machine.result(at);
        assert_eq!(result.outcome(), outcome);
        assert_eq!(result.commands.len(), 1, "the command that ran has its row");
        assert!(result.failure.unwrap().phase.starts_with("2/5 get"));
    }
}

/// R4: never ok with a gap.
#[tokio::test]
async fn an_incomplete_seal_is_no_ok() {
    let at = now();
    let (mut machine, _) = Machine::start(plan(vec![command(Step::Get(GetCommand::default()))]), at);
    machine.apply(Event::Prepared, at);
    machine.apply(Event::CommandEnded(CommandReport::ok()), at);
    machine.apply(Event::Flushed(Ending::default(), None), at);
    let gap = SealSummary { complete: false, reason: "gap".into(), ..SealSummary::default() };
    assert_eq!(machine.apply(Event::Sealed(gap), at), Action::End);
    let result = machine.result(at);
    assert_eq!(result.outcome(), Outcome::Error);
    assert_eq!(result.failure.unwrap().kind(), FailureKind::Instrument);
}

#[tokio::test]
async fn the_total_time_caps_every_command() {
    let at = now();
    let limits = VisitLimits {
        total: Some(prost_types::Duration { seconds: 40, nanos: 0 }),
        seal: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..VisitLimits::default()
    };
    let (mut machine, _) = Machine::start(Plan { limits, ..plan(two()) }, at);
    let Action::Run { deadline, .. } = machine.apply(Event::Prepared, at) else { panic!("no command") };
    assert_eq!(deadline, at.at + Duration::from_secs(30));
}

#[tokio::test]
async fn a_live_attempt_takes_steps_until_it_is_finished() {
    let at = now();
    let live = Plan { interactive: true, ..plan(Vec::new()) };
    let (mut machine, _) = Machine::start(live, at);
    assert!(matches!(machine.apply(Event::Prepared, at), Action::AwaitStep { .. }));
    let step = command(Step::Get(GetCommand::default()));
    assert!(matches!(machine.apply(Event::Step(step), at), Action::Run { index: 0, .. }));
    let failed = report(CommandStatus::Error, None);
    assert!(matches!(machine.apply(Event::CommandEnded(failed), at), Action::AwaitStep { .. }));
    assert!(matches!(machine.apply(Event::Finish, at), Action::Flush { .. }));
    assert_eq!(ends(&mut machine, at).outcome(), Outcome::Ok);
}

/// M21: a recording that still runs is stopped when the commands end, or one fails; not when the visit is interrupted.
#[tokio::test]
async fn a_recording_is_stopped_at_the_end() {
    let at = now();
    let start = Step::RecordVideo(RecordVideoCommand { action: Some(Video::Start(StartVideo::default())) });
    let begun = || {
        let (mut machine, _) = Machine::start(plan([vec![command(start.clone())], two()].concat()), at);
        machine.apply(Event::Prepared, at);
        machine.apply(Event::CommandEnded(report(CommandStatus::Ok, None)), at);
        machine
    };
    let mut machine = begun();
    let failed = machine.apply(Event::CommandEnded(report(CommandStatus::Timeout, None)), at);
    let Action::Run { index: 3, command: ours, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(ours, stop_recording());
    let failed = report(CommandStatus::Error, Some(fault::command("encoding_failed", "")));
    assert!(matches!(machine.apply(Event::CommandEnded(failed), at), Action::Flush { .. }));
    let result = ends(&mut machine, at);
    assert_eq!(result.outcome(), Outcome::Timeout, "its own failure is not the visit's: {result:?}");
    assert_eq!(result.commands.last().unwrap().name, "record_video");
    let mut machine = begun();
    machine.apply(Event::CommandEnded(report(CommandStatus::Ok, None)), at);
    let last = machine.apply(Event::CommandEnded(report(CommandStatus::Ok, None)), at);
    assert!(matches!(last, Action::Run { index: 3, .. }), "{last:?}");
    let mut machine = begun();
    let cancelled = Interrupt::Cancelled(String::new());
    assert!(matches!(machine.apply(Event::Interrupted(cancelled), at), Action::Flush { .. }));
    let mut machine = begun();
    let crashed = machine.apply(Event::CommandEnded(report(CommandStatus::Critical, None)), at);
    assert!(matches!(crashed, Action::Flush { .. }), "{crashed:?}");
}
