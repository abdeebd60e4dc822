//! Checks of what a page is loaded until.

use std::time::Duration;

use super::{FieldErrors, MAX_STAY, duration};
use crate::visit::v1::LoadPolicy;

/// Checks the time of a load policy.
pub(super) fn time_errors(
    policy: LoadPolicy,
    time: Option<prost_types::Duration>,
    path: &str,
    errors: &mut FieldErrors,
) {
    match (policy, time) {
        (LoadPolicy::Time, None) => {
            errors.push(path, "is not set: LOAD_POLICY_TIME needs it, 1 ms to 10 min");
        }
        (LoadPolicy::Time, time) => duration(time, path, Duration::from_millis(1), MAX_STAY, errors),
        (_, Some(_)) => errors.push(path, "is for LOAD_POLICY_TIME: leave it out, or ask for that"),
        (_, None) => {}
    }
}
