//! Firefox's network errors, in the words that the other engine's rows use for the same failures.

use sonde_proto::visit::v1::Failure;

use crate::attempt::fault;

/// Firefox's code or the name of its error page, and Chromium's code without prefix.
const WORDS: &[(&str, &str)] = &[
    ("NS_ERROR_UNKNOWN_HOST", "NAME_NOT_RESOLVED"),
    ("dnsNotFound", "NAME_NOT_RESOLVED"),
    ("NS_ERROR_CONNECTION_REFUSED", "CONNECTION_REFUSED"),
    ("connectionFailure", "CONNECTION_REFUSED"),
    ("NS_ERROR_NET_TIMEOUT", "CONNECTION_TIMED_OUT"),
    ("NS_ERROR_NET_TIMEOUT_EXTERNAL", "CONNECTION_TIMED_OUT"),
    ("netTimeout", "CONNECTION_TIMED_OUT"),
    ("NS_ERROR_NET_RESET", "CONNECTION_RESET"),
    ("netReset", "CONNECTION_RESET"),
    ("NS_ERROR_NET_INTERRUPT", "CONNECTION_CLOSED"),
    ("netInterrupt", "CONNECTION_CLOSED"),
    ("NS_ERROR_NET_EMPTY_RESPONSE", "EMPTY_RESPONSE"),
    ("netEmptyResponse", "EMPTY_RESPONSE"),
    ("NS_ERROR_NET_PARTIAL_TRANSFER", "CONTENT_LENGTH_MISMATCH"),
    ("NS_ERROR_NET_ERROR_RESPONSE", "HTTP_RESPONSE_CODE_FAILURE"),
    ("httpErrorPage", "HTTP_RESPONSE_CODE_FAILURE"),
    ("serverError", "HTTP_RESPONSE_CODE_FAILURE"),
    ("NS_ERROR_OFFLINE", "INTERNET_DISCONNECTED"),
    ("netOffline", "INTERNET_DISCONNECTED"),
    ("NS_ERROR_REDIRECT_LOOP", "TOO_MANY_REDIRECTS"),
    ("redirectLoop", "TOO_MANY_REDIRECTS"),
    ("NS_ERROR_PORT_ACCESS_NOT_ALLOWED", "UNSAFE_PORT"),
    ("deniedPortAccess", "UNSAFE_PORT"),
    ("NS_ERROR_MALFORMED_URI", "INVALID_URL"),
    ("malformedURI", "INVALID_URL"),
    ("NS_ERROR_UNKNOWN_PROTOCOL", "UNKNOWN_URL_SCHEME"),
    ("unknownProtocolFound", "UNKNOWN_URL_SCHEME"),
    ("NS_ERROR_UNKNOWN_PROXY_HOST", "PROXY_CONNECTION_FAILED"),
    ("NS_ERROR_PROXY_CONNECTION_REFUSED", "PROXY_CONNECTION_FAILED"),
    ("proxyConnectFailure", "PROXY_CONNECTION_FAILED"),
    ("proxyResolveFailure", "PROXY_CONNECTION_FAILED"),
    ("NS_ERROR_INVALID_CONTENT_ENCODING", "CONTENT_DECODING_FAILED"),
    ("contentEncodingError", "CONTENT_DECODING_FAILED"),
    ("NS_ERROR_CORRUPTED_CONTENT", "INVALID_HTTP_RESPONSE"),
    ("corruptedContentErrorv2", "INVALID_HTTP_RESPONSE"),
    ("NS_ERROR_PARSING_HTTP_STATUS_LINE", "INVALID_HTTP_RESPONSE"),
    ("NS_ERROR_CSP_FRAME_ANCESTOR_VIOLATION", "BLOCKED_BY_RESPONSE"),
    ("NS_ERROR_XFO_VIOLATION", "BLOCKED_BY_RESPONSE"),
    ("NS_ERROR_BLOCKED_BY_POLICY", "BLOCKED_BY_RESPONSE"),
    ("cspBlocked", "BLOCKED_BY_RESPONSE"),
    ("xfoBlocked", "BLOCKED_BY_RESPONSE"),
    ("NS_BINDING_ABORTED", "ABORTED"),
    ("NS_ERROR_ABORT", "ABORTED"),
    ("SSL_ERROR_BAD_CERT_DOMAIN", "CERT_COMMON_NAME_INVALID"),
    ("SEC_ERROR_EXPIRED_CERTIFICATE", "CERT_DATE_INVALID"),
    ("SEC_ERROR_EXPIRED_ISSUER_CERTIFICATE", "CERT_DATE_INVALID"),
    ("MOZILLA_PKIX_ERROR_NOT_YET_VALID_CERTIFICATE", "CERT_DATE_INVALID"),
    ("SEC_ERROR_REVOKED_CERTIFICATE", "CERT_REVOKED"),
    ("SEC_ERROR_UNKNOWN_ISSUER", "CERT_AUTHORITY_INVALID"),
    ("SEC_ERROR_UNTRUSTED_ISSUER", "CERT_AUTHORITY_INVALID"),
    ("SEC_ERROR_CA_CERT_INVALID", "CERT_AUTHORITY_INVALID"),
    ("MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT", "CERT_AUTHORITY_INVALID"),
    ("nssBadCert", "CERT_AUTHORITY_INVALID"),
    ("SSL_ERROR_NO_CYPHER_OVERLAP", "SSL_VERSION_OR_CIPHER_MISMATCH"),
    ("SSL_ERROR_UNSUPPORTED_VERSION", "SSL_VERSION_OR_CIPHER_MISMATCH"),
    ("SSL_ERROR_PROTOCOL_VERSION_ALERT", "SSL_VERSION_OR_CIPHER_MISMATCH"),
    ("nssFailure2", "SSL_PROTOCOL_ERROR"),
];

