//! The machine of an attempt, and everybody who is told of its moves.

use sonde_proto::StreamId;
use sonde_proto::browser::v1::AttemptContext;
use sonde_proto::record::v1::{Artifact, CommandHistory, record};
use sonde_proto::visit::v1::{CommandResult, Failure};
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::machine::{Action, Event, Interrupt, Machine};
use super::run::{Control, OVERTIME, Report, interruption, now};
use crate::engine::{CommandReport, Ending, Visit};
use crate::uplink::AttemptUplink;

/// Tells the machine what came of its actions, and the slot and storage what the machine says.
pub(super) struct Teller {
    machine: Machine,
    details: watch::Receiver<String>,
    reports: mpsc::Sender<Report>,
    uplink: AttemptUplink,
    context: AttemptContext,
    began_us: i64,
    pub ready_at: Option<i64>,
    pub navigated_at: Option<i64>,
}

impl Teller {
    pub fn new(
        machine: Machine,
        details: watch::Receiver<String>,
        reports: mpsc::Sender<Report>,
        uplink: AttemptUplink,
        context: AttemptContext,
    ) -> Self {
        let began_us = wall_us();
        Self { machine, details, reports, uplink, context, began_us, ready_at: None, navigated_at: None }
    }

    pub async fn tell_result(&self) {
        self.tell(Report::Ended(self.machine.result(now()))).await;
    }

    pub async fn tell(&self, report: Report) {
        if self.reports.send(report).await.is_err() {
            tracing::debug!("the slot ended before its attempt");
        }
    }

    pub async fn tell_phase(&self) {
        self.tell(Report::Phase(self.machine.phase().clone())).await;
    }

    /// Waits for `doing`, passing on what it says, unless something ends it early.
    pub async fn unless_interrupted<T>(
        &mut self,
        control: &mut Control,
        uplink: &AttemptUplink,
        last: Instant,
        doing: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        let mut doing = std::pin::pin!(doing);
        let mut refused = std::pin::pin!(uplink.refused());
        loop {
            tokio::select! {
                done = &mut doing => return Ok(done),
                why = interruption(&mut control.interrupt) => return Err(why),
                error = &mut refused => return Err(Interrupt::Refused(error.failure())),
                () = tokio::time::sleep_until(last) => return Err(Interrupt::Hung),
                Ok(()) = self.details.changed() => self.tell_detail().await,
            }
        }
    }

    async fn tell_detail(&mut self) {
        let detail = self.details.borrow_and_update().clone();
        self.machine.detail(detail);
        self.tell_phase().await;
    }

    /// Tells the machine, and what comes of it to the slot and to storage.
    pub async fn apply(&mut self, event: Event) -> Action {
        let (line, known) = (self.machine.phase().line(), self.machine.results().len());
        let report = match &event {
            Event::CommandEnded(report) => Some(report.clone()),
            _ => None,
        };
        let was = self.machine.phase().index;
        let action = self.machine.apply(event, now());
        if let Some(result) = self.machine.results().get(known).cloned() {
            self.record(&result, report, line).await;
            self.tell(Report::Command(result)).await;
        }
        let phase = self.machine.phase();
        // A step that was awaited has the place of its wait.
        if phase.index != was || matches!(action, Action::AwaitStep { .. } | Action::Run { .. }) {
            self.details.mark_unchanged();
            self.began_us = wall_us();
            self.tell_phase().await;
        }
        action
    }

    /// The crawl_history row of a command, and the rows of what it made.
    async fn record(&self, result: &CommandResult, report: Option<CommandReport>, phase: String) {
        let planned = self.machine.command(result.index);
        let (effective, failure) = report.map_or((None, None), |r| (r.effective, r.failure));
        let command = effective.as_ref().unwrap_or(planned);
        let causes = failure
            .map(|f| serde_json::Value::from_iter(std::iter::once(f.message).chain(f.causes)).to_string());
        let row = CommandHistory {
            command: command.class_name().to_owned(),
            arguments: sonde_proto::to_json("sonde.visit.v1.Command", command).to_string(),
            retry_number: i64::from(self.context.attempt) - 1,
            command_status: result.status().word().to_owned(),
            error: (!result.error.is_empty()).then(|| result.error.clone()),
            traceback: causes,
            duration: result.duration_ms,
            dtg: rfc3339_ms(self.began_us),
            command_index: result.index,
            phase,
            value_json: (!result.value_json.is_empty()).then(|| result.value_json.clone()),
        };
        let mut rows = vec![record::Row::CommandHistory(row)];
        rows.extend(result.artifacts.iter().map(|a| {
            record::Row::Artifact(Artifact {
                command_index: result.index,
                kind: a.kind.clone(),
                name: a.name.clone(),
                media_type: a.media_type.clone(),
                content_hash: a.sha256.clone(),
                bytes: a.bytes,
                url: (!result.final_url.is_empty()).then(|| result.final_url.clone()),
            })
        }));
        for row in rows {
            let deadline = Instant::now() + OVERTIME;
            let recorded =
                timeout_at(deadline, self.uplink.record(StreamId::SERVICE, self.began_us, row)).await;
            if !matches!(recorded, Ok(Ok(()))) {
                // The seal finds out: what is refused or stuck here is refused or stuck there.
                tracing::warn!(
                    visit_id = self.context.visit_id,
                    "a row of the command history was not taken"
                );
            }
        }
    }

    /// Every record into storage, as far as possible by the deadline.
    pub async fn flush(
        &mut self,
        visit: Option<&mut (dyn Visit + 'static)>,
        deadline: Instant,
    ) -> (Ending, Option<Failure>) {
        let mut ending = Ending::default();
        if let Some(visit) = visit {
            ending = match timeout_at(deadline + OVERTIME, visit.finish(deadline)).await {
                Ok(ending) => ending,
                Err(_) => Ending {
                    devtools: Some("the instruments did not end in time".to_owned()),
                    incomplete_reason: "flush_timeout".to_owned(),
                    ..Ending::default()
                },
            };
            self.ready_at = visit.instruments_ready_at_us();
            self.navigated_at = visit.navigation_start_at_us();
        }
        let failure = ending.failure.take();
        let Err(error) = self.uplink.flushed(deadline).await else { return (ending, failure) };
        if ending.incomplete_reason.is_empty() {
            ending.incomplete_reason = format!("not_flushed: {error}");
        }
        (ending, Some(error.failure()))
    }
}
