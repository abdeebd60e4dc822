//! Where a visit goes: the URLs of a site, and which of a page's links are followed. The same on every engine.

use sonde_proto::StreamId;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_runtime::clock::wall_us;
use url::Url;

use crate::uplink::AttemptUplink;

/// Links that a page may offer us.
pub const LINKS: usize = 2000;

/// Absolute URLs of the links that a user could see and click, at most one more than [`LINKS`].
pub const VISIBLE_LINKS: &str = r"(() => {
  const found = [];
  for (const a of document.querySelectorAll('a[href]')) {
    if (found.length > 2000) break;
    const r = a.getBoundingClientRect();
    if (r.width < 1 || r.height < 1) continue;
    if (a.checkVisibility && !a.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (typeof a.href === 'string') found.push(a.href);
  }
  return found;
})()";

/// Keeps the first [`LINKS`] of what a page offers; that there were more is a row of `truncations` (M18).
pub async fn capped(mut found: Vec<String>, page: String, uplink: &AttemptUplink) -> Vec<String> {
    if found.len() > LINKS {
        found.truncate(LINKS);
        let row = Truncation {
            table_name: "crawl_history".to_owned(),
            reason: "links_cap".to_owned(),
            // How many there are was not counted: at least one.
            dropped_rows: 1,
            limit_value: LINKS as i64,
            subject: Some(page),
            ..Truncation::default()
        };
        if let Err(error) = uplink.record(StreamId::SERVICE, wall_us(), Row::Truncation(row)).await {
            // The attempt ends by it.
            tracing::warn!(%error, "a truncation could not be recorded");
        }
    }
    found
}

/// A URL as it is; a bare host with https, then http.
pub fn candidates(url: &str) -> Vec<String> {
    if url.contains("://") {
        return vec![url.to_owned()];
    }
    vec![format!("https://{url}"), format!("http://{url}")]
}

/// Whether http is worth a try when https failed with this code (without prefix).
pub fn plain_may_help(code: &str) -> bool {
    const NOT_THERE: &[&str] =
        &["NAME_NOT_RESOLVED", "ABORTED", "INTERNET_DISCONNECTED", "BLOCKED_BY_CLIENT"];
    !NOT_THERE.contains(&code)
}

/// The links to other pages of the site of `start`, each once, in the order of the page.
pub fn same_site(start: &str, found: &[String]) -> Vec<String> {
    let Ok(here) = Url::parse(start) else { return Vec::new() };
    let without_fragment = |url: &Url| {
        let mut url = url.clone();
        url.set_fragment(None);
        url
    };
    let mut seen = vec![without_fragment(&here)];
    for link in found {
        let Ok(url) = Url::parse(link) else { continue };
        let plain = without_fragment(&url);
        if matches!(url.scheme(), "http" | "https") && site(&url) == site(&here) && !seen.contains(&plain) {
            seen.push(plain);
        }
    }
    seen.into_iter().skip(1).map(String::from).collect()
}

/// Registrable domain, or the host where there is none (an address, localhost).
pub fn site(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let domain = match url.host()? {
        url::Host::Domain(_) => psl::domain_str(host),
        _ => None,
    };
    Some(domain.unwrap_or(host).to_owned())
}

/// A seeded choice that stays the same over versions (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    pub fn of<'a, T>(&mut self, choice: &'a [T]) -> Option<&'a T> {
        let at = self.next().checked_rem(choice.len() as u64)?;
        choice.get(usize::try_from(at).ok()?)
    }

    /// A number of `least..=most`.
    pub fn within(&mut self, least: u32, most: u32) -> u32 {
        let size = u64::from(most.saturating_sub(least)) + 1;
        least + u32::try_from(self.next() % size).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M46
    #[test]
    fn bare_hosts_get_https_then_http() {
        assert_eq!(candidates("a.test/x"), ["https://a.test/x", "http://a.test/x"]);
        assert_eq!(candidates("http://a.test"), ["http://a.test"]);
        assert!(plain_may_help("CONNECTION_REFUSED"));
        assert!(!plain_may_help("NAME_NOT_RESOLVED"));
    }

    #[test]
    fn only_other_pages_of_the_same_site_are_followed() {
        let found = [
            "https://www.a.co.uk/1",
            "https://a.co.uk/#top",
            "https://b.co.uk/",
            "http://a.co.uk/2",
            "https://a.co.uk/2#x",
            "https://a.co.uk/2",
            "javascript:void(0)",
        ];
        let found: Vec<String> = found.map(str::to_owned).into();
        let links = same_site("https://a.co.uk/", &found);
        assert_eq!(links, ["https://www.a.co.uk/1", "http://a.co.uk/2", "https://a.co.uk/2"]);
        assert_eq!(same_site("http://127.0.0.1:1/", &["http://127.0.0.1:1/x".into()]).len(), 1);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let choice: Vec<u32> = (0..100).collect();
        let draw = |seed| {
            let mut draw = Draw(seed);
            (0..5).map(|_| *draw.of(&choice).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(Draw(1).of::<u32>(&[]), None);
    }
}
