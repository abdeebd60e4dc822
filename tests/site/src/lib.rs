//! The fixture site: pages of our own on several host names of the loopback interface, a log of every request
//! that reached them, and for each page the rows a complete measurement of it must hold.
//!
//! It knows no other crate of the workspace, so that its log is a ground truth and not a second opinion of ours.
//! It drives no browser and reads no record except through [`expect::sqlite`].
//!
//! # The corpus, and how to add a page
//! `pages/<group>/<name>.html`, and `"<name>";` in `src/pages/<group>.rs`: no more. The file is a body; the head, with
//! the icon and `probe.js`, comes by itself. In it, `{{v}}` is the token of the visit and belongs into every URL
//! (`probe.tagged` adds it), `{{self}}`, `{{third}}`, `{{tracker}}`, `{{cdn}}` and `{{site1}}` are origins.
//!
//! ```html
//! <script>
//! probe.run(async () => {
//!   probe.touch(window, "platform");                    // reads it, and says so
//!   await probe.text(probe.make("teapot", { status: 418, header: "Set-Cookie: a=1" }));
//! });
//! </script>
//! ```
//!
//! `probe.run` reports the end; a page that ends by leaving uses `probe.leave` and `until "end"` in its list, and goes to
//! `/p/end?v={{v}}`. What the site sees (requests, answers, redirects, cookies) is due by itself; what it cannot see the
//! page tells: `probe.did("call", "Interface.method")`, `probe.fails`, `probe.refused`, `probe.moved`, `probe.add`;
//! of code that came by no request `probe.ran`, of stacks `probe.traced` and `probe.tracedRequest`. Wait
//! for events, never for time. The same page serves every browser; where one differs, `expectations.toml` names the rows
//! and the reason. Run it with `sonde selftest --both --page <name>`.

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
mod tls;
mod truth;

pub use doc::{DocOptions, DocSite};
pub use log::{Hit, LogOptions, RequestBody, ResponseBody, sha256_hex};
pub use pages::{GROUPS, Group, Page, page, pages, tour};
pub use server::SiteError;
pub use site::{CDN, HSTS, Site, SiteOptions, THIRD, TRACKER};
pub use tls::{TlsError, authority_pem};
pub use truth::{Truth, TruthCookie, TruthFailure, TruthFrame, TruthNavigation, TruthScript, TruthStack};
