//! The file names of hooks: `on_<Event>__<NN>_<name>[.finite|.daemon][.bg].<suffix>`, in all their generations.

use std::cmp::Ordering;

/// What a hook is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Resolves or installs a program: `on_BinaryRequest__`, and `on_Binary__` of old.
    Binary,
    /// `on_Install__`.
    Install,
    /// Before the snapshots of a crawl: `on_CrawlSetup__`, and `on_Crawl__` of old.
    Crawl,
    /// Once a page: `on_Snapshot__`.
    Snapshot,
    /// After them: `on_CrawlCleanup__`.
    CrawlCleanup,
}

const FAMILIES: [(&str, Family); 7] = [
    ("Binary", Family::Binary),
    ("BinaryRequest", Family::Binary),
    ("Install", Family::Install),
    ("Crawl", Family::Crawl),
    ("CrawlSetup", Family::Crawl),
    ("Snapshot", Family::Snapshot),
    ("CrawlCleanup", Family::CrawlCleanup),
];

/// How a hook relates to those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// The next one waits for its end.
    No,
    /// Runs beside the others and ends by itself: `.finite.bg.`
    Finite,
    /// Runs beside the others until the snapshot or the crawl ends: `.daemon.bg.`
    Daemon,
    /// `.bg.` alone, or `__background`: either of the two.
    Unsaid,
}

/// The time a set of hooks was written for. It decides whether a background hook says when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `on_Crawl__`, `on_Binary__`: started by suffix; no readiness.
    A,
    /// `on_BinaryRequest__`: as A.
    B,
    /// Programs are declared in config.json; the first line of a background hook's output says it is ready.
    C,
}

impl Generation {
    /// Of all hooks of the configured directories together: the events they name tell.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a HookName>) -> Self {
        names.into_iter().fold(Self::C, |found, name| match (found, name.event.as_str()) {
            (_, "Crawl" | "Binary") | (Self::A, _) => Self::A,
            (_, "BinaryRequest" | "Install" | "CrawlCleanup") | (Self::B, _) => Self::B,
            (Self::C, _) => Self::C,
        })
    }
}

/// A parsed file name. Sorts in the order of running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookName {
    /// The whole file name.
    pub file: String,
    /// The event as written.
    pub event: String,
    pub family: Family,
    /// The number as an integer; `None` where there is none.
    pub number: Option<u32>,
    /// First digit of the number; 9 where there is none.
    pub step: u8,
    pub name: String,
    pub background: Background,
    /// Without the dot; "" where there is none.
    pub suffix: String,
}

/// Why a file that begins as hooks do is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{file}: no hook is run for {event:?}; known are {}", FAMILIES.map(|f| f.0).join(", "))]
    Event { file: String, event: String },
    #[error("{0}: a hook is named on_<Event>__<NN>_<name>[.bg].<suffix>")]
    Form(String),
}

impl HookName {
    /// `None`: not a hook at all (a file that does not begin with `on_`, or a left-over of an editor).
    pub fn parse(file: &str) -> Option<Result<Self, NameError>> {
        let rest = file.strip_prefix("on_")?;
        if file.ends_with('~') || file.ends_with(".pyc") || file.ends_with(".swp") {
            return None;
        }
        Some(Self::of(file, rest))
    }

    fn of(file: &str, rest: &str) -> Result<Self, NameError> {
        let form = || NameError::Form(file.to_owned());
        let (event, rest) = rest.split_once("__").ok_or_else(form)?;
        let family = FAMILIES.iter().find(|f| f.0 == event).map(|f| f.1);
        let family =
            family.ok_or_else(|| NameError::Event { file: file.to_owned(), event: event.to_owned() })?;
        let mut parts: Vec<&str> = rest.split('.').collect();
        let suffix = if parts.len() > 1 { parts.pop().unwrap_or_default() } else { "" };
        let mut background = Background::No;
        if parts.len() > 1 && parts.last() == Some(&"bg") {
            parts.pop();
            background = match parts.last() {
                Some(&"finite") if parts.len() > 1 => Background::Finite,
                Some(&"daemon") if parts.len() > 1 => Background::Daemon,
                _ => Background::Unsaid,
            };
            if background != Background::Unsaid {
                parts.pop();
            }
        }
        let mut stem = parts.join(".");
        if let Some(short) = stem.strip_suffix("__background") {
            background = Background::Unsaid;
            stem = short.to_owned();
        }
        let digits = stem.len() - stem.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let numbered = digits > 0 && stem[digits..].starts_with('_');
        let number = if numbered { Some(stem[..digits].parse().map_err(|_| form())?) } else { None };
        let step = if numbered { stem.as_bytes()[0] - b'0' } else { 9 };
        let name = if numbered { stem[digits + 1..].to_owned() } else { stem };
        if name.is_empty() {
            return Err(form());
        }
        let (file, event, suffix) = (file.to_owned(), event.to_owned(), suffix.to_owned());
        Ok(Self { file, event, family, number, step, name, background, suffix })
    }

