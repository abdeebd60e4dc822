//! Scripts that the commands run in pages, and what comes of them.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::{EvaluateCommand, EvaluationWorld, Target};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

/// Most bytes of a value's JSON.
pub const VALUE_BYTES: u32 = 1 << 20;
/// Of the deadline that a script sees, so that its answer comes before ours.
const ANSWER_MS: i64 = 300;

const PAGE: &str = include_str!("page.js");

/// A script for a page: an expression whose value is a promise of a text.
pub struct Script {
    pub text: String,
    pub world: EvaluationWorld,
    /// It may run again in the document that comes instead of the one that it ran in.
    pub again: bool,
}

/// Why a command did not do what it says; the word is short and stable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    pub word: String,
    pub message: String,
}

impl Refusal {
    pub fn new(word: &str, message: impl Into<String>) -> Self {
        Self { word: word.to_owned(), message: message.into() }
    }
}

/// What a script gave.
#[derive(Debug)]
pub enum Answer {
    /// The text that was promised.
    Text(String),
    /// The exception's text.
    Threw(String),
    /// Its document went.
    Gone,
}

/// A task of `page.js`.
pub fn task(name: &str, fields: Map<String, Value>, deadline: Instant, again: bool) -> Script {
    let text = format!("{}({})", PAGE.trim_end(), parameters(name, fields, deadline));
    Script { text, world: EvaluationWorld::Isolated, again }
}

/// Looks with each frame of the page until an expression is truthy.
pub fn truthy(expression: &str, deadline: Instant) -> Script {
    let task = parameters("truthy", Map::new(), deadline);
    let text = format!("{}({task}, async () => (\n{expression}\n))", PAGE.trim_end());
    Script { text, world: EvaluationWorld::Isolated, again: true }
}

pub fn parameters(name: &str, mut fields: Map<String, Value>, deadline: Instant) -> Value {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    let left = i64::try_from(left).unwrap_or(i64::MAX / 2000);
    fields.insert("task".to_owned(), json!(name));
    fields.insert("deadline".to_owned(), json!(wall_us() / 1000 + left - ANSWER_MS.min(left / 2)));
    fields.insert("cap".to_owned(), json!(VALUE_BYTES));
    Value::Object(fields)
}

/// What a user wants to know of a page.
pub fn evaluation(evaluate: &EvaluateCommand) -> Script {
    Script { text: promised(&evaluate.expression, evaluate.max_bytes), world: evaluate.world(), again: false }
}

/// The value of an expression, or of the function that it is.
fn promised(expression: &str, max_bytes: u32) -> String {
    let cap = if max_bytes == 0 { VALUE_BYTES } else { max_bytes };
    // It sees none of our names.
    format!(
        "(async (given) => {{\nlet value = await given();\nif (typeof value === 'function') value = await value();\n\
         const text = JSON.stringify(value) ?? 'null';\nconst bytes = new TextEncoder().encode(text).length;\n\
         return bytes > {cap} ? 'F' + JSON.stringify({{word: 'result_too_large', \
         message: `${{bytes}} bytes of JSON, at most {cap}`}}) : 'V' + text;\n}})(async () => (\n{expression}\n))"
    )
}

/// As `page.js` takes a target.
pub fn target(target: Option<&Target>) -> Value {
    let Some(target) = target else { return Value::Null };
    let mut fields = json!({"selector": target.selector, "frame": target.frame});
    if let Some(nth) = target.nth {
        fields["nth"] = json!(nth);
    }
    fields
}

/// Reads the answer of a script: the JSON of its value.
pub fn value(answer: Answer) -> Result<String, Refusal> {
    let text = match answer {
        Answer::Text(text) => text,
        Answer::Threw(message) => return Err(Refusal::new("script_error", message)),
        Answer::Gone => return Err(Refusal::new("navigation", "the page went elsewhere meanwhile")),
    };
    if let Some(json) = text.strip_prefix('V') {
        return match serde_json::from_str::<serde::de::IgnoredAny>(json) {
            Ok(_) => Ok(json.to_owned()),
            Err(error) => Err(Refusal::new("script_error", format!("the value has no JSON form: {error}"))),
        };
    }
    let refusal = text.strip_prefix('F').and_then(|json| serde_json::from_str(json).ok());
    Err(refusal.unwrap_or_else(|| Refusal::new("script_error", "the script's answer cannot be read")))
}
