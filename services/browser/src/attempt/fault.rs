//! Failures: kind, advice, and a fingerprint that is the same for the same cause.

use sonde_proto::BREAKER_FINGERPRINT;
use sonde_proto::visit::v1::{Failure, FailureKind, Outcome, RetryAdvice};

/// Prefix of Chromium's network error codes.
pub const NET_PREFIX: &str = "net::ERR_";

/// Codes that trying again cannot mend: the name, the URL or the certificate is as it is.
const LASTING: &[&str] = &[
    "NAME_NOT_RESOLVED",
    "INVALID_URL",
    "DISALLOWED_URL_SCHEME",
    "UNKNOWN_URL_SCHEME",
    "UNSAFE_PORT",
    "UNSAFE_REDIRECT",
    "TOO_MANY_REDIRECTS",
    "BLOCKED_BY_CLIENT",
    "BLOCKED_BY_RESPONSE",
    "INVALID_RESPONSE",
    "INVALID_HTTP_RESPONSE",
];

fn failure(kind: FailureKind, retry: RetryAdvice, fingerprint: String, message: String) -> Failure {
    Failure { kind: kind.into(), retry: retry.into(), fingerprint, message, ..Failure::default() }
}

/// `net::ERR_NAME_NOT_RESOLVED` -> `NAME_NOT_RESOLVED`.
pub fn short_net_error(code: &str) -> &str {
    code.strip_prefix(NET_PREFIX).unwrap_or(code)
}

/// The network failed with the browser's own code.
pub fn network(code: &str) -> Failure {
    let short = short_net_error(code);
    let lasting = LASTING.contains(&short) || short.starts_with("CERT_") || short.starts_with("SSL_");
    let retry = if lasting { RetryAdvice::Never } else { RetryAdvice::Same };
    let message = format!("the page could not be loaded: {code}");
    let mut failure = failure(FailureKind::Network, retry, format!("network:{short}"), message);
    failure.net_error = code.to_owned();
    failure
}

/// A deadline passed. `what` names it without URLs or ids.
pub fn timeout(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Timeout, RetryAdvice::Same, format!("timeout:{what}"), message.into())
}

/// The browser died or does not answer.
pub fn browser(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Browser, RetryAdvice::FreshBrowser, format!("browser:{what}"), message.into())
}

/// No browser came up.
pub fn launch(message: impl Into<String>) -> Failure {
    failure(FailureKind::Browser, RetryAdvice::Same, "browser:launch".to_owned(), message.into())
}

/// No browser is started for a while, after too many that failed. `rest` is for how long, `why` what the last one died of.
pub fn breaker(rest: std::time::Duration, why: &str) -> Failure {
    let message = format!(
        "too many browsers in a row failed to start; the slot tries again in {} s. The last failure: {why}",
        rest.as_secs() + 1
    );
    let mut failure =
        failure(FailureKind::Browser, RetryAdvice::Same, BREAKER_FINGERPRINT.to_owned(), message);
    failure.retry_after = prost_types::Duration::try_from(rest).ok();
    failure
}

/// The browser took more of the machine than it may. `what` names it without URLs or ids.
pub fn resources(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Resources, RetryAdvice::FreshBrowser, format!("resources:{what}"), message.into())
}

/// An instrument was not ready, or lost records.
pub fn instrument(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Instrument, RetryAdvice::FreshBrowser, format!("instrument:{what}"), message.into())
}

/// A command failed on its page.
pub fn command(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Command, RetryAdvice::Same, format!("command:{what}"), message.into())
}

/// The request was wrong.
pub fn invalid(what: &str, message: impl Into<String>) -> Failure {
    failure(FailureKind::Invalid, RetryAdvice::Never, format!("invalid:{what}"), message.into())
}

/// Somebody ended the attempt.
pub fn cancelled(reason: &str) -> Failure {
    let message = if reason.is_empty() { "cancelled".to_owned() } else { format!("cancelled: {reason}") };
    failure(FailureKind::Cancelled, RetryAdvice::Never, "cancelled".to_owned(), message)
}

/// The caller is gone and its lease ran out.
pub fn lease_expired() -> Failure {
    let message = "the lease ended without an extension; the caller seems to be gone".to_owned();
    failure(FailureKind::Lost, RetryAdvice::Same, "lost:lease_expired".to_owned(), message)
}

/// Outcome of an attempt that ends by a failure of this kind.
pub fn outcome(failure: &Failure) -> Outcome {
    match failure.kind() {
        FailureKind::Network => Outcome::Neterror,
        FailureKind::Timeout => Outcome::Timeout,
        FailureKind::Browser => Outcome::Crashed,
        FailureKind::Cancelled => Outcome::Cancelled,
        _ => Outcome::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M33: names that do not resolve are not tried again; refused connections are.
    #[test]
    fn advice_depends_on_the_code() {
        assert_eq!(network("net::ERR_NAME_NOT_RESOLVED").retry(), RetryAdvice::Never);
        assert_eq!(network("net::ERR_CERT_DATE_INVALID").retry(), RetryAdvice::Never);
        assert_eq!(network("net::ERR_CONNECTION_REFUSED").retry(), RetryAdvice::Same);
        assert_eq!(network("net::ERR_CONNECTION_REFUSED").fingerprint, "network:CONNECTION_REFUSED");
    }
}
