//! Runs a plan of hooks: in order, beside each other where that is asked for, and to a bounded end.
//!
//! Background hooks that end by themselves are waited for. The end of the others has three phases: SIGTERM to all at once, a wait for all of them together, each with its own
//! deadline, and SIGKILL to the group of each that is late. So the end takes as long as the longest, not as all.
//! Nothing polls: exits come by pidfd, output by pipes, orders by channels.

mod live;
mod native;
mod reader;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::event::{Event, HookResult};
use super::launch::{Launch, Limits};
use super::names::{Background, Generation};
use super::plan::Planned;
use super::record::Status;
use super::verdict::{Ended, Mode};
use live::{Live, Order, tell};
pub use native::Provider;

/// Beyond its own time a background hook may take this to say that it is ready.
const READY_EXTRA: Duration = Duration::from_secs(30);

/// Text is extracted from 56 on, lists of pages are read from 70 on, indices and hashes are made from 90 on.
const READERS_FROM: u32 = 56;

/// How long hooks in the background may take to listen before a page is loaded for them, where nothing else waits.
const LISTENING: Duration = Duration::from_secs(10);

/// How hooks of one step relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// One after the other; a background hook blocks only until it is ready.
    #[default]
    Sequential,
    /// All of a step (first digit of the number) together, the steps one after the other.
    StepParallel,
}

/// How a run is done.
#[derive(Debug, Clone)]
pub struct Options {
    pub pace: Pace,
    pub mode: Mode,
    pub launch: Launch,
    pub limits: Limits,
    /// Bytes of stdout, and of stderr, after which a hook is killed.
    pub max_output: u64,
    /// A background hook has at least this long to end, even where its time is over.
    pub grace: Duration,
    /// Whether background hooks say when they are ready.
    pub readiness: bool,
    /// Snapshots that hooks find beyond this depth are dropped and counted.
    pub max_depth: Option<u64>,
    /// Hooks from this number on read what others left: background hooks that end by themselves end before them.
    pub readers_from: u32,
    /// Runs hooks of its plugin in place of their files.
    pub provider: Option<Arc<dyn Provider>>,
    /// The clean-up waits for it: background hooks of a crawl live as long as its pages are run.
    pub hold: Option<Hold>,
}

/// Holds a run before its clean-up.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// Cancelled when all hooks were started, and those in the foreground have ended.
    pub reached: CancellationToken,
    /// To cancel for the run to end.
    pub release: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            mode: Mode::default(),
            launch: Launch::default(),
            limits: Limits { file: 4 << 30, processes: 4096, memory: None },
            max_output: 64 << 20,
            grace: Duration::from_secs(2),
            readiness: true,
            max_depth: None,
            readers_from: READERS_FROM,
            provider: None,
            hold: None,
        }
    }
}

impl Options {
    /// Only the third generation of hooks says when it is ready.
    pub fn for_generation(mut self, generation: Generation) -> Self {
        self.readiness = generation == Generation::C;
        self
    }
}

/// What an operator may want of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Start no further hook.
    Pause,
    Resume,
    /// End the current hook in the foreground, and go on.
    Skip,
    /// End the current hook in the foreground, and run it again.
    Retry,
    /// End the current hook, start none, clean up.
    Abort,
}

/// What became of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of their ends.
    pub results: Vec<HookResult>,
    pub aborted: bool,
}

struct Run {
    options: Options,
    events: mpsc::Sender<Event>,
    controls: mpsc::Receiver<Control>,
    controlled: bool,
    paused: bool,
    report: Report,
    background: Vec<Live>,
}

/// Runs all of `plan`. The receiver of `events` must be read or dropped: a hook's output waits for it. Dropping the
/// future kills every hook.
pub async fn run(
    plan: Vec<Planned>,
    (url, snapshot_id): (String, String),
    options: Options,
    controls: mpsc::Receiver<Control>,
    events: mpsc::Sender<Event>,
) -> Report {
    tell(&events, Event::Snapshot { url, snapshot_id, hooks: plan.len() }).await;
    let (report, background) = (Report::default(), Vec::new());
    let mut run = Run { options, events, controls, controlled: true, paused: false, report, background };
    let mut plan = VecDeque::from(plan);
    while let Some(first) = plan.pop_front() {
        let mut group = vec![first];
        if run.options.pace == Pace::StepParallel {
            while let Some(next) = plan.pop_front_if(|next| next.name.step == group[0].name.step) {
                group.push(next);
            }
        }
        if group.iter().any(|p| p.name.number.is_some_and(|n| n >= run.options.readers_from)) {
            run.finite().await;
        }
        run.gate().await;
        if run.report.aborted {
            break;
        }
        run.group(group).await;
    }
    run.held().await;
    run.clean_up().await;
    let with = |status| run.report.results.iter().filter(|r| r.status == status).count();
    let (succeeded, failed) = (with(Status::Succeeded), with(Status::Failed));
    tell(&run.events, Event::SnapshotCompleted { succeeded, failed }).await;
    run.report
}

impl Run {
    /// The next order of the operator; never answers when there can be none.
    async fn control(&mut self) -> Control {
        loop {
            if !self.controlled {
                return std::future::pending().await;
            }
            match self.controls.recv().await {
                Some(control) => return control,
                None => self.controlled = false,
            }
        }
    }

