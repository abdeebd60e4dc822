//! The contract: generated messages and services, the ids both sides use, and
//! the table schemas derived from the record messages.
//!
//! It holds no behaviour of any service: what a visit does, how it is stored
//! and how it is scheduled live in the services.

/// Rows of tables on their way to storage.
pub mod record {
    /// `sonde.record.v1`.
    #[allow(missing_docs, clippy::large_enum_variant)]
    pub mod v1 {
        tonic::include_proto!("sonde.record.v1");
    }
}

/// Commands, sequences, phases, outcomes and failures.
pub mod visit {
    /// `sonde.visit.v1`.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        tonic::include_proto!("sonde.visit.v1");
    }
}

/// The browser-service, and its relay for the extension.
pub mod browser {
    /// `sonde.browser.v1`.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        tonic::include_proto!("sonde.browser.v1");
    }
}

/// The storage-service.
pub mod storage {
    /// `sonde.storage.v1`.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        tonic::include_proto!("sonde.storage.v1");
    }
}

/// The coordinator.
pub mod coordinator {
    /// `sonde.coordinator.v1`.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        tonic::include_proto!("sonde.coordinator.v1");
    }
}

pub mod digest;
pub mod har;
mod ids;
pub mod js_settings;
mod json;
mod keys;
mod print;
mod records;
pub mod schema;
mod times;
mod validate;
mod words;

pub use ids::{BrowserId, CrawlId, Fence, InvalidId, StreamId, VisitId};
pub use json::{from_json, to_json};
pub use keys::{InvalidKeys, Key, NamedKey, key_combination};
pub use print::{InvalidPages, Sheet, page_ranges};
pub use records::{Entries, Entry, InvalidList};
pub use validate::{
    CheckRequest, DomainSequence, FieldError, FieldErrors, validate_commands, validate_crawl_hooks,
    validate_sequence, validate_setup, validate_url,
};
pub use words::BREAKER_FINGERPRINT;

/// The encoded descriptor set of the whole contract, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
