//! What a caller may ask of a slot, checked.

use sonde_proto::browser::v1::{AttemptContext, Run};
use sonde_proto::visit::v1::{
    BrowserSpec, Command, CrawlHooks, Failure, FailureKind, Instruments, RetryAdvice, VisitLimits,
};
use sonde_proto::{
    Fence, FieldErrors, VisitId, validate_commands, validate_crawl_hooks, validate_sequence, validate_setup,
};

use crate::attempt::{MAX_BODY_BYTES, Plan, fault};
use crate::engine::profiles::{Owner, ProfileSpec};
use crate::engine::{LaunchSpec, Scripts, own_process};

/// A Run whose fields are there and right.
pub(super) struct Checked {
    pub context: AttemptContext,
    pub plan: Plan,
    pub site_url: String,
    pub browser: BrowserSpec,
    pub instruments: Instruments,
    pub max_body_bytes: u64,
    pub fresh_browser: bool,
    pub lease: std::time::Duration,
    pub crawl_hooks: Option<CrawlHooks>,
}

/// The browser that a visit needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Want {
    pub spec: LaunchSpec,
    /// No visit may have been on it before.
    pub fresh: bool,
    /// No visit may be on it after, either: the next browser is started meanwhile.
    pub alone: bool,
}

impl Want {
    pub fn of(
        context: &AttemptContext,
        browser: &BrowserSpec,
        instruments: &Instruments,
        fresh: bool,
    ) -> Self {
        let alone = own_process(browser);
        let mut spec = LaunchSpec::new(browser, Scripts::of_kind(browser.kind(), instruments));
        let owner = Owner { crawl_id: context.crawl_id.clone(), browser_id: context.browser_id };
        spec.profile = ProfileSpec::of(browser, owner);
        Self { spec, fresh: fresh || alone, alone }
    }
}

pub(super) fn check(run: Run) -> Result<Checked, Failure> {
    let mut errors = FieldErrors::default();
    let context = run.attempt.unwrap_or_default();
    if let Err(error) = VisitId::try_from(context.visit_id) {
        errors.push("attempt.visit_id", error.to_string());
    }
    if let Err(error) = Fence::try_from(context.fence) {
        errors.push("attempt.fence", error.to_string());
    }
    if context.attempt == 0 {
        errors.push("attempt.attempt", "is 0: attempts are numbered from 1");
    }
    let mut sequence = run.sequence.unwrap_or_default();
    if run.interactive && sequence.commands.is_empty() {
        validate_commands(&sequence.commands, "sequence.commands", false, &mut errors);
        if !sequence.url.is_empty()
            && let Err(message) = sonde_proto::validate_url(&sequence.url)
        {
            errors.push("sequence.url", message);
        }
    } else {
        if sequence.commands.is_empty() {
            let get = sonde_proto::visit::v1::command::Step::Get(Default::default());
            sequence.commands.push(Command { step: Some(get), ..Command::default() });
        }
        if let Err(wrong) = validate_sequence(&sequence, "sequence") {
            errors.0.extend(wrong.0);
        }
    }
    validate_setup(run.browser.as_ref(), run.instruments.as_ref(), run.limits.as_ref(), &mut errors);
    if let Some(hooks) = &run.crawl_hooks {
        validate_crawl_hooks(hooks, "crawl_hooks", &mut errors);
    }
    let browser = run.browser.unwrap_or_default();
    errors.into_result().map_err(|e| fault::invalid("run", e.to_string()))?;
    let limits: VisitLimits = run.limits.unwrap_or_default();
    let max_body_bytes = if limits.max_body_bytes == 0 { MAX_BODY_BYTES } else { limits.max_body_bytes };
    Ok(Checked {
        plan: Plan {
            visit_id: context.visit_id,
            commands: sequence.commands,
            limits,
            crawl_hooks: run.crawl_hooks.as_ref().map(CrawlHooks::time).unwrap_or_default(),
            interactive: run.interactive,
        },
        site_url: sequence.url,
        browser,
        instruments: run.instruments.unwrap_or_default(),
        max_body_bytes,
        fresh_browser: run.fresh_browser,
        lease: super::lease(run.lease),
        crawl_hooks: run.crawl_hooks,
        context,
    })
}

pub(super) fn check_step(command: Option<Command>) -> Result<Command, Failure> {
    let command = command.unwrap_or_default();
    let mut errors = FieldErrors::default();
    validate_commands(std::slice::from_ref(&command), "step", false, &mut errors);
    errors.into_result().map_err(|e| fault::invalid("step", e.to_string()))?;
    Ok(command)
}

/// The request is fine, the moment is not.
pub(super) fn not_now(what: &str, message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Lost.into(),
        retry: RetryAdvice::Same.into(),
        fingerprint: format!("slot:{what}"),
        message: message.into(),
        ..Failure::default()
    }
}

/// The caller was replaced by one with a higher fence.
pub(super) fn stale(message: String) -> Failure {
    Failure { retry: RetryAdvice::Never.into(), ..not_now("stale", message) }
}
