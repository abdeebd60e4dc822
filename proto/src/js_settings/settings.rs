//! The nine settings of an object, and how they are read.

use serde_json::{Map, Value, json};

use super::{kind, name::MAX_NAME};
use crate::FieldErrors;

/// Properties of one list.
pub const MAX_PROPERTIES: usize = 1000;
/// Levels below an object.
pub const MAX_DEPTH: u32 = 100;
const DEFAULT_DEPTH: u32 = 5;

/// How an object is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `Some([])`: every own and inherited property; `None`: none.
    pub properties_to_instrument: Option<Vec<String>>,
    /// Recorded although the object lacks them.
    pub non_existing_properties_to_instrument: Vec<String>,
    pub excluded_properties: Vec<String>,
    /// Whether `call_stack` holds the whole stack.
    pub log_call_stack: bool,
    /// Functions among values and arguments as their source instead of FUNCTION.
    pub log_functions_as_strings: bool,
    /// Whether reading a method is recorded, too: `get(function)`.
    pub log_function_gets: bool,
    /// Whether objects and functions can be overwritten; if set the try is recorded: `set(prevented)`.
    pub prevent_sets: bool,
    /// Whether objects among the values of properties are instrumented, too.
    pub recursive: bool,
    /// How many levels below.
    pub depth: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            properties_to_instrument: Some(Vec::new()),
            non_existing_properties_to_instrument: Vec::new(),
            excluded_properties: Vec::new(),
            log_call_stack: false,
            log_functions_as_strings: false,
            log_function_gets: false,
            prevent_sets: false,
            recursive: false,
            depth: DEFAULT_DEPTH,
        }
    }
}

/// What a setting's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A list of property names.
    Names,
    /// The same, or null.
    NamesOrNull,
    Flag,
    /// A whole number from 0 to [`MAX_DEPTH`].
    Depth,
}

/// A setting: its key, shape, and what it does.
pub struct Setting {
    pub key: &'static str,
    pub shape: Shape,
    pub about: &'static str,
}

const fn setting(key: &'static str, shape: Shape, about: &'static str) -> Setting {
    Setting { key, shape, about }
}

/// All nine, in the order of the documentation.
pub const SETTINGS: [Setting; 9] = [
    setting("propertiesToInstrument", Shape::NamesOrNull, "[]: every own and inherited property; null: none"),
    setting(
        "nonExistingPropertiesToInstrument",
        Shape::Names,
        "Properties that are recorded although the object lacks them",
    ),
    setting(
        "excludedProperties",
        Shape::Names,
        "Properties that are not recorded; none of propertiesToInstrument",
    ),
    setting("logCallStack", Shape::Flag, "Whether call_stack holds the whole stack"),
    setting(
        "logFunctionsAsStrings",
        Shape::Flag,
        "Functions among values and arguments as their source instead of FUNCTION",
    ),
    setting("logFunctionGets", Shape::Flag, "Whether reading a method is recorded: get(function)"),
    setting(
        "preventSets",
        Shape::Flag,
        "Whether objects and functions cannot be overwritten; the try is recorded: set(prevented)",
    ),
    setting("recursive", Shape::Flag, "Whether objects among the values are instrumented, too"),
    setting("depth", Shape::Depth, "How many levels below, when recursive"),
];

impl LogSettings {
    /// All nine, as OpenWPM names them.
    pub fn to_json(&self) -> Value {
        json!({
            "propertiesToInstrument": self.properties_to_instrument,
            "nonExistingPropertiesToInstrument": self.non_existing_properties_to_instrument,
            "excludedProperties": self.excluded_properties,
            "logCallStack": self.log_call_stack,
            "logFunctionsAsStrings": self.log_functions_as_strings,
            "logFunctionGets": self.log_function_gets,
            "preventSets": self.prevent_sets,
            "recursive": self.recursive,
            "depth": self.depth,
        })
    }

