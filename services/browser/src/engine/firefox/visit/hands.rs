//! Mouse and keyboard, by the actions of WebDriver BiDi: their events are trusted, as those of a user.

use serde_json::{Value, json};
use sonde_proto::visit::v1::MouseButton;
use sonde_proto::{Key, NamedKey};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::input::Act;

impl FirefoxVisit {
    /// Uses mouse and keyboard.
    pub(super) async fn act(&mut self, acts: &[Act], deadline: Instant) -> Result<(), NotLoaded> {
        let context = json!({"context": self.context});
        // A window that the page opened may be before it.
        self.browser.bidi.call("browsingContext.activate", context, left(deadline)).await?;
        // Each act is a tick of both devices.
        let ticks: Vec<(Value, Value)> = acts.iter().map(|act| tick(*act)).collect();
        let (mouse, keys): (Vec<Value>, Vec<Value>) = ticks.into_iter().unzip();
        let params = json!({"context": self.context, "actions": [
            {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": mouse},
            {"type": "key", "id": "keyboard", "actions": keys},
        ]});
        self.browser.bidi.call("input.performActions", params, left(deadline)).await?;
        Ok(())
    }
}

/// What the mouse does, and what the keyboard does.
fn tick(act: Act) -> (Value, Value) {
    let pause = || json!({"type": "pause"});
    match act {
        Act::Move { x, y } => (json!({"type": "pointerMove", "x": x, "y": y}), pause()),
        Act::Down { button, .. } => (json!({"type": "pointerDown", "button": number(button)}), pause()),
        Act::Up { button, .. } => (json!({"type": "pointerUp", "button": number(button)}), pause()),
        Act::KeyDown(key) => (pause(), json!({"type": "keyDown", "value": value(key)})),
        Act::KeyUp(key) => (pause(), json!({"type": "keyUp", "value": value(key)})),
        Act::Pause(time) => {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            (json!({"type": "pause", "duration": milliseconds}), pause())
        }
    }
}

fn number(button: MouseButton) -> u32 {
    match button {
        MouseButton::Middle => 1,
        MouseButton::Right => 2,
        MouseButton::Left | MouseButton::Unspecified => 0,
    }
}

fn value(key: Key) -> String {
    match key {
        Key::Named(NamedKey { webdriver, .. }) => webdriver.to_string(),
        Key::Character(character) => character.to_string(),
    }
}
