//! Which site a URL belongs to, and how busy sites are.
use std::{collections::HashMap, time::Duration};

use sonde_runtime::clock::Mono;
use url::{Host, Url};

/// The site of a URL or bare host name: its registrable domain; IP addresses and `*.localhost` names as they are.
///
/// # Errors
/// Why it is no URL, for its submitter.
pub(crate) fn site_of(url: &str) -> Result<String, String> {
    let parsed = if url.contains("://") { Url::parse(url) } else { Url::parse(&format!("https://{url}")) };
    let parsed = parsed.map_err(|error| format!("{url:?} is no URL: {error}"))?;
    Ok(match parsed.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            if name == "localhost" || name.ends_with(".localhost") {
                name.to_owned()
            } else {
                psl::domain_str(name).unwrap_or(name).to_owned()
            }
        }
        Some(ip) => ip.to_string(),
        None => return Err(format!("{url:?} has no host")),
    })
}

/// How a crawl treats sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Politeness {
    /// 0: no limit.
    pub max_per_site: u32,
    /// From the end of one visit to the start of the next.
    pub min_delay: Duration,
}

impl Politeness {
    pub fn is_none(&self) -> bool {
        self.max_per_site == 0 && self.min_delay.is_zero()
    }
}

/// Running visits and last ends by site, over all crawls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites(HashMap<String, Load>);

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    running: u32,
    ended: Option<Mono>,
}

/// Ends that are remembered at most; beyond it those longest ago are forgotten first.
const MAX_SITES: usize = 65_536;

impl Sites {
    pub fn begin(&mut self, site: &str) {
        match self.0.get_mut(site) {
            Some(load) => load.running += 1,
            None => {
                self.0.insert(site.to_owned(), Load { running: 1, ended: None });
            }
        }
    }

    /// `keep` is the longest delay any crawl asks for: nothing is remembered for longer.
    pub fn end(&mut self, site: &str, now: Mono, keep: Duration) {
        if let Some(load) = self.0.get_mut(site) {
            load.running = load.running.saturating_sub(1);
            load.ended = Some(now);
            if load.running == 0 && keep.is_zero() {
                self.0.remove(site);
            }
        }
        if self.0.len() > MAX_SITES {
            self.0.retain(|_, load| load.running > 0 || load.ended.is_some_and(|at| now.since(at) < keep));
        }
        if self.0.len() > MAX_SITES {
            let mut ends: Vec<Mono> = self.0.values().filter_map(|load| load.ended).collect();
            ends.sort_unstable();
            if let Some(middle) = ends.get(ends.len() / 2).copied() {
                self.0.retain(|_, load| load.running > 0 || load.ended.is_some_and(|at| at > middle));
            }
        }
    }

    /// Whether one more visit of the site may start now.
    pub fn allows(&self, site: &str, rule: &Politeness, now: Mono) -> bool {
        rule.is_none() || self.0.get(site).is_none_or(|load| load.allows(rule, now))
    }

    /// Sites that may not be visited now.
    pub fn blocked(&self, rule: &Politeness, now: Mono) -> Vec<&str> {
        let blocked = self.0.iter().filter(|(_, load)| !load.allows(rule, now));
        blocked.map(|(site, _)| site.as_str()).collect()
    }

    /// When the first of the sites that wait for their delay may be visited again.
    pub fn next_ready(&self, rule: &Politeness, now: Mono) -> Option<Mono> {
        let ends = self.0.values().filter_map(|load| load.ended);
        ends.map(|ended| ended + rule.min_delay).filter(|ready| *ready > now).min()
    }
}

impl Load {
    fn allows(&self, rule: &Politeness, now: Mono) -> bool {
        let room = rule.max_per_site == 0 || self.running < rule.max_per_site;
        // A delay counts from the end of a visit, so there can be only one at a time.
        let room = room && (rule.min_delay.is_zero() || self.running == 0);
        room && self.ended.is_none_or(|ended| now.since(ended) >= rule.min_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M47
    #[test]
    fn sites_are_registrable_domains() {
        for (url, site) in [
            ("https://www.example.co.uk/x", "example.co.uk"),
            ("http://a.b.example.org:8080", "example.org"),
            ("shop.example.com", "example.com"),
            ("http://127.0.0.1:80/", "127.0.0.1"),
            ("http://[::1]:80/", "[::1]"),
            ("http://x.site.localhost:1", "x.site.localhost"),
            ("localhost:8080", "localhost"),
            ("https://user:pw@www.EXAMPLE.org.", "example.org"),
            ("https://intranet/", "intranet"),
        ] {
            assert_eq!(site_of(url).as_deref(), Ok(site), "{url}");
        }
        assert!(site_of("http://a:99999/").is_err());
    }

    #[test]
    fn memory_of_ends_is_bounded() {
        let mut sites = Sites::default();
        for i in 0..200_000u64 {
            let site = format!("s{i}.org");
            sites.begin(&site);
            sites.end(&site, Mono::from_us(i), Duration::from_secs(3600));
        }
        assert!(sites.0.len() <= MAX_SITES);
    }
}
