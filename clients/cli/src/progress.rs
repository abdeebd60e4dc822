//! Progress of a crawl: a pure tally of its events, shown as a live bar with
//! the running visits' phases on a terminal, and as lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sonde_proto::coordinator::v1::{CrawlCounts, CrawlEvent, VisitEnded, crawl_event::Event};
use sonde_proto::visit::v1::Outcome;
use sonde_runtime::clock::Mono;

use crate::args::ProgressMode;
use crate::format::{shown, span, std_duration};
use crate::visit::hooks_line;

/// What is known of a crawl's advance.
#[derive(Debug, Default)]
pub struct Tally {
    /// Visits in all.
    pub total: u64,
    /// Ended visits per outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Running visits: number -> URL and phase.
    pub running: BTreeMap<i64, (String, String)>,
    /// Attempts that failed and are tried again.
    pub retried: u64,
    ended_here: u64,
}

impl Tally {
    /// Begins with the counts of the coordinator.
    pub fn new(counts: &CrawlCounts) -> Self {
        Self {
            total: counts.total,
            outcomes: counts.outcomes.iter().map(|(k, v)| (k.clone(), *v)).collect(),
            ..Self::default()
        }
    }

    /// Visits that have their outcome.
    pub fn ended(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Visits that ended otherwise than ok.
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().filter(|(k, _)| *k != Outcome::Ok.word()).map(|(_, v)| v).sum()
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: &CrawlEvent) {
        match &event.event {
            Some(Event::VisitsAdded(added)) => self.total += added.count,
            Some(Event::AttemptStarted(s)) => {
                self.running.insert(s.visit_no, (s.url.clone(), "starting".to_owned()));
            }
            Some(Event::VisitPhase(p)) => {
                let line = p.phase.as_ref().map(|phase| phase.line()).unwrap_or_default();
                self.running.insert(p.visit_no, (p.url.clone(), line));
            }
            Some(Event::AttemptFailed(f)) => {
                self.retried += 1;
                self.running.remove(&f.visit_no);
            }
            Some(Event::VisitEnded(e)) => {
                self.running.remove(&e.visit_no);
                self.ended_here += 1;
                *self.outcomes.entry(e.outcome().word().to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// `ok 12  neterror 1`.
    pub fn outcome_line(&self) -> String {
        self.outcomes.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join("  ")
    }

    /// Visits per second since this began, and the time left at that rate.
    pub fn pace(&self, elapsed: Duration) -> (f64, Option<Duration>) {
        let rate = self.ended_here as f64 / elapsed.as_secs_f64().max(0.001);
        let left = self.total.saturating_sub(self.ended());
        let eta = (rate > 0.0).then(|| Duration::from_secs_f64((left as f64 / rate).min(1e9)));
        (rate, eta)
    }
}

/// Shows a tally as it changes.
pub struct Progress {
    tally: Tally,
    began: Mono,
    view: View,
}

enum View {
    Bar { bars: MultiProgress, main: ProgressBar, visits: Vec<ProgressBar> },
    Plain,
    None,
}

/// Running visits that get a line of their own.
const VISIT_LINES: usize = 12;

impl Progress {
    /// Begins to show.
    pub fn new(mode: ProgressMode, tally: Tally) -> Self {
        let bar = match mode {
            ProgressMode::Auto => std::io::stderr().is_terminal(),
            ProgressMode::Bar => true,
            ProgressMode::Plain | ProgressMode::None => false,
        };
        let view = match (mode, bar) {
            (ProgressMode::None, _) => View::None,
            (_, true) => bar_view(&tally),
            (_, false) => View::Plain,
        };
        let mut progress = Self { tally, began: Mono::now(), view };
        progress.draw();
        progress
    }

    /// What is known so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes an event in and shows it.
    pub fn event(&mut self, event: &CrawlEvent) {
        self.tally.apply(event);
        match (&self.view, &event.event) {
            (View::Plain, Some(Event::VisitEnded(ended))) => self.note(&self.ended_line(ended)),
            (View::Plain, Some(Event::AttemptFailed(f))) => {
                let why = f.failure.as_ref().map(|f| f.message.as_str()).unwrap_or_default();
                self.note(&format!(
                    "      retry #{} after attempt {} ended {}: {}",
                    f.visit_no,
                    f.attempt,
                    f.outcome().word(),
                    shown(why, 160)
                ));
            }
            (_, Some(Event::CrawlHooksEnded(ended))) => self.note(&hooks_line(ended)),
            (_, Some(Event::FleetNotice(n))) if n.kind != "started" && n.kind != "closed" => {
                self.note(&format!("browser {}: {}: {}", n.browser_id, n.kind, shown(&n.detail, 160)));
            }
            _ => {}
        }
        self.draw();
    }

    /// A line above the bar.
    pub fn note(&self, line: &str) {
        let written = match &self.view {
            View::Bar { bars, .. } => bars.println(line),
            View::Plain => writeln!(std::io::stderr().lock(), "{line}"),
            View::None => Ok(()),
        };
        // A closed terminal ends the showing, not the crawl.
        let _ = written;
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let View::Bar { bars, .. } = &self.view {
            let _ = bars.clear();
        }
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn ended_line(&self, ended: &VisitEnded) -> String {
        let why = ended.failure.as_ref().map(|f| format!("  {}", shown(&f.message, 100))).unwrap_or_default();
        format!(
            "{:>5}/{} {:<9} {:>6}  {}{why}",
            self.tally.ended(),
            self.tally.total,
            ended.outcome().word(),
            span(std_duration(ended.took)),
            shown(&ended.url, 90),
        )
    }

    fn draw(&mut self) {
        let View::Bar { main, visits, .. } = &mut self.view else { return };
        let (rate, eta) = self.tally.pace(self.began.elapsed());
        let eta = eta.map_or_else(|| "?".to_owned(), span);
        main.set_length(self.tally.total);
        main.set_position(self.tally.ended());
        main.set_message(format!("{}  {rate:.1}/s  ETA {eta}", self.tally.outcome_line()));
        for (i, line) in visits.iter().enumerate() {
            let text = self.tally.running.iter().nth(i).map(|(number, (url, phase))| {
                format!("  #{number} {}  {}", shown(url, 50), shown(phase, 60))
            });
            line.set_message(text.unwrap_or_default());
        }
    }
}

fn bar_view(tally: &Tally) -> View {
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let style = |template: &str| {
        ProgressStyle::with_template(template)
            .expect("the template is a literal that was tried")
            .progress_chars("=> ")
    };
    let main = bars.add(ProgressBar::new(tally.total).with_style(style("[{bar:30}] {pos}/{len}  {msg}")));
    let visits =
        (0..VISIT_LINES).map(|_| bars.add(ProgressBar::new_spinner().with_style(style("{msg}")))).collect();
    View::Bar { bars, main, visits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sonde_proto::coordinator::v1::{AttemptFailed, AttemptStarted, VisitsAdded};

    fn event(event: Event) -> CrawlEvent {
        CrawlEvent { event: Some(event), ..CrawlEvent::default() }
    }

    #[test]
    fn a_tally_follows_the_events() {
        let mut tally = Tally::new(&CrawlCounts { total: 1, ..CrawlCounts::default() });
        tally.apply(&event(Event::VisitsAdded(VisitsAdded { count: 2, sealed: true })));
        tally.apply(&event(Event::AttemptStarted(AttemptStarted {
            visit_no: 2,
            ..AttemptStarted::default()
        })));
        assert_eq!((tally.total, tally.running.len()), (3, 1));
        tally.apply(&event(Event::AttemptFailed(AttemptFailed { visit_no: 2, ..AttemptFailed::default() })));
        assert_eq!((tally.retried, tally.running.len()), (1, 0));
        for outcome in [Outcome::Ok, Outcome::Neterror] {
            tally.apply(&event(Event::VisitEnded(VisitEnded {
                outcome: outcome.into(),
                ..VisitEnded::default()
            })));
        }
        assert_eq!((tally.ended(), tally.failed()), (2, 1));
        let (rate, eta) = tally.pace(Duration::from_secs(1));
        assert_eq!((rate, eta), (2.0, Some(Duration::from_millis(500))));
    }
}
