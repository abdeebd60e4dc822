//! What the network stack tells of names: the address that served a hop, and the error of a look-up.
//!
//! A second look-up of our own could answer otherwise than the one that served the page: there is none. The whole
//! list of addresses and the canonical name stay NULL, and the capabilities say so.

use sonde_proto::record::v1::DnsResponse;
use sonde_proto::record::v1::record::Row;
use url::{Host, Url};

use super::HttpTracker;
use super::exchange::{Exchange, Failure};
use super::rows;
use super::site::stored_url;

/// The name in a URL; `None` of addresses and of URLs without a host.
fn name(url: &str) -> Option<String> {
    match Url::parse(url).ok()?.host()? {
        Host::Domain(name) => Some(name.to_owned()),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

/// The code of a failed look-up within the browser's words for a failure.
fn lookup_error(error: &str) -> Option<&str> {
    const LOOKUP: &[&str] = &["net::ERR_NAME_", "net::ERR_DNS_", "net::ERR_ICANN_NAME_COLLISION"];
    let at = LOOKUP.iter().find_map(|code| error.find(code))?;
    error[at..].split(|c: char| c.is_whitespace() || c == ',').next()
}

impl HttpTracker {
    fn dns(&mut self, exchange: &Exchange, at: usize, at_us: i64, fill: impl FnOnce(&mut DnsResponse)) {
        if !self.config.dns || self.config.proxied {
            return;
        }
        let hop = &exchange.hops[at];
        let Some(hostname) = name(&hop.url) else { return };
        let mut row = DnsResponse {
            request_id: exchange.id,
            hostname: Some(hostname),
            redirect_url: Some(stored_url(&hop.url)),
            source: Some("network_stack".to_owned()),
            ..DnsResponse::default()
        };
        fill(&mut row);
        self.record(at_us, Row::DnsResponse(row));
    }

    /// A hop was answered by the network.
    pub(super) fn resolved(&mut self, exchange: &Exchange, at: usize) {
        let hop = &exchange.hops[at];
        let Some(reply) = &hop.reply else { return };
        // Of answers out of a cache the address is that of the day they were stored.
        let stored = rows::cache_source(exchange, &reply.response, hop.received.last()).is_some();
        let came = !reply.response.from_service_worker && (!stored || !hop.received.is_empty());
        let address = reply.response.remote_ip_address.as_deref().filter(|ip| came && !ip.is_empty());
        if let Some(address) = address.map(|ip| ip.trim_matches(['[', ']']).to_owned()) {
            self.dns(exchange, at, reply.at_us, |row| row.used_address = Some(address));
        }
    }

    /// A hop failed.
    pub(super) fn unresolved(&mut self, exchange: &Exchange, at: usize, failure: &Failure) {
        if let Some(error) = lookup_error(&failure.error) {
            let error = error.to_owned();
            self.dns(exchange, at, failure.at_us, |row| row.error = Some(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_errors_are_told_from_the_rest() {
        assert_eq!(name("https://a.test:1/x").as_deref(), Some("a.test"));
        assert_eq!(name("http://127.0.0.1/"), None);
        assert_eq!(name("http://[::1]/"), None);
        assert_eq!(name("data:,x"), None);
        assert_eq!(lookup_error("net::ERR_NAME_NOT_RESOLVED"), Some("net::ERR_NAME_NOT_RESOLVED"));
        let socket = "Error in connection establishment: net::ERR_NAME_RESOLUTION_FAILED";
        assert_eq!(lookup_error(socket), Some("net::ERR_NAME_RESOLUTION_FAILED"));
        assert_eq!(lookup_error("net::ERR_CONNECTION_REFUSED"), None);
    }
}
