//! Mouse and keyboard, by the input events of DevTools: they are trusted, as those of a user.

use serde_json::{Value, json};
use sonde_proto::visit::v1::MouseButton;
use sonde_proto::{Key, NamedKey};
use tokio::time::Instant;

use super::ChromiumVisit;
use super::page::NotLoaded;
use crate::engine::commands::input::Act;

/// What is held while the acts go on.
#[derive(Default)]
struct Hands {
    x: f64,
    y: f64,
    /// Bits of Alt, Control, Meta and Shift.
    modifiers: u32,
    /// Bits of left, right and middle.
    buttons: u32,
}

impl ChromiumVisit {
    /// Uses mouse and keyboard.
    pub(super) async fn act(&mut self, acts: &[Act], deadline: Instant) -> Result<(), NotLoaded> {
        if !self.focused {
            self.page("Emulation.setFocusEmulationEnabled", json!({"enabled": true}), deadline).await?;
            self.focused = true;
        }
        let mut hands = Hands::default();
        for act in acts {
            let (method, params) = match *act {
                Act::Pause(time) => {
                    self.stay(time, deadline).await?;
                    continue;
                }
                Act::Move { x, y } => {
                    (hands.x, hands.y) = (x, y);
                    hands.mouse("mouseMoved", "none", 0)
                }
                Act::Down { button, count } => hands.button(button, count, true),
                Act::Up { button, count } => hands.button(button, count, false),
                Act::KeyDown(key) => hands.key(key, true),
                Act::KeyUp(key) => hands.key(key, false),
            };
            self.page(method, params, deadline).await?;
        }
        Ok(())
    }
}

impl Hands {
    fn button(&mut self, button: MouseButton, count: u32, down: bool) -> (&'static str, Value) {
        let (name, bit) = named(button);
        self.buttons = if down { self.buttons | bit } else { self.buttons & !bit };
        self.mouse(if down { "mousePressed" } else { "mouseReleased" }, name, count)
    }

    fn mouse(&self, kind: &str, button: &str, count: u32) -> (&'static str, Value) {
        let params = json!({
            "type": kind, "x": self.x, "y": self.y, "button": button, "buttons": self.buttons,
            "clickCount": count, "modifiers": self.modifiers, "pointerType": "mouse",
        });
        ("Input.dispatchMouseEvent", params)
    }

    fn key(&mut self, key: Key, down: bool) -> (&'static str, Value) {
        let bit = modifier(key);
        self.modifiers = if down { self.modifiers | bit } else { self.modifiers & !bit };
        let (name, code, virtual_key, text) = match key {
            Key::Named(NamedKey { key, code, virtual_key, .. }) => {
                let text = if *key == "Enter" { "\r" } else { "" };
                ((*key).to_owned(), (*code).to_owned(), *virtual_key, text.to_owned())
            }
            Key::Character(c) => match on_keyboard(c) {
                Some((code, virtual_key)) => (c.to_string(), code, virtual_key, c.to_string()),
                // No key makes it: it is put in, as an input method does.
                None if down => return ("Input.insertText", json!({"text": c.to_string()})),
                None => (c.to_string(), String::new(), 0, String::new()),
            },
        };
        // With other modifiers than Shift a key makes no text.
        let text = if self.modifiers & !SHIFT == 0 { text } else { String::new() };
        let kind = match (down, text.is_empty()) {
            (false, _) => "keyUp",
            (true, true) => "rawKeyDown",
            (true, false) => "keyDown",
        };
        let mut params = json!({
            "type": kind, "key": name, "code": code, "modifiers": self.modifiers,
            "windowsVirtualKeyCode": virtual_key, "nativeVirtualKeyCode": virtual_key,
        });
        if down && !text.is_empty() {
            params["text"] = json!(text);
            params["unmodifiedText"] = json!(text);
        }
        ("Input.dispatchKeyEvent", params)
    }
}

const SHIFT: u32 = 8;

fn modifier(key: Key) -> u32 {
    match key {
        Key::Named(NamedKey { key: "Alt", .. }) => 1,
        Key::Named(NamedKey { key: "Control", .. }) => 2,
        Key::Named(NamedKey { key: "Meta", .. }) => 4,
        Key::Named(NamedKey { key: "Shift", .. }) => SHIFT,
        _ => 0,
    }
}

fn named(button: MouseButton) -> (&'static str, u32) {
    match button {
        MouseButton::Right => ("right", 2),
        MouseButton::Middle => ("middle", 4),
        MouseButton::Left | MouseButton::Unspecified => ("left", 1),
    }
}

/// Code and Windows virtual key code of the key that makes a character on a US keyboard.
fn on_keyboard(character: char) -> Option<(String, u32)> {
    let upper = character.to_ascii_uppercase();
    if upper.is_ascii_uppercase() {
        return Some((format!("Key{upper}"), u32::from(upper)));
    }
    const SHIFTED_DIGITS: &str = ")!@#$%^&*(";
    let digit =
        character.to_digit(10).or_else(|| SHIFTED_DIGITS.find(character).and_then(|i| u32::try_from(i).ok()));
    if let Some(digit) = digit {
        return Some((format!("Digit{digit}"), 48 + digit));
    }
    let (code, virtual_key) = match character {
        ' ' => ("Space", 32),
        ';' | ':' => ("Semicolon", 186),
        '=' | '+' => ("Equal", 187),
        ',' | '<' => ("Comma", 188),
        '-' | '_' => ("Minus", 189),
        '.' | '>' => ("Period", 190),
        '/' | '?' => ("Slash", 191),
        '`' | '~' => ("Backquote", 192),
        '[' | '{' => ("BracketLeft", 219),
        '\\' | '|' => ("Backslash", 220),
        ']' | '}' => ("BracketRight", 221),
        '\'' | '"' => ("Quote", 222),
        _ => return None,
    };
    Some((code.to_owned(), virtual_key))
}
