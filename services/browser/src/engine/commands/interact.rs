//! Commands that act on a page, wait for it, and read it.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AssertCommand, ClickCommand, ElementState, EvaluateCommand, ExtractCommand, ExtractKind, HoverCommand,
    MouseButton, Position, PressCommand, ScrollCommand, SelectCommand, Target, TextMatch, TypeCommand,
    WaitForCommand, assert_command::Check, scroll_command::To, select_command::Choice, text_match::Match,
    wait_for_command::Condition,
};
use sonde_proto::{Key, key_combination};
use tokio::time::Instant;

use super::input::{Act, chord, clicks, modifier, typing};
use super::loads::Loads;
use super::script::{Answer, Refusal, Script, evaluation, target, task, truthy, value};
use super::{Done, Page, Why, glob, reported};
use crate::attempt::or;
use crate::engine::CommandReport;
use crate::engine::artifact::no_page;

/// Steps to the bottom of a page.
const STEPS: u32 = 100;

/// Runs such a command.
pub(super) async fn interact(
    page: &mut impl Page,
    name: &str,
    step: &Step,
    deadline: Instant,
) -> CommandReport {
    if !page.loaded() {
        return no_page(name);
    }
    let done = match step {
        Step::Click(step) => click(page, step, deadline).await,
        Step::Hover(step) => hover(page, step, deadline).await,
        Step::Type(step) => type_text(page, step, deadline).await,
        Step::Press(step) => press(page, step, deadline).await,
        Step::Select(step) => select(page, step, deadline).await,
        Step::Scroll(step) => scroll(page, step, deadline).await,
        Step::WaitFor(step) => wait_for(page, step, deadline).await,
        Step::Evaluate(step) => evaluate(page, step, deadline).await,
        Step::Extract(step) => extract(page, step, deadline).await,
        Step::Assert(step) => assert(page, step, deadline).await,
        _ => Err(Refusal::new("unknown_step", "the step is none that acts on a page").into()),
    };
    reported(page, name, done, deadline).await
}

pub(super) async fn ask<P: Page>(page: &mut P, script: Script, deadline: Instant) -> Done<P> {
    let answer: Answer = page.ask(&script, deadline).await.map_err(Why::NotLoaded)?;
    Ok(value(answer)?)
}

pub(super) async fn act<P: Page>(page: &mut P, acts: &[Act], deadline: Instant) -> Done<P> {
    page.act(acts, deadline).await.map_err(Why::NotLoaded)?;
    Ok(String::new())
}

pub(super) fn fields<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Waits until the mouse can reach an element; its point in the page's viewport.
async fn reach<P: Page>(
    page: &mut P,
    element: Option<&Target>,
    position: Option<Position>,
    deadline: Instant,
) -> Result<(f64, f64), Why<P::NotLoaded>> {
    page.progress().detail("waiting for the element");
    let position = position.map_or(Value::Null, |p| json!({"x": p.x, "y": p.y}));
    let wanted = fields([("target", target(element)), ("position", position)]);
    let found = ask(page, task("locate", wanted, deadline, true), deadline).await?;
    let found: Value = serde_json::from_str(&found).unwrap_or_default();
    let point = found["x"].as_f64().zip(found["y"].as_f64());
    point.ok_or_else(|| Refusal::new("script_error", "the element has no place").into())
}

/// Gives an element the focus, once it can have it.
async fn focus<P: Page>(
    page: &mut P,
    element: Option<&Target>,
    editable: bool,
    deadline: Instant,
) -> Result<(), Why<P::NotLoaded>> {
    if element.is_none() {
        return Ok(());
    }
    page.progress().detail("waiting for the element");
    let wanted = fields([("target", target(element)), ("focus", json!(true)), ("editable", json!(editable))]);
    ask(page, task("locate", wanted, deadline, true), deadline).await.map(|_| ())
}

async fn click<P: Page>(page: &mut P, click: &ClickCommand, deadline: Instant) -> Done<P> {
    let acts = click_acts(page, click, deadline).await?;
    act(page, &acts, deadline).await
}

/// What clicks an element, once the mouse can reach it.
pub(super) async fn click_acts<P: Page>(
    page: &mut P,
    click: &ClickCommand,
    deadline: Instant,
) -> Result<Vec<Act>, Why<P::NotLoaded>> {
    let (x, y) = reach(page, click.target.as_ref(), click.position, deadline).await?;
    let held: Vec<Key> = click.modifiers().filter_map(modifier).collect();
    let button = match click.button() {
        MouseButton::Unspecified => MouseButton::Left,
        button => button,
    };
    Ok(clicks(x, y, button, click.count, &held))
}

async fn hover<P: Page>(page: &mut P, hover: &HoverCommand, deadline: Instant) -> Done<P> {
    let (x, y) = reach(page, hover.target.as_ref(), hover.position, deadline).await?;
    act(page, &[Act::Move { x, y }], deadline).await
}

async fn type_text<P: Page>(page: &mut P, typed: &TypeCommand, deadline: Instant) -> Done<P> {
    focus(page, typed.target.as_ref(), true, deadline).await?;
    act(page, &typing(&typed.text, or(typed.delay, Duration::ZERO)), deadline).await
}

