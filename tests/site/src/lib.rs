//! The fixture site: pages of our own on several host names of the loopback interface, a log of every request
//! that reached them, and for each page the rows a complete measurement of it must hold.
//!
//! It knows no other crate of the workspace, so that its log is a ground truth and not a second opinion of ours.
//! It drives no browser and reads no record except through [`expect::sqlite`].

mod doc;
pub mod expect;
mod log;
mod observe;
mod pages;
mod routes;
mod server;
mod site;
mod tap;
mod template;
mod truth;

pub use doc::{DocOptions, DocSite};
pub use log::{Hit, LogOptions, RequestBody, ResponseBody, sha256_hex};
pub use pages::{PAGES, Page, page};
pub use server::SiteError;
pub use site::{CDN, Site, SiteOptions, THIRD, TRACKER};
pub use truth::{Truth, TruthCookie, TruthFailure, TruthFrame, TruthNavigation};
