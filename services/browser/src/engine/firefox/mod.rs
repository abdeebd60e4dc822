//! Firefox: started by us, driven through geckodriver (WebDriver, and what its chrome context allows) and by WebDriver
//! BiDi.

mod bidi;
pub(super) mod capabilities;
mod chrome;
mod cookies;
mod driver;
mod engine;
mod kept;
mod launch;
mod locate;
mod net_error;
mod prefs;
mod profile;
mod visit;

pub use engine::Firefox;
pub use locate::{LocateError, Programs, locate};
