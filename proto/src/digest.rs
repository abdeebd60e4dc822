//! Digests as the contract writes them: lower-case hex.

use std::fmt::Write;

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Whether it is a SHA-256 so written.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_way_to_be_written() {
        assert_eq!(hex(&[0, 0xab, 9]), "00ab09");
        let digest = hex(&[0xfe; 32]);
        assert!(is_sha256(&digest));
        assert!(!is_sha256(&digest.to_uppercase()) && !is_sha256(&digest[1..]));
    }
}
