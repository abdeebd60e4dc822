//! Behaviour of a user who looks at a page, as OpenWPM's `bot_mitigation` has it.

use std::time::Duration;

use serde_json::{Value, json};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BotMitigationCommand, Command};
use tokio::time::Instant;

use super::input::Act;
use super::interact::{act, ask, fields};
use super::script::{Refusal, task};
use super::{Done, Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::no_page;
use crate::engine::links::Draw;

const MOVES: u32 = 10;
/// One in so many steps of scrolling is the last.
const LAST: u32 = 5;
const MOST_SCROLLS: usize = 30;
/// CSS pixels of a step.
const SCROLL: (u32, u32) = (100, 500);
/// Milliseconds after a move, after a step of scrolling, and at the end.
const AFTER_MOVE: (u32, u32) = (20, 120);
const AFTER_SCROLL: (u32, u32) = (500, 1500);
const REST: (u32, u32) = (1000, 6000);

/// What is done, drawn before any of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    /// Points of the viewport, in CSS pixels, with milliseconds after each.
    moves: Vec<([u32; 2], u32)>,
    /// CSS pixels down, with milliseconds after each.
    scrolls: Vec<(u32, u32)>,
    rest_ms: u32,
}

impl Plan {
    fn new(seed: u64, [width, height]: [u32; 2]) -> Self {
        let mut draw = Draw(seed);
        let point = |draw: &mut Draw| {
            [draw.within(0, width.saturating_sub(1)), draw.within(0, height.saturating_sub(1))]
        };
        let moves = (0..MOVES).map(|_| (point(&mut draw), draw.within(AFTER_MOVE.0, AFTER_MOVE.1))).collect();
        let mut scrolls = Vec::new();
        while scrolls.len() < MOST_SCROLLS && draw.within(1, LAST) != LAST {
            let distance = draw.within(SCROLL.0, SCROLL.1);
            scrolls.push((distance, draw.within(AFTER_SCROLL.0, AFTER_SCROLL.1)));
        }
        Self { moves, scrolls, rest_ms: draw.within(REST.0, REST.1) }
    }

    fn value(&self) -> Value {
        let moves: Vec<[u32; 2]> = self.moves.iter().map(|(point, _)| *point).collect();
        let scrolls: Vec<u32> = self.scrolls.iter().map(|(distance, _)| *distance).collect();
        json!({"moves": moves, "scrolls": scrolls, "wait_ms": self.rest_ms})
    }
}

pub(super) async fn mitigate(
    page: &mut impl Page,
    command: &Command,
    asked: &BotMitigationCommand,
    deadline: Instant,
) -> CommandReport {
    if !page.loaded() {
        return no_page("bot_mitigation");
    }
    let seed = asked.seed.unwrap_or_else(rand::random);
    let done = behave(page, seed, deadline).await;
    let mut report = reported(page, "bot_mitigation", done, deadline).await;
    let drawn = BotMitigationCommand { seed: Some(seed) };
    report.effective = Some(Command { step: Some(Step::BotMitigation(drawn)), ..command.clone() });
    report
}

async fn behave<P: Page>(page: &mut P, seed: u64, deadline: Instant) -> Done<P> {
    let viewport = ask(page, task("viewport", fields([]), deadline, true), deadline).await?;
    let viewport = serde_json::from_str::<[u32; 2]>(&viewport)
        .map_err(|e| Refusal::new("script_error", format!("the viewport has no size: {e}")))?;
    let plan = Plan::new(seed, viewport);
    page.progress().detail("moving the mouse");
    let mut acts = Vec::new();
    for ([x, y], after) in &plan.moves {
        acts.push(Act::Move { x: f64::from(*x), y: f64::from(*y) });
        acts.push(Act::Pause(milliseconds(*after)));
    }
    act(page, &acts, deadline).await?;
    page.progress().detail("scrolling");
    for (distance, after) in &plan.scrolls {
        let by = fields([("x", json!(0)), ("y", json!(distance))]);
        ask(page, task("scrollBy", by, deadline, false), deadline).await?;
        page.stay(milliseconds(*after), deadline).await.map_err(Why::NotLoaded)?;
    }
    page.stay(milliseconds(plan.rest_ms), deadline).await.map_err(Why::NotLoaded)?;
    Ok(plan.value().to_string())
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(u64::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M21: a seed makes the same behaviour again, another one another; all of it is within its bounds.
    #[test]
    fn behaviour_is_that_of_its_seed() {
        let size = [1366, 683];
        assert_eq!(Plan::new(7, size), Plan::new(7, size));
        assert_ne!(Plan::new(7, size), Plan::new(8, size));
        let plans: Vec<Plan> = (0..1000).map(|seed| Plan::new(seed, size)).collect();
        for plan in &plans {
            assert_eq!(plan.moves.len(), 10);
            assert!(plan.moves.iter().all(|([x, y], _)| *x < 1366 && *y < 683), "{plan:?}");
            assert!(plan.scrolls.iter().all(|(_, after)| (500..=1500).contains(after)), "{plan:?}");
            assert!(plan.scrolls.len() <= MOST_SCROLLS && (1000..=6000).contains(&plan.rest_ms), "{plan:?}");
        }
        // Four steps on average.
        let steps: usize = plans.iter().map(|plan| plan.scrolls.len()).sum();
        assert!((3500..4500).contains(&steps), "{steps}");
        assert_eq!(Plan::new(1, [0, 0]).moves[0].0, [0, 0]);
    }
}
