//! Checks of what is asked of the ProcessService.
use std::time::Duration;

use super::{FieldErrors, duration};
use crate::browser::v1::{
    GetProcessRequest, ListProcessesRequest, ProcessFilter, ProcessStream, ProcessType, TailOutputRequest,
    TerminateProcessRequest, WatchProcessTreeRequest, process_filter::Relation,
};

/// Most processes of one page.
const MAX_PAGE: u32 = 1000;
/// Most bytes of an output from its end.
const MAX_BYTES: u64 = 64 << 20;
/// Most lines of an output from its end.
const MAX_LINES: u32 = 100_000;
/// Longest time from SIGTERM to SIGKILL.
const MAX_GRACE: Duration = Duration::from_secs(600);
/// Longest label.
const MAX_LABEL: usize = 200;

/// A UUID in its usual form.
fn id(value: &str, path: &str, errors: &mut FieldErrors) {
    let shape = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    if value.len() != 36 || !value.bytes().enumerate().all(shape) {
        errors.push(path, "the id of a process: a UUID, as 01234567-89ab-7cde-8f01-23456789abcd");
    }
}

fn filter_errors(filter: &ProcessFilter, path: &str, errors: &mut FieldErrors) {
    for (i, kind) in filter.types.iter().enumerate() {
        if !matches!(ProcessType::try_from(*kind), Ok(kind) if kind != ProcessType::Unspecified) {
            errors.push(format!("{path}.types[{i}]"), format!("{kind} is no type of a process"));
        }
    }
    if filter.label.len() > MAX_LABEL {
        errors.push(format!("{path}.label"), format!("at most {MAX_LABEL} bytes"));
    }
    if !(0..1 << 53).contains(&filter.visit_id) {
        errors.push(format!("{path}.visit_id"), "0 to 2^53 - 1");
    }
    if !filter.machine_id.is_empty() {
        id(&filter.machine_id, &format!("{path}.machine_id"), errors);
    }
    if let Some(relation) = &filter.relation {
        let (name, value) = match relation {
            Relation::ChildrenOf(id) => ("children_of", id),
            Relation::DescendantsOf(id) => ("descendants_of", id),
            Relation::AncestorsOf(id) => ("ancestors_of", id),
            Relation::RootOf(id) => ("root_of", id),
        };
        id(value, &format!("{path}.{name}"), errors);
    }
}

/// A request that can be checked before it is looked at.
pub trait CheckRequest {
    /// # Errors
    /// All wrong fields at once, each with its path.
    fn check(&self) -> Result<(), FieldErrors>;
}

impl CheckRequest for ListProcessesRequest {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        if let Some(filter) = &self.filter {
            filter_errors(filter, "filter", &mut errors);
        }
        if self.page_size > MAX_PAGE {
            errors.push("page_size", format!("1 to {MAX_PAGE}, or 0 for 100"));
        }
        if !self.page_token.is_empty() {
            id(&self.page_token, "page_token", &mut errors);
        }
        errors.into_result()
    }
}

impl CheckRequest for GetProcessRequest {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        id(&self.id, "id", &mut errors);
        errors.into_result()
    }
}

impl CheckRequest for WatchProcessTreeRequest {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        if !self.root_id.is_empty() {
            id(&self.root_id, "root_id", &mut errors);
        }
        errors.into_result()
    }
}

impl CheckRequest for TailOutputRequest {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        id(&self.id, "id", &mut errors);
        if ProcessStream::try_from(self.stream).is_err() {
            errors.push("stream", format!("{} is no output of a process", self.stream));
        }
        if self.bytes > MAX_BYTES {
            errors.push("bytes", format!("at most {MAX_BYTES}, or 0 for 64 KiB"));
        }
        if self.lines > MAX_LINES {
            errors.push("lines", format!("at most {MAX_LINES}, or 0 for all of the bytes"));
        }
        errors.into_result()
    }
}

impl CheckRequest for TerminateProcessRequest {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        id(&self.id, "id", &mut errors);
        duration(self.grace, "grace", Duration::ZERO, MAX_GRACE, &mut errors);
        errors.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89ab-7cde-8f01-23456789abcd";

    fn paths(checked: Result<(), FieldErrors>) -> Vec<String> {
        checked.unwrap_err().0.into_iter().map(|error| error.path).collect()
    }

    /// A13: all wrong fields are told at once.
    #[test]
    fn wrong_fields_are_told_at_once() {
        let filter = ProcessFilter {
            types: vec![ProcessType::Hook.into(), 0, 99],
            label: "x".repeat(201),
            visit_id: -1,
            machine_id: "m".into(),
            relation: Some(Relation::DescendantsOf("0123456789ab-7cde-8f01-23456789abcd-xyz".into())),
            ..ProcessFilter::default()
        };
        let request = ListProcessesRequest {
            filter: Some(filter),
            page_size: 1001,
            page_token: "next".into(),
            ..ListProcessesRequest::default()
        };
        assert_eq!(
            paths(request.check()),
            [
                "filter.types[1]",
                "filter.types[2]",
                "filter.label",
                "filter.visit_id",
                "filter.machine_id",
                "filter.descendants_of",
                "page_size",
                "page_token",
            ]
        );
        let tail =
            TailOutputRequest { stream: 9, bytes: u64::MAX, lines: 100_001, ..TailOutputRequest::default() };
        assert_eq!(paths(tail.check()), ["id", "stream", "bytes", "lines"]);
        let grace = prost_types::Duration { seconds: 601, nanos: 0 };
        let terminate = TerminateProcessRequest { id: "1".into(), grace: Some(grace) };
        assert_eq!(paths(terminate.check()), ["id", "grace"]);
        assert_eq!(paths(GetProcessRequest::default().check()), ["id"]);
        let watch = WatchProcessTreeRequest { root_id: ID.replace('-', "+"), ..Default::default() };
        assert_eq!(paths(watch.check()), ["root_id"]);
    }

    #[test]
    fn right_requests_pass() {
        let filter = ProcessFilter {
            types: vec![ProcessType::Browser.into()],
            relation: Some(Relation::RootOf(ID.into())),
            machine_id: ID.into(),
            ..ProcessFilter::default()
        };
        let list = ListProcessesRequest { filter: Some(filter), page_token: ID.into(), ..Default::default() };
        assert_eq!(list.check(), Ok(()));
        assert_eq!(ListProcessesRequest::default().check(), Ok(()));
        assert_eq!(TailOutputRequest { id: ID.into(), ..Default::default() }.check(), Ok(()));
        assert_eq!(TerminateProcessRequest { id: ID.into(), grace: None }.check(), Ok(()));
        assert_eq!(WatchProcessTreeRequest::default().check(), Ok(()));
    }
}
