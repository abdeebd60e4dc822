//! I7: what a page can tell our functions from the browser's own by, group by group, against a visit of the same
//! build that nobody watched.

use std::collections::BTreeMap;

use serde_json::Value;

/// Group -> answer.
pub type Answers = BTreeMap<String, String>;

/// What three visits answered: two that nobody watches, of which the second is the control, and a watched one.
#[derive(Clone, Debug)]
pub struct Asked {
    pub vanilla: Answers,
    pub again: Answers,
    pub watched: Answers,
}

/// A group whose answers are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub group: String,
    /// The first line that differs, of the unwatched browser and of ours.
    pub vanilla: String,
    pub watched: String,
}

/// The answers in a page's note.
pub fn answers(note: &Value) -> Answers {
    let groups = note.as_object().into_iter().flatten();
    groups.map(|(group, answer)| (group.clone(), answer.as_str().unwrap_or_default().to_owned())).collect()
}

/// Groups that differ, in order of their names. A group that only one of them has differs.
pub fn differences(vanilla: &Answers, watched: &Answers) -> Vec<Difference> {
    let mut groups: Vec<&String> = vanilla.keys().chain(watched.keys()).collect();
    groups.sort_unstable();
    groups.dedup();
    let empty = String::new();
    let differing = groups.into_iter().filter_map(|group| {
        let (a, b) = (vanilla.get(group).unwrap_or(&empty), watched.get(group).unwrap_or(&empty));
        (a != b).then(|| {
            let (vanilla, watched) = first_difference(a, b);
            Difference { group: group.clone(), vanilla, watched }
        })
    });
    differing.collect()
}

/// Characters of an answer that are shown.
const SHOWN: usize = 200;

fn first_difference(a: &str, b: &str) -> (String, String) {
    let mut lines = (a.lines(), b.lines());
    loop {
        let (a, b) = (lines.0.next(), lines.1.next());
        if a != b || a.is_none() {
            // From a little before the place where they part.
            let (a, b) = (a.unwrap_or("nothing"), b.unwrap_or("nothing"));
            let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count().saturating_sub(60);
            let part = |text: &str| text.chars().skip(common).take(SHOWN).collect();
            return (part(a), part(b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_differ_are_named_with_the_first_line_that_does() {
        let of = |pairs: &[(&str, &str)]| -> Answers {
            pairs.iter().map(|(group, answer)| ((*group).to_owned(), (*answer).to_owned())).collect()
        };
        let vanilla = of(&[("a", "1\n2"), ("b", "x"), ("c", "y")]);
        let watched = of(&[("a", "1\n3"), ("b", "x"), ("d", "z")]);
        let found = differences(&vanilla, &watched);
        let names: Vec<&str> = found.iter().map(|d| d.group.as_str()).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!((found[0].vanilla.as_str(), found[0].watched.as_str()), ("2", "3"));
        assert!(differences(&vanilla, &vanilla).is_empty());
    }
}
