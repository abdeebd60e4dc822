//! Patterns of URLs.

/// Whether a URL is one of the pattern's: `*` stands for anything but `/`, `**` for anything.
pub fn matches(pattern: &str, url: &str) -> bool {
    let (pattern, url) = (pattern.as_bytes(), url.as_bytes());
    // Which beginnings of the URL the pattern so far can be: time and room are bounded by the lengths.
    let mut reached = vec![false; url.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let star = pattern[at] == b'*';
        let stars = if star && pattern.get(at + 1) == Some(&b'*') { 2 } else { 1 };
        if star {
            for i in 0..url.len() {
                if reached[i] && (stars == 2 || url[i] != b'/') {
                    reached[i + 1] = true;
                }
            }
        } else {
            for i in (0..url.len()).rev() {
                reached[i + 1] = reached[i] && url[i] == pattern[at];
            }
            reached[0] = false;
        }
        at += stars;
    }
    reached[url.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_within_a_segment() {
        for (pattern, url, fits) in [
            ("http://a.b/c", "http://a.b/c", true),
            ("http://a.b/c", "http://a.b/cd", false),
            ("http://*/c?d=1", "http://a.b:80/c?d=1", true),
            ("http://a.b/*", "http://a.b/c/d", false),
            ("http://a.b/**", "http://a.b/c/d", true),
            ("**/d", "http://a.b/c/d", true),
            ("**", "", true),
            ("*", "", true),
            ("", "x", false),
            ("**/c*?x=*", "http://a.b/cde?x=1", true),
        ] {
            assert_eq!(matches(pattern, url), fits, "{pattern} {url}");
        }
    }
}
