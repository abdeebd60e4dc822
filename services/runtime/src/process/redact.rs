//! What of a command line and an environment may be kept: no secrets, and nothing without bound.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// In the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Parts of names whose values are secrets (A05).
const SENSITIVE: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASS", "COOKIE", "AUTH"];
/// Shorter secrets would redact ordinary text.
const SHORTEST: usize = 6;
const LONGEST_ARGUMENT: usize = 4 * 1024;
const MOST_ARGUMENTS: usize = 512;
const LONGEST_VALUE: usize = 1024;
const MOST_VARIABLES: usize = 256;

/// Takes secrets out of what is stored of processes.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// Takes these out wherever they stand, beside what names and addresses tell. Those of less than 6 bytes are left out.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self { secrets: secrets.into_iter().filter(|s| s.len() >= SHORTEST).collect() }
    }

    /// At most 512 arguments of 4 KiB. Values of `--name=value` go by their name, user parts of addresses always.
    pub fn arguments(&self, all: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut kept = Vec::new();
        let mut hide_next = false;
        for argument in all.into_iter().take(MOST_ARGUMENTS) {
            if std::mem::take(&mut hide_next) && !argument.starts_with('-') {
                kept.push(REDACTED.to_owned());
                continue;
            }
            let flag = argument.starts_with('-');
            match argument.split_once('=') {
                Some((name, _)) if is_sensitive(name) => kept.push(format!("{name}={REDACTED}")),
                _ => {
                    hide_next = flag && !argument.contains('=') && is_sensitive(&argument);
                    kept.push(self.text(&argument, LONGEST_ARGUMENT));
                }
            }
        }
        kept
    }

    /// At most 256 variables with values of 1 KiB; a later one of the same name wins.
    pub fn environment(
        &self,
        all: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<String, String> {
        let text = |s: &OsStr| s.to_string_lossy().into_owned();
        let whole: BTreeMap<String, String> = all.into_iter().map(|(k, v)| (text(&k), text(&v))).collect();
        let kept = whole.into_iter().take(MOST_VARIABLES).map(|(name, value)| {
            let value = if is_sensitive(&name) && !value.is_empty() {
                REDACTED.to_owned()
            } else {
                self.text(&value, LONGEST_VALUE)
            };
            (name, value)
        });
        kept.collect()
    }

    fn text(&self, text: &str, longest: usize) -> String {
        let mut text = without_users(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        if text.len() > longest {
            let end = text.floor_char_boundary(longest);
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

fn is_sensitive(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SENSITIVE.iter().any(|part| name.contains(part))
}

/// `scheme://user:password@host` without what stands before the `@`.
fn without_users(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        kept.push_str(before);
        let end = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        let host = match after[..end].rfind('@') {
            Some(user) => {
                kept.push_str(REDACTED);
                user
            }
            None => 0,
        };
        kept.push_str(&after[host..end]);
        rest = &after[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    /// A05
    #[test]
    fn secrets_are_not_kept() {
        let redactor = Redactor::new(strings(&["hunter2hunter2", "ab"]));
        let pair = |k: &str, v: &str| (OsString::from(k), OsString::from(v));
        let env = redactor.environment([
            pair("API_KEY", "k"),
            pair("github_token", "t"),
            pair("DB_PASSWORD", "p"),
            pair("COOKIES_FILE", "/c"),
            pair("EMPTY_KEY", ""),
            pair("PROXY", "http://me:word@proxy:8080/x@y"),
            pair("MIXED", "a hunter2hunter2 b ab"),
            pair("HOME", "/root"),
        ]);
        for name in ["API_KEY", "github_token", "DB_PASSWORD", "COOKIES_FILE"] {
            assert_eq!(env[name], REDACTED, "{name}");
        }
        assert_eq!(env["EMPTY_KEY"], "");
        assert_eq!(env["PROXY"], "http://[redacted]@proxy:8080/x@y");
        assert_eq!(env["MIXED"], "a [redacted] b ab");
        assert_eq!(env["HOME"], "/root");
        let arguments = redactor.arguments(strings(&[
            "prog",
            "--token=abc",
            "--password",
            "word",
            "--proxy=socks5://u@h",
            "--auth-file",
            "--x",
            "hunter2hunter2",
        ]));
        assert_eq!(
            arguments,
            [
                "prog",
                "--token=[redacted]",
                "--password",
                REDACTED,
                "--proxy=socks5://[redacted]@h",
                "--auth-file",
                "--x",
                REDACTED,
            ]
        );
    }

    /// R9
    #[test]
    fn what_is_kept_is_bounded() {
        let redactor = Redactor::default();
        let long = "é".repeat(LONGEST_ARGUMENT);
        let kept = redactor.arguments(vec![long; 2 * MOST_ARGUMENTS]);
        assert_eq!(kept.len(), MOST_ARGUMENTS);
        assert!(kept[0].len() <= LONGEST_ARGUMENT + '…'.len_utf8());
        let many = (0..1000).map(|n| (OsString::from(format!("V{n}")), OsString::from("x".repeat(5000))));
        let env = redactor.environment(many);
        assert_eq!(env.len(), MOST_VARIABLES);
        assert!(env.values().all(|v| v.len() <= LONGEST_VALUE + '…'.len_utf8()));
    }
}
