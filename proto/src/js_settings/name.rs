//! Names of APIs: an interface (`Storage`), or a path from the global object (`window.navigator`).

/// Longest name, in characters.
pub const MAX_NAME: usize = 256;
/// Identifiers that JavaScript writes without quotes, in ASCII.
pub const IDENTIFIER: &str = "[A-Za-z_$][A-Za-z0-9_$]*";
const PREFIX: &str = "collection_";

/// Where an API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub object: String,
    pub instrumented_name: String,
    pub path: Vec<String>,
}

/// Reads a name. The error says what it must be.
pub fn place(name: &str) -> Result<Place, String> {
    if name.chars().count() > MAX_NAME {
        return Err(format!("{} characters long: at most {MAX_NAME}", name.chars().count()));
    }
    if name.starts_with(PREFIX) {
        let known: Vec<_> = super::COLLECTIONS.iter().map(|c| c.name).collect();
        return Err(format!("{name:?} is no collection: there are {}", known.join(", ")));
    }
    if let Some(rest) = name.strip_prefix("window") {
        let path = steps(rest).ok_or_else(|| {
            format!("{name:?} is no path: write window, window.navigator or window['X'].prototype")
        })?;
        return Ok(Place { object: name.to_owned(), instrumented_name: name.to_owned(), path });
    }
    if !is_identifier(name) {
        return Err(format!(
            "{name:?} is no API: write the name of an interface (Storage) or a path from window (window.navigator)"
        ));
    }
    Ok(Place {
        object: format!("window['{name}'].prototype"),
        instrumented_name: name.to_owned(),
        path: vec![name.to_owned(), "prototype".to_owned()],
    })
}

fn is_identifier(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    !text.is_empty() && text.chars().all(fine) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// `.x.y['z']` -> x, y, z.
fn steps(mut rest: &str) -> Option<Vec<String>> {
    let mut path = Vec::new();
    while !rest.is_empty() {
        let step;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (step, rest) = after.split_at(end);
            if !is_identifier(step) {
                return None;
            }
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
            let (inside, tail) = after[1..].split_once(quote)?;
            if inside.is_empty() || inside.contains('\\') {
                return None;
            }
            rest = tail.strip_prefix(']')?;
            step = inside;
        }
        path.push(step.to_owned());
    }
    Some(path)
}

/// The same grammar as a regular expression of JSON Schema; collections are apart.
pub fn pattern() -> String {
    let step = format!(r#"\.{IDENTIFIER}|\['[^'\\]+'\]|\["[^"\\]+"\]"#);
    format!("^(?:window(?:{step})*|(?!window|{PREFIX}){IDENTIFIER})$")
}
