//! `{{name}}` placeholders in pages and scripts, filled when they are served.

/// The longest token, and the characters it may have: it lands in scripts and URLs without escaping.
const TOKEN_MAX: usize = 128;

pub(crate) fn valid_value(value: &str) -> bool {
    value.len() <= TOKEN_MAX && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Replaces each `{{name}}` by `value(name)`; a name without a value is left as it is, so that it shows.
pub(crate) fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else { break };
        let name = &rest[start + 2..start + length];
        out.push_str(&rest[..start]);
        match value(name) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_and_unknown_ones_stay() {
        let value = |name: &str| (name == "v").then(|| "t1".to_owned());
        assert_eq!(fill("a={{v}}&b={{x}} {{v}}{{", value), "a=t1&b={{x}} t1{{");
    }

    #[test]
    fn a_token_cannot_leave_a_script_string() {
        assert!(valid_value("visit-1_a.b"));
        assert!(!valid_value("a\"b") && !valid_value("a<b") && !valid_value("a b"));
    }
}
