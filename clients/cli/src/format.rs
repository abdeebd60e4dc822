//! How numbers, times and texts from outside are shown.

use std::time::Duration;

/// `1.2s`, `3m 05s`, `2h 01m`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A proto duration as a std one; negative ones are zero.
pub fn std_duration(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|d| Duration::try_from(d).ok()).unwrap_or_default()
}

/// Text that came from a page or a list, safe for a terminal and cut to `width` characters.
pub fn shown(text: &str, width: usize) -> String {
    let mut clean: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(width + 1).collect();
    if clean.chars().count() > width {
        clean = clean.chars().take(width.saturating_sub(1)).chain(['…']).collect();
    }
    clean
}

/// A number with its noun: `1 visit`, `2 visits`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I9: recorded strings never act on the terminal.
    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb", 80), "a\u{fffd}[2Jb");
        assert_eq!(shown("abcdef", 4), "abc…");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span(Duration::from_millis(1240)), "1.2s");
        assert_eq!(span(Duration::from_secs(185)), "3m 05s");
        assert_eq!(span(Duration::from_secs(7260)), "2h 01m");
    }
}