async fn press<P: Page>(page: &mut P, press: &PressCommand, deadline: Instant) -> Done<P> {
    let keys = key_combination(&press.keys).map_err(|e| Refusal::new("invalid_keys", e.to_string()))?;
    focus(page, press.target.as_ref(), false, deadline).await?;
    act(page, &chord(&keys), deadline).await
}

async fn select<P: Page>(page: &mut P, select: &SelectCommand, deadline: Instant) -> Done<P> {
    let choice = match &select.choice {
        Some(Choice::Value(value)) => json!({"value": value}),
        Some(Choice::Label(label)) => json!({"label": label}),
        Some(Choice::Index(index)) => json!({"index": index}),
        None => Value::Null,
    };
    let wanted = fields([("target", target(select.target.as_ref())), ("choice", choice)]);
    ask(page, task("select", wanted, deadline, true), deadline).await.map(|_| String::new())
}

async fn scroll<P: Page>(page: &mut P, scroll: &ScrollCommand, deadline: Instant) -> Done<P> {
    let script = match &scroll.to {
        Some(To::By(by)) => {
            let by = fields([("x", json!(by.x)), ("y", json!(by.y))]);
            task("scrollBy", by, deadline, false)
        }
        Some(To::Element(element)) => {
            task("scrollTo", fields([("target", target(Some(element)))]), deadline, true)
        }
        Some(To::Bottom(bottom)) => {
            let steps = if bottom.max_steps == 0 { STEPS } else { bottom.max_steps };
            task("scrollToBottom", fields([("steps", json!(steps))]), deadline, false)
        }
        None => return Err(Refusal::new("invalid", "no place to scroll to").into()),
    };
    ask(page, script, deadline).await
}

async fn wait_for<P: Page>(page: &mut P, wait: &WaitForCommand, deadline: Instant) -> Done<P> {
    let waited = match &wait.condition {
        Some(Condition::Element(element)) => {
            page.progress().detail("waiting for the element");
            let state = match element.state() {
                ElementState::Unspecified | ElementState::Visible => "visible",
                ElementState::Attached => "attached",
                ElementState::Hidden => "hidden",
                ElementState::Detached => "detached",
            };
            let wanted = fields([("target", target(element.target.as_ref())), ("state", json!(state))]);
            return ask(page, task("state", wanted, deadline, true), deadline).await.map(|_| String::new());
        }
        Some(Condition::Url(pattern)) => page.reach_url(|url| glob::matches(pattern, url), deadline).await,
        Some(Condition::Load(policy)) => {
            let policy = (*policy).try_into().unwrap_or_default();
            Loads::new(policy, wait.load_time).reach(page, deadline).await
        }
        Some(Condition::Time(time)) => page.stay(or(Some(*time), Duration::ZERO), deadline).await,
        None => return Err(Refusal::new("invalid", "nothing to wait for").into()),
    };
    waited.map(|()| String::new()).map_err(Why::NotLoaded)
}

async fn evaluate<P: Page>(page: &mut P, step: &EvaluateCommand, deadline: Instant) -> Done<P> {
    page.progress().detail("evaluating");
    ask(page, evaluation(step), deadline).await
}

async fn extract<P: Page>(page: &mut P, extract: &ExtractCommand, deadline: Instant) -> Done<P> {
    page.progress().detail("reading values");
    let all = extract.fields.iter().map(|field| {
        let kind = match field.kind() {
            ExtractKind::Unspecified | ExtractKind::Text => "text",
            ExtractKind::Html => "html",
            ExtractKind::Attribute => "attribute",
            ExtractKind::Property => "property",
        };
        let target = target(field.target.as_ref());
        json!({"name": field.name, "target": target, "kind": kind, "key": field.key, "all": field.all})
    });
    let wanted = fields([("fields", all.collect())]);
    ask(page, task("extract", wanted, deadline, true), deadline).await
}

fn text_match(text: Option<&TextMatch>) -> Value {
    match text.and_then(|t| t.r#match.as_ref()) {
        Some(Match::Equals(text)) => json!({"equals": text}),
        Some(Match::Contains(text)) => json!({"contains": text}),
        Some(Match::Matches(text)) => json!({"matches": text}),
        None => Value::Null,
    }
}

async fn assert<P: Page>(page: &mut P, assert: &AssertCommand, deadline: Instant) -> Done<P> {
    page.progress().detail("checking");
    let (check, mut wanted) = match &assert.check {
        Some(Check::Expression(expression)) => {
            return ask(page, truthy(expression, deadline), deadline).await.map(|_| String::new());
        }
        Some(Check::Count(count)) => {
            ("count", fields([("target", target(count.target.as_ref())), ("count", json!(count.count))]))
        }
        Some(Check::Visible(element)) => ("visible", fields([("target", target(Some(element)))])),
        Some(Check::Text(text)) => (
            "text",
            fields([("target", target(text.target.as_ref())), ("match", text_match(text.text.as_ref()))]),
        ),
        Some(Check::Url(text)) => ("url", fields([("match", text_match(Some(text)))])),
        Some(Check::Title(text)) => ("title", fields([("match", text_match(Some(text)))])),
        None => return Err(Refusal::new("invalid", "nothing to assert").into()),
    };
    wanted.insert("check".to_owned(), json!(check));
    ask(page, task("assert", wanted, deadline, true), deadline).await.map(|_| String::new())
}
