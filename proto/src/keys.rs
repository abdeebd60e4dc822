//! Combinations of keys, as `Control+A`.

use std::fmt;

/// A key: named as in `KeyboardEvent.key`, or the character that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Named(&'static NamedKey),
    Character(char),
}

/// A key that makes no visible character.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// `KeyboardEvent.key`.
    pub key: &'static str,
    /// `KeyboardEvent.code`.
    pub code: &'static str,
    /// Windows virtual key code, which DevTools want.
    pub virtual_key: u32,
    /// The character that stands for it in WebDriver.
    pub webdriver: char,
}

macro_rules! named {
    ($($key:literal $code:literal $virtual_key:literal $webdriver:literal;)+) => {
        &[$(NamedKey { key: $key, code: $code, virtual_key: $virtual_key, webdriver: $webdriver }),+]
    };
}

/// The first four are the modifiers.
static NAMED: &[NamedKey] = named! {
    "Alt" "AltLeft" 18 '\u{E00A}';
    "Control" "ControlLeft" 17 '\u{E009}';
    "Meta" "MetaLeft" 91 '\u{E03D}';
    "Shift" "ShiftLeft" 16 '\u{E008}';
    "Enter" "Enter" 13 '\u{E007}';
    "Tab" "Tab" 9 '\u{E004}';
    "Escape" "Escape" 27 '\u{E00C}';
    "Backspace" "Backspace" 8 '\u{E003}';
    "Delete" "Delete" 46 '\u{E017}';
    "Insert" "Insert" 45 '\u{E016}';
    "Home" "Home" 36 '\u{E011}';
    "End" "End" 35 '\u{E010}';
    "PageUp" "PageUp" 33 '\u{E00E}';
    "PageDown" "PageDown" 34 '\u{E00F}';
    "ArrowLeft" "ArrowLeft" 37 '\u{E012}';
    "ArrowUp" "ArrowUp" 38 '\u{E013}';
    "ArrowRight" "ArrowRight" 39 '\u{E014}';
    "ArrowDown" "ArrowDown" 40 '\u{E015}';
    "F1" "F1" 112 '\u{E031}';
    "F2" "F2" 113 '\u{E032}';
    "F3" "F3" 114 '\u{E033}';
    "F4" "F4" 115 '\u{E034}';
    "F5" "F5" 116 '\u{E035}';
    "F6" "F6" 117 '\u{E036}';
    "F7" "F7" 118 '\u{E037}';
    "F8" "F8" 119 '\u{E038}';
    "F9" "F9" 120 '\u{E039}';
    "F10" "F10" 121 '\u{E03A}';
    "F11" "F11" 122 '\u{E03B}';
    "F12" "F12" 123 '\u{E03C}';
};

/// Why a text is no combination of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKeys(String);

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidKeys {}

impl Key {
    /// Shift, Control, Alt or Meta by its place in [`crate::visit::v1::Modifier`].
    pub fn modifier(name: &str) -> Option<Self> {
        NAMED[..4].iter().find(|k| k.key == name).map(Self::Named)
    }

    /// The key that makes this character; a line feed is Enter.
    pub fn of_character(character: char) -> Self {
        let name = match character {
            '\n' | '\r' => "Enter",
            '\t' => "Tab",
            other => return Self::Character(other),
        };
        NAMED.iter().find(|k| k.key == name).map_or(Self::Character(character), Self::Named)
    }

    fn of_name(name: &str) -> Option<Self> {
        let mut characters = name.chars();
        match (characters.next(), characters.next()) {
            (Some(one), None) if !one.is_control() => Some(Self::Character(one)),
            _ if name == "Space" => Some(Self::Character(' ')),
            _ => NAMED.iter().find(|k| k.key == name).map(Self::Named),
        }
    }
}

/// The keys of a combination, in the order in which they are pressed.
///
/// # Errors
/// When a name is not that of a key, or a key before the last is no modifier.
pub fn key_combination(text: &str) -> Result<Vec<Key>, InvalidKeys> {
    let (held, last) = match text.strip_suffix('+') {
        Some("") => ("", "+"),
        Some(rest) if rest.ends_with('+') => (&rest[..rest.len() - 1], "+"),
        _ => text.rsplit_once('+').unwrap_or(("", text)),
    };
    let mut keys = Vec::new();
    for name in held.split('+').filter(|_| !held.is_empty()) {
        let wrong = || InvalidKeys(format!("{name:?} is none of Alt, Control, Meta, Shift"));
        keys.push(Key::modifier(name).ok_or_else(wrong)?);
    }
    let wrong =
        || InvalidKeys(format!("{last:?} is no key: a character, or a name as Enter, Tab, ArrowDown, F1"));
    let last = Key::of_name(last).ok_or_else(wrong)?;
    let shortcut = keys.iter().any(|k| !matches!(k, Key::Named(NamedKey { key: "Shift", .. })));
    keys.push(match last {
        // "Control+A" is what a keyboard does with A, without Shift.
        Key::Character(c) if shortcut && c.is_ascii_uppercase() => Key::Character(c.to_ascii_lowercase()),
        other => other,
    });
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M21
    #[test]
    fn combinations_are_modifiers_and_a_key() {
        let names = |text: &str| -> Vec<String> {
            let name = |key: &Key| match key {
                Key::Named(named) => named.key.to_owned(),
                Key::Character(c) => c.to_string(),
            };
            key_combination(text).expect(text).iter().map(name).collect()
        };
        assert_eq!(names("Enter"), ["Enter"]);
        assert_eq!(names("Control+A"), ["Control", "a"]);
        assert_eq!(names("Control+Shift+ArrowLeft"), ["Control", "Shift", "ArrowLeft"]);
        assert_eq!(names("Shift+A"), ["Shift", "A"]);
        assert_eq!(names("+"), ["+"]);
        assert_eq!(names("Control++"), ["Control", "+"]);
        assert_eq!(names("é"), ["é"]);
        for wrong in ["", "Return", "A+Control+B", "Control+", "Strg+A"] {
            assert!(key_combination(wrong).is_err(), "{wrong}");
        }
    }
}
