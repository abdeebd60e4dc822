//! Hooks that are run in place of their files: those of the browser, where it is ours already.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::super::event::HookResult;
use super::super::plan::Planned;
use super::super::record::Status;
use super::super::verdict::Ended;
use super::{Control, Run, live};

/// Does what hooks of a plugin would do.
pub trait Provider: Send + Sync + Debug {
    /// Whether it runs this hook.
    fn claims(&self, hook: &Planned) -> bool;

    /// Whether it loads a page, for which hooks in the background have to be ready.
    fn loads(&self, hook: &Planned) -> bool;

    /// Runs it until `deadline`: the word of its result, or why it failed.
    fn run(&self, hook: &Planned, deadline: Instant) -> BoxFuture<'static, Result<String, String>>;
}

impl Run {
    pub(super) fn provider_of(&self, hook: &Planned) -> Option<Arc<dyn Provider>> {
        self.options.provider.clone().filter(|provider| provider.claims(hook))
    }

    /// Runs a hook by its provider; gives it back where it is to run again.
    pub(super) async fn natively(&mut self, provider: Arc<dyn Provider>, hook: Planned) -> Option<Planned> {
        if provider.loads(&hook) {
            self.listeners().await;
        }
        let started = Instant::now();
        let deadline = started + hook.timeout;
        let mut running = std::pin::pin!(timeout_at(deadline, provider.run(&hook, deadline)));
        let (mut again, mut ended) = (false, None);
        let (status, said) = loop {
            let control = tokio::select! {
                done = &mut running => break match done {
                    Ok(Ok(said)) => (Status::Succeeded, said),
                    Ok(Err(why)) => (Status::Failed, why),
                    Err(_) => {
                        ended = Some(Ended::Timeout);
                        (Status::Failed, "its time was over".to_owned())
                    }
                },
                control = self.control() => control,
            };
            self.obey(control, &[]).await;
            again = control == Control::Retry;
            ended = match control {
                Control::Skip => Some(Ended::Skipped),
                Control::Abort | Control::Retry => Some(Ended::Aborted),
                Control::Pause | Control::Resume => continue,
            };
            break (Status::Skipped, "ended by the operator".to_owned());
        };
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = HookResult {
            status,
            exit_code: i32::from(status != Status::Succeeded),
            ended,
            duration_ms: elapsed,
            cmd: Vec::new(),
            ..live::never(&hook, said)
        };
        self.finish(result).await;
        again.then_some(hook)
    }
}
