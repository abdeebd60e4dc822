//! Errors as callers get them: what happened, where, what to do, with `google.rpc.Status` details.
use std::{collections::HashMap, time::Duration};

use sonde_proto::FieldErrors;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::store::StoreError;

const DOMAIN: &str = "sonde.coordinator";

fn with(code: Code, reason: &str, message: String, details: &mut ErrorDetails) -> Status {
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details.clone())
}

/// Every wrong field at once.
pub(super) fn invalid(errors: &FieldErrors) -> Status {
    let mut details = ErrorDetails::new();
    for error in &errors.0 {
        details.add_bad_request_violation(&error.path, &error.message);
    }
    with(Code::InvalidArgument, "INVALID_FIELDS", errors.to_string(), &mut details)
}

pub(super) fn invalid_field(path: &str, message: &str) -> Status {
    let mut errors = FieldErrors::default();
    errors.push(path, message);
    invalid(&errors)
}

pub(super) fn no_crawl(crawl_id: &str) -> Status {
    let message = format!("there is no crawl {crawl_id:?} here: ListCrawls names those there are");
    with(Code::NotFound, "NO_SUCH_CRAWL", message, &mut ErrorDetails::new())
}

pub(super) fn no_visit(crawl_id: &str, visit_no: i64) -> Status {
    let message = format!("crawl {crawl_id} has no visit {visit_no}: ListVisits names those it has");
    with(Code::NotFound, "NO_SUCH_VISIT", message, &mut ErrorDetails::new())
}

pub(super) fn precondition(reason: &str, message: String) -> Status {
    with(Code::FailedPrecondition, reason, message, &mut ErrorDetails::new())
}

pub(super) fn exists(message: String) -> Status {
    with(Code::AlreadyExists, "REQUEST_ID_USED", message, &mut ErrorDetails::new())
}

pub(super) fn exhausted(message: String) -> Status {
    retryable(Code::ResourceExhausted, "TOO_MANY", message)
}

pub(super) fn unavailable(message: String) -> Status {
    retryable(Code::Unavailable, "UNAVAILABLE", message)
}

fn retryable(code: Code, reason: &str, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_secs(1)));
    with(code, reason, message, &mut details)
}

pub(super) fn store(error: StoreError) -> Status {
    match error {
        StoreError::Damaged(_) | StoreError::Newer { .. } => {
            tracing::error!(%error, "the store failed");
            with(Code::DataLoss, "STORE_DAMAGED", error.to_string(), &mut ErrorDetails::new())
        }
        StoreError::Database(_) => {
            tracing::error!(%error, "the store failed");
            unavailable(format!("{error}; nothing was changed: free the disk it is on, then try again"))
        }
        StoreError::Closed => unavailable("the coordinator is stopping; try again when it is back".into()),
    }
}
