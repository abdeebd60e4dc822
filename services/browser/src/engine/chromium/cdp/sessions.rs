//! The tree of sessions: which targets we are attached to, and how far their set-up is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::sync::watch;

use super::{ContextId, RawCommand, SessionId, TargetId};

/// Gives the commands that a new session gets, in order, before its target runs its first statement. They
/// are written without waiting for answers. Called on the reading task: it must not block.
pub type AttachHook = Arc<dyn Fn(&SessionInfo) -> Vec<RawCommand> + Send + Sync>;

/// A session and its target, as they were when attached.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub id: SessionId,
    /// The session through which it was attached; `None`: the browser's own.
    pub parent: Option<SessionId>,
    pub target_id: TargetId,
    /// `page`, `iframe`, `worker`, `service_worker`, `shared_worker`, ...
    pub kind: Box<str>,
    pub url: Box<str>,
    /// Taken from the parent where the browser does not say.
    pub context_id: Option<ContextId>,
    /// Who opened this page (popups).
    pub opener_id: Option<TargetId>,
    /// The frame that holds this one (iframes).
    pub parent_frame_id: Option<Box<str>>,
    /// `prerender` and the like.
    pub subtype: Option<Box<str>>,
    /// The target had not run anything yet: nothing of it was missed.
    pub was_paused: bool,
}

/// A set-up command that the browser refused.
#[derive(Debug, Clone)]
pub struct HookFailure {
    pub session: Arc<SessionInfo>,
    pub method: String,
    pub code: i64,
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attached {
    pub session_id: String,
    target_info: RawTarget,
    #[serde(default)]
    waiting_for_debugger: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTarget {
    target_id: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    url: String,
    browser_context_id: Option<String>,
    opener_id: Option<String>,
    parent_frame_id: Option<String>,
    subtype: Option<String>,
}

impl Attached {
    pub fn url(&self) -> &str {
        &self.target_info.url
    }

    pub fn kind(&self) -> &str {
        &self.target_info.kind
    }
}

#[derive(Debug)]
struct Node {
    info: Arc<SessionInfo>,
    /// Of several sessions on one target one is set up and heard; the others wait to take over.
    primary: bool,
    unanswered: usize,
    failures: Vec<Arc<HookFailure>>,
}

/// The state of the set-up of a target's session.
pub(super) enum Setup {
    NotAttached,
    Running,
    Done(Arc<SessionInfo>, Vec<Arc<HookFailure>>),
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Mutex<HashMap<SessionId, Node>>,
    version: watch::Sender<u64>,
}

impl Tree {
    pub fn new() -> Self {
        Self { nodes: Mutex::default(), version: watch::Sender::new(0) }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub fn changed(&self) {
        self.version.send_modify(|v| *v += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session; says whether it is the first on its target.
    pub fn add(&self, attached: Attached, parent: Option<&SessionId>) -> (Arc<SessionInfo>, bool) {
        let target = attached.target_info;
        let mut nodes = self.lock();
        let inherited = || nodes.get(parent?).and_then(|p| p.info.context_id.clone());
        let info = Arc::new(SessionInfo {
            id: attached.session_id.into(),
            parent: parent.cloned(),
            target_id: target.target_id.into(),
            kind: target.kind.into(),
            url: target.url.into(),
            context_id: target.browser_context_id.map(ContextId::from).or_else(inherited),
            opener_id: target.opener_id.map(TargetId::from),
            parent_frame_id: target.parent_frame_id.map(Into::into),
            subtype: target.subtype.map(Into::into),
            was_paused: attached.waiting_for_debugger,
        });
        let primary = !nodes.values().any(|n| n.primary && n.info.target_id == info.target_id);
        // Not zero: until the number of set-up commands is known nobody may take it for done.
        let node = Node { info: info.clone(), primary, unanswered: 1, failures: Vec::new() };
        nodes.insert(info.id.clone(), node);
        (info, primary)
    }

    pub fn expect_answers(&self, session: &SessionId, count: usize) {
        if let Some(node) = self.lock().get_mut(session) {
            node.unanswered = count;
        }
        self.changed();
    }

    /// Notes the answer to a set-up command; gives the failure back for publication.
    pub fn answered(
        &self,
        session: &SessionId,
        failure: Option<(String, i64, String)>,
    ) -> Option<Arc<HookFailure>> {
        let mut nodes = self.lock();
        let node = nodes.get_mut(session)?;
        node.unanswered = node.unanswered.saturating_sub(1);
        let failure = failure.map(|(method, code, message)| {
            Arc::new(HookFailure { session: node.info.clone(), method, code, message })
        });
        node.failures.extend(failure.clone());
        let done = node.unanswered == 0;
        drop(nodes);
        if done {
            self.changed();
        }
        failure
    }

    /// Removes a session with all below it. Gives the removed ones, it first, and the sessions that take
    /// over targets which are still attached otherwise.
    pub fn remove(&self, session: &SessionId) -> (Vec<Arc<SessionInfo>>, Vec<Arc<SessionInfo>>) {
        let mut nodes = self.lock();
        let mut removed: Vec<Node> = nodes.remove(session).into_iter().collect();
        let mut at = 0;
        while at < removed.len() {
            let parent = removed[at].info.id.clone();
            removed.extend(
                nodes.extract_if(|_, n| n.info.parent.as_ref() == Some(&parent)).map(|(_, node)| node),
            );
            at += 1;
        }
        let mut heirs = Vec::new();
        for gone in removed.iter().filter(|n| n.primary) {
            let heir = nodes.values_mut().find(|n| n.info.target_id == gone.info.target_id);
            if let Some(heir) = heir {
                heir.primary = true;
                heirs.push(heir.info.clone());
            }
        }
        drop(nodes);
        self.changed();
        (removed.into_iter().map(|n| n.info).collect(), heirs)
    }

    pub fn get(&self, session: &str) -> Option<Arc<SessionInfo>> {
        self.lock().get(session).map(|n| n.info.clone())
    }

    /// As [`Tree::get`], but only the session that is heard for its target.
    pub fn heard(&self, session: &str) -> Option<Arc<SessionInfo>> {
        self.lock().get(session).filter(|n| n.primary).map(|n| n.info.clone())
    }

    pub fn of_target(&self, target: &TargetId) -> Option<Arc<SessionInfo>> {
        self.lock().values().find(|n| n.primary && n.info.target_id == *target).map(|n| n.info.clone())
    }

    pub fn all(&self) -> Vec<Arc<SessionInfo>> {
        self.lock().values().filter(|n| n.primary).map(|n| n.info.clone()).collect()
    }

    pub fn setup(&self, target: &TargetId) -> Setup {
        match self.lock().values().find(|n| n.primary && n.info.target_id == *target) {
            None => Setup::NotAttached,
            Some(node) if node.unanswered > 0 => Setup::Running,
            Some(node) => Setup::Done(node.info.clone(), node.failures.clone()),
        }
    }
}
