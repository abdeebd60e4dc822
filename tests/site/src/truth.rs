//! What pages say about themselves: calls they made, cookies they wrote, failures they provoked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Everything the pages of one visit posted to `/truth?v=<token>`, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Truth {
    /// `"<operation> <symbol>"` -> number of calls. Alternative symbols of one call are joined by `|`.
    pub calls: BTreeMap<String, u64>,
    /// The same of calls made in workers.
    pub worker_calls: BTreeMap<String, u64>,
    pub cookies: Vec<TruthCookie>,
    pub navigations: Vec<TruthNavigation>,
    pub failures: Vec<TruthFailure>,
    pub frames: Vec<TruthFrame>,
    pub scripts: Vec<TruthScript>,
    /// URLs of scripts that were fetched, but not run.
    pub unrun: Vec<String>,
    pub stacks: Vec<TruthStack>,
    /// URLs the page used that its cache may answer: each is one request the site may not have seen.
    pub cached: Vec<String>,
    /// Free remarks of a page, for tests of that page (e.g. what it could detect).
    pub notes: Vec<String>,
    /// What went wrong in a page: then its other reports are not to be believed.
    pub errors: Vec<String>,
    /// `done` posts: one per document that finished.
    pub done: Vec<String>,
    /// That a document that is done will say when it has settled, if it is the one that ends a visit.
    pub settles: bool,
    /// Of the document whose `done` ends a visit: it has had the site's answer to that, and so all answers before.
    pub settled: Vec<String>,
}

/// A cookie change made by script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthCookie {
    pub name: String,
    pub host: String,
    /// True when the write deletes the cookie.
    #[serde(default)]
    pub deleted: bool,
    /// True when the browser's cookie policy decides whether it happens.
    #[serde(default)]
    pub policy: bool,
}

/// A navigation that reaches no server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthNavigation {
    pub url: String,
    /// `history`, `fragment`, `srcdoc`, `blank`.
    pub kind: String,
    #[serde(default)]
    pub optional: bool,
}

/// A request that fails. `reached` says whether the site saw it (then the log holds its row).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthFailure {
    pub url: String,
    /// A [`crate::expect::FailureClass`] in snake case.
    pub class: String,
    #[serde(default)]
    pub reached: bool,
    /// True when a policy refuses it before there is a request.
    #[serde(default)]
    pub unsent: bool,
}

/// One WebSocket text frame or EventSource message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthFrame {
    pub url: String,
    /// `sent` or `received`.
    pub direction: String,
    pub payload: String,
}

/// Code that ran and came by no request of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthScript {
    /// As in the column `how`.
    pub how: String,
    pub source: String,
}

/// A call, and what `Error.stack` said to a stand-in that was called from the very same place before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthStack {
    /// The symbol, or the URL of the request.
    pub of: String,
    #[serde(default)]
    pub request: bool,
    pub stack: String,
}

impl Truth {
    fn absorb(&mut self, more: Truth) {
        for (calls, more) in [(&mut self.calls, more.calls), (&mut self.worker_calls, more.worker_calls)] {
            for (key, count) in more {
                *calls.entry(key).or_default() += count;
            }
        }
        self.cookies.extend(more.cookies);
        self.navigations.extend(more.navigations);
        self.failures.extend(more.failures);
        self.frames.extend(more.frames);
        self.scripts.extend(more.scripts);
        self.unrun.extend(more.unrun);
        self.stacks.extend(more.stacks);
        self.cached.extend(more.cached);
        self.notes.extend(more.notes);
        self.errors.extend(more.errors);
        self.done.extend(more.done);
        self.settles |= more.settles;
        self.settled.extend(more.settled);
    }
}

/// Visits whose truth is kept; posts of further visits are refused with 507.
const MAX_VISITS: usize = 100_000;

#[derive(Default)]
pub(crate) struct Truths(Mutex<HashMap<String, Truth>>);

/// Why a post was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TruthError {
    #[error("not a truth report: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the site keeps the truth of {MAX_VISITS} visits and no more; start another site")]
    Full,
}

impl Truths {
    /// Takes a report; gives what it says is done.
    pub fn add(&self, token: &str, body: &[u8]) -> Result<Vec<String>, TruthError> {
        let more: Truth = serde_json::from_slice(body)?;
        let done = more.done.clone();
        let mut all = self.0.lock().expect("no code panics while it holds the truths");
        if all.len() >= MAX_VISITS && !all.contains_key(token) {
            return Err(TruthError::Full);
        }
        all.entry(token.to_owned()).or_default().absorb(more);
        Ok(done)
    }

    pub fn get(&self, token: &str) -> Truth {
        self.0
            .lock()
            .expect("no code panics while it holds the truths")
            .get(token)
            .cloned()
            .unwrap_or_default()
    }
}
