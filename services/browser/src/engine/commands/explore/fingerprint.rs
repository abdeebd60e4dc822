//! By what an element is known again, whatever became of its node.

use md5::{Digest, Md5};
use sonde_proto::digest::hex;

/// Lower-case hex MD5 of `tag:text:role:href`: the tag in lower case, the text with its white space collapsed and cut to
/// 80 characters, the attributes `role` and `href` as they are written.
pub fn fingerprint(key: &str) -> String {
    hex(&Md5::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D29: made by `printf … | md5sum`.
    #[test]
    fn fingerprints_are_those_of_the_seed() {
        for (key, wanted) in [
            ("button:Get started::", "32ff1abae11feeebc5cc63f43ddcaf96"),
            ("a:Features::/features", "43c966c003afd38e3316f51b3c8bec93"),
            ("div:Öffnen 日本:tab:", "4983e28d4779d641f45c400f58008856"),
        ] {
            assert_eq!(fingerprint(key), wanted, "{key}");
        }
    }
}
