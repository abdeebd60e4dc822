//! The pages: what each is called, where it lives, and what a measurement of it must hold.
//!
//! One module and one directory of `pages/` a group. A group is a list of names; see the crate's documentation for how
//! to add one.

mod caches;
mod calls;
mod cookies;
mod failures;
mod inner;
mod integrity;
mod navigations;
mod posts;
mod realms;
mod redirects;
mod requests;
mod secure;
mod sockets;
mod stacks;
mod tour;
mod workers;

use crate::expect::Expected;
use crate::site::Site;

/// One page of the site.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub name: &'static str,
    /// The host to visit it on; every host serves it.
    pub host: &'static str,
    /// Whether it is visited over TLS.
    pub secure: bool,
    /// Path, to which [`Page::url`] adds the token.
    pub path: &'static str,
    /// The document whose `done` report ends a visit; `None` for a document that reports nothing.
    pub done: Option<&'static str>,
    /// The rows a visit under this token must leave, from the site's log and the pages' reports so far.
    pub expectation: fn(token: &str, site: &Site) -> Expected,
    pub(crate) html: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Page {
    /// The URL of a visit. `extra` is more of the query, e.g. `&n=1000`, or empty.
    pub fn url(&self, site: &Site, token: &str, extra: &str) -> String {
        let path = format!("{}?v={token}{extra}", self.path);
        if self.secure { site.secure_url(self.host, &path) } else { site.url(self.host, &path) }
    }

    /// What a visit under this token must have recorded.
    pub fn expected(&self, token: &str, site: &Site) -> Expected {
        (self.expectation)(token, site)
    }

    /// The document: a file that does not begin as one is a body, which gets the head that most pages have.
    pub(crate) fn text(&self) -> String {
        if self.html.starts_with("<!doctype") {
            return self.html.to_owned();
        }
        let name = self.name;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
             <link rel=\"icon\" href=\"/favicon.ico?v={{{{v}}}}\">\n\
             <script src=\"/s/probe.js?v={{{{v}}}}\" data-page=\"{name}\"></script>\n</head>\n<body>\n{}</body>\n</html>\n",
            self.html
        )
    }
}

/// Pages of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The directory of its files.
    pub name: &'static str,
    pub pages: &'static [Page],
}

pub(crate) const HOST: &str = "site-0.localhost";

/// The text of a file under `pages/`.
macro_rules! text {
    ($($part:expr),+) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/pages/", $($part),+))
    };
}

/// The pages of a group: `"name";` each, with more where the page differs from most. `until "x"`: it ends once the
/// document x has reported; `expects f`: another expectation than `expect::from_site`; `with H`: headers it is served
/// with. `over tls`: it is visited so.
macro_rules! group {
    ($group:literal: $($name:literal $(over $secure:ident)? $(until $done:literal)? $(expects $expectation:ident)? $(with $headers:expr)?;)*) => {
        pub(super) const GROUP: $crate::pages::Group = $crate::pages::Group {
            name: $group,
            pages: &[$($crate::pages::Page {
                name: $name,
                host: $crate::pages::HOST,
                secure: $crate::pages::group!(@secure $($secure)?),
                path: concat!("/p/", $name),
                done: Some($crate::pages::group!(@done $name $($done)?)),
                expectation: $crate::pages::group!(@expectation $($expectation)?),
                html: $crate::pages::text!($group, "/", $name, ".html"),
                headers: $crate::pages::group!(@headers $($headers)?),
            }),*],
        };
    };
    (@secure) => { false };
    (@secure tls) => { true };
    (@done $name:literal) => { $name };
    (@done $name:literal $done:literal) => { $done };
    (@expectation) => { $crate::expect::from_site };
    (@expectation $expectation:ident) => { $crate::expect::$expectation };
    (@headers) => { &[] };
    (@headers $headers:expr) => { $headers };
}
pub(crate) use {group, text};

/// Every group. The first is whole pages, each of many things; the others are small pages, each of one thing.
pub const GROUPS: &[Group] = &[
    tour::GROUP,
    requests::GROUP,
    posts::GROUP,
    redirects::GROUP,
    caches::GROUP,
    failures::GROUP,
    secure::GROUP,
    sockets::GROUP,
    workers::GROUP,
    cookies::GROUP,
    navigations::GROUP,
    calls::GROUP,
    realms::GROUP,
    stacks::GROUP,
];

/// Every page to visit.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    GROUPS.iter().flat_map(|group| group.pages)
}

/// The whole pages of the tour.
pub fn tour() -> &'static [Page] {
    tour::GROUP.pages
}

/// The page of that name, if it is one to visit.
pub fn page(name: &str) -> Option<&'static Page> {
    pages().chain(integrity::GROUP.pages).find(|page| page.name == name)
}

pub(crate) fn document(name: &str) -> Option<Page> {
    page(name).copied().or_else(|| inner::document(name))
}

pub(crate) use inner::script;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_a_group_is_in_its_list_and_no_name_is_twice() {
        let mut names = HashSet::new();
        for group in GROUPS.iter().chain([&integrity::GROUP]) {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages").join(group.name);
            let files: BTreeSet<String> = std::fs::read_dir(&directory)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            let listed: BTreeSet<String> = group.pages.iter().map(|p| format!("{}.html", p.name)).collect();
            assert_eq!(files, listed, "{}", group.name);
            for page in group.pages {
                assert!(names.insert(page.name), "{} is there twice", page.name);
                assert!(inner::document(page.name).is_none(), "{} is an inner document, too", page.name);
            }
        }
        assert!(names.len() >= 125, "{} pages", names.len());
    }
}