    pub fn is_background(&self) -> bool {
        self.background != Background::No
    }
}

impl Ord for HookName {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |h: &Self| (h.family, h.number.unwrap_or(0));
        key(self).cmp(&key(other)).then_with(|| self.file.cmp(&other.file))
    }
}

impl PartialOrd for HookName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(file: &str) -> HookName {
        HookName::parse(file).unwrap().unwrap()
    }

    /// A23: three generations.
    #[test]
    fn names_of_all_generations_are_read() {
        let a = name("on_Crawl__01_chrome.js");
        assert_eq!((a.family, a.number, a.step, a.name.as_str()), (Family::Crawl, Some(1), 0, "chrome"));
        assert_eq!((a.background, a.suffix.as_str()), (Background::No, "js"));
        let a = name("on_Snapshot__63_ytdlp.bg.py");
        assert_eq!((a.step, a.background), (6, Background::Unsaid));
        let b = name("on_Snapshot__06_wget.finite.bg.py");
        assert_eq!((b.number, b.name.as_str(), b.background), (Some(6), "wget", Background::Finite));
        let b = name("on_CrawlSetup__90_chrome_launch.daemon.bg.js");
        assert_eq!((b.name.as_str(), b.background), ("chrome_launch", Background::Daemon));
        assert_eq!(name("on_Snapshot__20_x__background.sh").background, Background::Unsaid);
        assert_eq!(name("on_BinaryRequest__00_env.py").family, Family::Binary);
        assert_eq!(name("on_Binary__10_pip.py").family, Family::Binary);
    }

    /// A24: a hook without a number runs in step 9.
    #[test]
    fn a_name_without_a_number_is_of_the_last_step() {
        let hook = name("on_Snapshot__title.js");
        assert_eq!((hook.number, hook.step, hook.name.as_str()), (None, 9, "title"));
        assert_eq!(name("on_Snapshot__7z.sh").name, "7z");
    }

    #[test]
    fn other_files_are_no_hooks_and_bad_names_say_why() {
        for file in ["config.json", "on_Snapshot__10_a.py~", "utils.py", "on_Snapshot__10_a.cpython-311.pyc"]
        {
            assert!(HookName::parse(file).is_none(), "{file}");
        }
        assert!(matches!(HookName::parse("on_Party__10_a.py"), Some(Err(NameError::Event { .. }))));
        assert!(matches!(HookName::parse("on_Snapshot_10_a.py"), Some(Err(NameError::Form(_)))));
        assert!(matches!(HookName::parse("on_Snapshot__10_.py"), Some(Err(NameError::Form(_)))));
        assert!(matches!(HookName::parse("on_Snapshot__99999999999_a.py"), Some(Err(NameError::Form(_)))));
    }

    #[test]
    fn order_is_by_number_then_name() {
        let mut all =
            ["on_Snapshot__30_b.js", "on_Snapshot__9_z.py", "on_Snapshot__30_a.js", "on_Crawl__95_c.py"]
                .map(name);
        all.sort();
        let files = all.map(|h| h.file);
        assert_eq!(
            files,
            ["on_Crawl__95_c.py", "on_Snapshot__9_z.py", "on_Snapshot__30_a.js", "on_Snapshot__30_b.js"]
        );
    }

    #[test]
    fn events_tell_the_generation() {
        let of = |files: &[&str]| Generation::of(&files.iter().map(|f| name(f)).collect::<Vec<_>>());
        assert_eq!(of(&["on_Crawl__01_a.py", "on_BinaryRequest__00_b.py"]), Generation::A);
        assert_eq!(of(&["on_BinaryRequest__00_b.py", "on_Snapshot__01_a.finite.bg.py"]), Generation::B);
        assert_eq!(of(&["on_CrawlSetup__90_a.bg.js", "on_Snapshot__01_a.finite.bg.py"]), Generation::C);
    }
}
