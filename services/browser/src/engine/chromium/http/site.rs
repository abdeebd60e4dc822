//! Origins and sites of URLs.

use url::{Host, Url};

/// The list by which sites are told apart, for provenance: the crate that holds it, its version, and that its
/// private part (github.io and the like) counts.
pub const PUBLIC_SUFFIX_LIST: &str = "psl 2.1.247, private suffixes included";

/// Stands for the content of a data: URL.
pub(super) const STRIPPED: &str = "<data-stripped>";

/// The URL as it is stored: of data: URLs only the type is kept.
pub(in crate::engine::chromium) fn stored_url(url: &str) -> String {
    let is_data = url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:"));
    if !is_data {
        return url.to_owned();
    }
    let kind = url[5..].split([',', ';']).next().unwrap_or_default();
    format!("data:{kind},{STRIPPED}")
}

/// `scheme://host[:port]`; `None` for opaque origins. Of blob: URLs that of their maker.
pub(super) fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// The registrable domain, or the whole host where there is none (IP addresses, localhost).
fn site(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    if url.scheme() == "blob" {
        return site(url.path());
    }
    match url.host()? {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            Some(psl::domain_str(name).unwrap_or(name).to_owned())
        }
        address => Some(address.to_string()),
    }
}

/// Whether the two are of different sites; `None` when either has none.
pub(super) fn third_party(url: &str, of: &str) -> Option<bool> {
    Some(site(url)? != site(of)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Cases {
        sites: Vec<SiteCase>,
        pairs: Vec<PairCase>,
    }

    #[derive(serde::Deserialize)]
    struct SiteCase {
        url: String,
        site: Option<String>,
    }

    #[derive(serde::Deserialize)]
    struct PairCase {
        url: String,
        of: String,
        third_party: Option<bool>,
    }

    /// M01: the cases that the extension's tests read, too.
    #[test]
    fn sites_are_those_of_the_shared_cases() {
        let text = include_str!("../../../../../../tests/data/third-party-cases.json");
        let cases: Cases = serde_json::from_str(text).unwrap();
        assert!(cases.sites.len() > 20 && cases.pairs.len() > 20);
        for case in cases.sites {
            assert_eq!(site(&case.url), case.site, "{}", case.url);
        }
        for case in cases.pairs {
            assert_eq!(third_party(&case.url, &case.of), case.third_party, "{} of {}", case.url, case.of);
        }
    }

    #[test]
    fn the_lists_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../../../../Cargo.lock");
        let version = PUBLIC_SUFFIX_LIST.split([' ', ',']).nth(1).unwrap();
        assert!(lock.contains(&format!("name = \"psl\"\nversion = \"{version}\"")), "{PUBLIC_SUFFIX_LIST}");
    }

    #[test]
    fn sites_follow_the_public_suffix_list() {
        assert_eq!(third_party("https://a.b.co.uk/x", "https://b.co.uk"), Some(false));
        assert_eq!(third_party("https://a.github.io/", "https://b.github.io"), Some(true));
        assert_eq!(third_party("http://127.0.0.1:1/", "http://127.0.0.2/"), Some(true));
        assert_eq!(third_party("http://localhost:1/", "http://localhost:2/"), Some(false));
        assert_eq!(third_party("blob:https://a.test/1", "https://x.a.test"), Some(false));
        assert_eq!(third_party("data:text/plain,x", "https://a.test"), None);
        assert_eq!(third_party("https://a.test", "about:blank"), None);
    }

    #[test]
    fn data_urls_are_cut_and_others_kept() {
        assert_eq!(stored_url("data:image/png;base64,AAAA"), "data:image/png,<data-stripped>");
        assert_eq!(stored_url("blob:http://a/1"), "blob:http://a/1");
        assert_eq!(origin("blob:http://a/1").as_deref(), Some("http://a"));
        assert_eq!(origin("about:blank"), None);
    }
}
