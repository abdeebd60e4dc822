//! Call sites out of V8's stacks, as the extension's `stack.ts` reads them.

/// Where a call came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallSite {
    pub script_url: String,
    pub line: String,
    pub column: String,
    pub func_name: Option<String>,
    /// Where in nested eval code, as "line 10 > eval".
    pub loc_eval: Option<String>,
}

/// The frames as they are stored, one a line: without the header.
pub fn call_stack(stack: &str) -> String {
    let frames = stack.lines().filter_map(|line| line.trim().strip_prefix("at "));
    frames.collect::<Vec<_>>().join("\n")
}

/// The first frame that has a place.
pub fn call_site(stack: &str) -> Option<CallSite> {
    let frames: Vec<&str> = stack.lines().filter_map(|line| line.strip_prefix("    at ")).collect();
    frames.iter().enumerate().find_map(|(at, frame)| site(frame, frames.get(at + 1).copied()))
}

fn site(frame: &str, below: Option<&str>) -> Option<CallSite> {
    let open = frame.strip_suffix(')').and_then(matching_open);
    let inside = match open {
        Some(open) => &frame[open + 1..frame.len() - 1],
        None => frame.strip_prefix("async ").unwrap_or(frame),
    };
    let func_name = open.and_then(|open| function_name(frame[..open].trim_end()));
    let Some(rest) = inside.strip_prefix("eval at ") else {
        let (script_url, line, column) = location(inside)?;
        return Some(CallSite { script_url, line, column, func_name, loc_eval: None });
    };
    let (origin, own) = rest.rsplit_once(", ")?;
    let (_, line, column) = location(own)?;
    let (script_url, mut loc) = eval_origin(origin)?;
    // V8 does not tell the line of an eval inside eval code; where that is the caller, the frame below does.
    if func_name.as_deref() == Some("eval")
        && let Some(caller) = below.and_then(|below| caller_line(origin, below))
        && let Some(outer) = loc.strip_suffix(" > eval").filter(|outer| outer.contains(" > eval"))
    {
        loc = format!("{outer} line {caller} > eval");
    }
    Some(CallSite { script_url, line, column, func_name, loc_eval: Some(loc) })
}

/// The bracket that the last one closes: function names and URLs may hold brackets, too. `frame` is without that last.
fn matching_open(frame: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in frame.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `new Foo` and `async foo` are names of calls; an alias in brackets is kept out.
fn function_name(text: &str) -> Option<String> {
    let name = text.strip_prefix("async ").or_else(|| text.strip_prefix("new ")).unwrap_or(text);
    let name = match name.split_once(" [as ") {
        Some((name, _)) => name,
        None => name,
    };
    (!name.is_empty() && name != "<anonymous>").then(|| name.to_owned())
}

/// `url:line:column`.
fn location(text: &str) -> Option<(String, String, String)> {
    let (rest, column) = text.rsplit_once(':')?;
    let (url, line) = rest.rsplit_once(':')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (digits(line) && digits(column)).then(|| (url.to_owned(), line.to_owned(), column.to_owned()))
}

/// `name (url:1:2)` or `name (eval at name (url:1:2))`: the file, and the chain outermost first.
fn eval_origin(text: &str) -> Option<(String, String)> {
    let inside = &text[text.find(" (")? + 2..text.strip_suffix(')')?.len()];
    match inside.strip_prefix("eval at ") {
        Some(outer) => eval_origin(outer).map(|(url, loc)| (url, format!("{loc} > eval"))),
        None => location(inside).map(|(url, line, _)| (url, format!("line {line} > eval"))),
    }
}

/// The line in the eval code that made `origin`, when the frame below is in it.
fn caller_line(origin: &str, below: &str) -> Option<String> {
    let outer = origin.split_once(" (eval at ")?.1.strip_suffix(')')?;
    let (caller, own) = below.split_once("(eval at ")?.1.strip_suffix(')')?.rsplit_once(", ")?;
    (caller == outer).then(|| location(own).map(|(_, line, _)| line))?
}