    /// Takes the orders that came, and waits while the run is paused.
    async fn gate(&mut self) {
        while let Ok(control) = self.controls.try_recv() {
            self.obey(control, &[]).await;
        }
        while self.paused && !self.report.aborted {
            // Nobody is left who could resume it.
            if !self.controlled || self.controls.is_closed() && self.controls.is_empty() {
                self.report.aborted = true;
                return;
            }
            match self.controls.recv().await {
                Some(control) => {
                    self.obey(control, &[]).await;
                }
                None => self.controlled = false,
            }
        }
    }

    /// Does what the operator wants; true: the current hooks shall run again.
    async fn obey(&mut self, control: Control, current: &[&watch::Sender<Order>]) -> bool {
        let kill = |why| {
            for orders in current {
                orders.send_replace(Order::Kill(why));
            }
        };
        match control {
            Control::Pause => {
                self.paused = true;
                tell(&self.events, Event::Paused).await;
            }
            Control::Resume => {
                self.paused = false;
                tell(&self.events, Event::Resumed).await;
            }
            Control::Skip => kill(Ended::Skipped),
            Control::Retry => {
                kill(Ended::Aborted);
                return !current.is_empty();
            }
            Control::Abort => {
                self.report.aborted = true;
                kill(Ended::Aborted);
                tell(&self.events, Event::Aborted).await;
            }
        }
        false
    }

    async fn group(&mut self, mut group: Vec<Planned>) {
        while !group.is_empty() && !self.report.aborted {
            let mut foreground = Vec::new();
            for planned in std::mem::take(&mut group) {
                let wait = self.options.readiness && self.options.pace == Pace::Sequential;
                if let Some(provider) = self.provider_of(&planned) {
                    group.extend(self.natively(provider, planned).await);
                    continue;
                }
                match live::start(planned, &self.options, &self.events).await {
                    Err(result) => self.finish(*result).await,
                    Ok(live) if live.planned.name.is_background() => self.in_background(live, wait).await,
                    Ok(live) => foreground.push(live),
                }
            }
            group.extend(self.settle(foreground).await);
        }
    }

    async fn held(&mut self) {
        let Some(hold) = self.options.hold.clone() else { return };
        hold.reached.cancel();
        while !self.report.aborted {
            tokio::select! {
                () = hold.release.cancelled() => return,
                control = self.control() => drop(self.obey(control, &[]).await),
            }
        }
    }

    /// Waits until every hook in the background has said something, as they do once they listen; none holds up the others
    /// for long.
    async fn listeners(&mut self) {
        let ready = self.background.iter_mut().filter_map(|live| live.ready.take());
        let all = futures_util::future::join_all(ready);
        if timeout(LISTENING, all).await.is_err() {
            tracing::warn!("a hook in the background said nothing before the page was loaded");
        }
    }

    /// Waits for the background hooks that end by themselves; each has its own time.
    async fn finite(&mut self) {
        while !self.report.aborted {
            let ends = |live: &mut Live| live.planned.name.background == Background::Finite;
            let finite: Vec<Live> = self.background.extract_if(.., ends).collect();
            if finite.is_empty() {
                return;
            }
            let again = self.settle(finite).await;
            self.group(again).await;
        }
    }

    async fn in_background(&mut self, mut live: Live, wait: bool) {
        let limit = live.planned.timeout + READY_EXTRA;
        let ready = live.ready.take_if(|_| wait);
        self.background.push(live);
        let Some(ready) = ready else { return };
        let mut ready = std::pin::pin!(timeout(limit, ready));
        loop {
            tokio::select! {
                // Ready, at its end, or late: in each case the others go on.
                _ = &mut ready => return,
                control = self.control() => {
                    self.obey(control, &[]).await;
                    if self.report.aborted || control == Control::Skip {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for hooks that end by themselves; gives those to run again.
    async fn settle(&mut self, lives: Vec<Live>) -> Vec<Planned> {
        let mut again = Vec::new();
        let mut handles = Vec::new();
        let mut ends = FuturesUnordered::new();
        for live in lives {
            let Live { planned, process, orders, done, .. } = live;
            ends.push(end_of(planned.clone(), done));
            handles.push((planned, process, orders));
        }
        loop {
            tokio::select! {
                end = ends.next() => match end {
                    Some(result) => self.finish(result).await,
                    None => return again,
                },
                control = self.control() => {
                    let orders: Vec<_> = handles.iter().map(|(_, _, orders)| orders).collect();
                    if self.obey(control, &orders).await {
                        let running = handles.iter().filter(|(_, process, _)| process.exit().is_none());
                        again = running.map(|(planned, ..)| planned.clone()).collect();
                    }
                }
            }
        }
    }

    async fn finish(&mut self, result: HookResult) {
        tell(&self.events, Event::ProcessCompleted(Box::new(result.clone()))).await;
        self.report.results.push(result);
    }

    async fn clean_up(&mut self) {
        self.finite().await;
        let background = std::mem::take(&mut self.background);
        tell(&self.events, Event::SnapshotCleanup { background: background.len() }).await;
        for live in &background {
            live.end();
        }
        // The handles stay: dropping the last one kills.
        let (mut handles, mut ends) = (Vec::new(), FuturesUnordered::new());
        for live in background {
            let Live { planned, process, orders, done, .. } = live;
            ends.push(end_of(planned, done));
            handles.push((process, orders));
        }
        while let Some(result) = ends.next().await {
            self.finish(result).await;
        }
    }
}

async fn end_of(planned: Planned, done: JoinHandle<HookResult>) -> HookResult {
    done.await
        .unwrap_or_else(|error| live::never(&planned, format!("the watch over the hook failed: {error}")))
}
