//! What a user's hands do, before an engine says it in its browser's words.

use std::time::Duration;

use sonde_proto::Key;
use sonde_proto::visit::v1::{Modifier, MouseButton};

/// One act of a hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// The mouse goes to a point of the page's viewport, in CSS pixels.
    Move {
        x: f64,
        y: f64,
    },
    /// A button goes down for the `count`th time in a row.
    Down {
        button: MouseButton,
        count: u32,
    },
    /// And up.
    Up {
        button: MouseButton,
        count: u32,
    },
    KeyDown(Key),
    KeyUp(Key),
    Pause(Duration),
}

/// Clicks at a point, with keys held.
pub fn clicks(x: f64, y: f64, button: MouseButton, count: u32, held: &[Key]) -> Vec<Act> {
    let mut acts: Vec<Act> = held.iter().copied().map(Act::KeyDown).collect();
    acts.push(Act::Move { x, y });
    for count in 1..=count.max(1) {
        acts.push(Act::Down { button, count });
        acts.push(Act::Up { button, count });
    }
    acts.extend(held.iter().rev().copied().map(Act::KeyUp));
    acts
}

/// All keys down in order, and up in reverse.
pub fn chord(keys: &[Key]) -> Vec<Act> {
    let down = keys.iter().copied().map(Act::KeyDown);
    down.chain(keys.iter().rev().copied().map(Act::KeyUp)).collect()
}

/// A text, key by key.
pub fn typing(text: &str, delay: Duration) -> Vec<Act> {
    let mut acts = Vec::with_capacity(text.len() * 2);
    for (i, character) in text.replace("\r\n", "\n").chars().enumerate() {
        if i > 0 && !delay.is_zero() {
            acts.push(Act::Pause(delay));
        }
        acts.extend(chord(&[Key::of_character(character)]));
    }
    acts
}

/// The key of a modifier.
pub fn modifier(modifier: Modifier) -> Option<Key> {
    Key::modifier(match modifier {
        Modifier::Alt => "Alt",
        Modifier::Control => "Control",
        Modifier::Meta => "Meta",
        Modifier::Shift => "Shift",
        Modifier::Unspecified => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_down_comes_up() {
        let held = [modifier(Modifier::Shift).unwrap()];
        let acts = clicks(1.0, 2.0, MouseButton::Left, 2, &held);
        assert_eq!(acts.len(), 7);
        assert_eq!((acts[0], acts[6]), (Act::KeyDown(held[0]), Act::KeyUp(held[0])));
        assert_eq!(typing("a\n", Duration::from_millis(5)).len(), 5);
    }
}