/// The code in what Firefox says of a failed navigation.
pub(super) fn code(message: &str) -> &str {
    // Failures of TLS come as NS_ERROR_GENERATE_FAILURE(NS_ERROR_MODULE_SECURITY, SSL_ERROR_...): theirs go first.
    const KINDS: &[&str] = &["SSL_ERROR_", "SEC_ERROR_", "MOZILLA_PKIX_ERROR_", "NS_"];
    let message = message.trim().trim_start_matches("Error: ");
    let words = || message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    KINDS.iter().find_map(|kind| words().find(|word| word.starts_with(kind))).unwrap_or(message)
}

/// The word that both engines use; Firefox's own where the other has none.
pub(super) fn word(code: &str) -> &str {
    match WORDS.iter().find(|(known, _)| *known == code) {
        Some((_, word)) => word,
        None if code.starts_with("SSL_ERROR_") => "SSL_PROTOCOL_ERROR",
        None if code.starts_with("SEC_ERROR_") || code.starts_with("MOZILLA_PKIX_ERROR_") => "CERT_INVALID",
        None => code,
    }
}

/// The page could not be loaded; `net_error` is Firefox's own code.
pub(super) fn failure(code: &str) -> Failure {
    let mut failure = fault::network(word(code));
    code.clone_into(&mut failure.net_error);
    failure.message = format!("the page could not be loaded: {code}");
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use sonde_proto::visit::v1::RetryAdvice;

    /// M33, M40: the same failure has the same word, fingerprint and advice on both engines.
    #[test]
    fn the_same_failures_have_the_same_words_as_on_chromium() {
        for (message, short, advice) in [
            ("NS_ERROR_UNKNOWN_HOST", "NAME_NOT_RESOLVED", RetryAdvice::Never),
            ("Error: NS_ERROR_CONNECTION_REFUSED", "CONNECTION_REFUSED", RetryAdvice::Same),
            ("Error: dnsNotFound", "NAME_NOT_RESOLVED", RetryAdvice::Never),
            ("NS_ERROR_REDIRECT_LOOP", "TOO_MANY_REDIRECTS", RetryAdvice::Never),
            (
                "Error: NS_ERROR_GENERATE_FAILURE(NS_ERROR_MODULE_SECURITY, SEC_ERROR_EXPIRED_CERTIFICATE)",
                "CERT_DATE_INVALID",
                RetryAdvice::Never,
            ),
            ("SEC_ERROR_UNKNOWN_ISSUER", "CERT_AUTHORITY_INVALID", RetryAdvice::Never),
            ("SSL_ERROR_RX_RECORD_TOO_LONG", "SSL_PROTOCOL_ERROR", RetryAdvice::Never),
            ("NS_ERROR_NEW_IN_NEXT_VERSION", "NS_ERROR_NEW_IN_NEXT_VERSION", RetryAdvice::Same),
        ] {
            let code = code(message);
            let (ours, theirs) = (failure(code), fault::network(&format!("net::ERR_{short}")));
            assert_eq!((word(code), ours.retry()), (short, advice), "{message}");
            assert_eq!(ours.fingerprint, theirs.fingerprint);
            assert_eq!(ours.net_error, code);
        }
    }
}