    /// The settings that an item gives over the defaults.
    pub(super) fn read(given: &Map<String, Value>, path: &str, errors: &mut FieldErrors) -> Self {
        let mut settings = Self::default();
        for (key, value) in given {
            let path = format!("{path}.{key}");
            match SETTINGS.iter().find(|s| s.key == key) {
                Some(setting) => settings.set(setting, value, &path, errors),
                None => {
                    let known: Vec<_> = SETTINGS.iter().map(|s| s.key).collect();
                    errors.push(path, format!("is no setting: there are {}", known.join(", ")));
                }
            }
        }
        for name in settings.excluded_and_asked_by(&settings) {
            errors.push(
                format!("{path}.excludedProperties"),
                format!("{name:?} is to be instrumented, too: name it once"),
            );
        }
        settings
    }

    fn set(&mut self, setting: &Setting, value: &Value, path: &str, errors: &mut FieldErrors) {
        match setting.shape {
            Shape::NamesOrNull if value.is_null() => self.properties_to_instrument = None,
            Shape::NamesOrNull => self.properties_to_instrument = Some(names(value, path, true, errors)),
            Shape::Names => {
                let names = names(value, path, false, errors);
                match setting.key {
                    "excludedProperties" => self.excluded_properties = names,
                    _ => self.non_existing_properties_to_instrument = names,
                }
            }
            Shape::Flag => {
                let Some(flag) = value.as_bool() else {
                    return errors.push(path, format!("is {}: must be true or false", kind(value)));
                };
                *self.flag(setting.key) = flag;
            }
            Shape::Depth => match whole(value).filter(|n| *n <= MAX_DEPTH) {
                Some(depth) => self.depth = depth,
                None => {
                    errors.push(path, format!("is {value}: must be a whole number from 0 to {MAX_DEPTH}"))
                }
            },
        }
    }

    fn flag(&mut self, key: &str) -> &mut bool {
        match key {
            "logCallStack" => &mut self.log_call_stack,
            "logFunctionsAsStrings" => &mut self.log_functions_as_strings,
            "logFunctionGets" => &mut self.log_function_gets,
            "preventSets" => &mut self.prevent_sets,
            _ => &mut self.recursive,
        }
    }

    /// What these settings exclude and the others ask for by name.
    pub(super) fn excluded_and_asked_by(&self, other: &Self) -> impl Iterator<Item = &String> {
        let asked = other.properties_to_instrument.iter().flatten();
        let asked = asked.chain(&other.non_existing_properties_to_instrument).cloned().collect::<Vec<_>>();
        self.excluded_properties.iter().filter(move |name| asked.contains(name))
    }
}

/// 5 and 5.0 are the same number in JSON.
fn whole(value: &Value) -> Option<u32> {
    let float = value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=f64::from(MAX_DEPTH)).contains(f));
    float.map(|f| f as u32)
}

/// Property names, each once.
pub(super) fn names(value: &Value, path: &str, or_null: bool, errors: &mut FieldErrors) -> Vec<String> {
    let or_null = if or_null { " or null" } else { "" };
    let Some(list) = value.as_array() else {
        errors.push(path, format!("is {}: must be a list of property names{or_null}", kind(value)));
        return Vec::new();
    };
    if list.len() > MAX_PROPERTIES {
        errors.push(path, format!("{} properties: at most {MAX_PROPERTIES}", list.len()));
        return Vec::new();
    }
    let mut names = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        match value.as_str() {
            Some(name) if name.is_empty() || name.chars().count() > MAX_NAME => {
                errors.push(format!("{path}[{i}]"), format!("must have 1 to {MAX_NAME} characters"));
            }
            Some(name) if !names.iter().any(|known| known == name) => names.push(name.to_owned()),
            Some(_) => {}
            None => {
                errors.push(format!("{path}[{i}]"), format!("is {}: must be a property name", kind(value)))
            }
        }
    }
    names
}
