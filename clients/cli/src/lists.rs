//! Site lists: plain lines, Tranco CSV (`rank,domain`), JSONL; from files,
//! standard input and the command line. Wrong lines are kept with their place,
//! and the rest runs (M46).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sonde_proto::validate_url;

use crate::exit::CliError;

/// A site of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// URL or bare host name.
    pub url: String,
    /// Rank, where the list has one.
    pub rank: Option<i64>,
}

/// A line that is no site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// List and line, as `sites.csv:3`.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

/// Most bytes of one line.
const MAX_LINE: usize = 64 * 1024;

/// Everything the user listed; can be read again and again, so that a list of a
/// million sites is never in memory.
#[derive(Debug, Default)]
pub struct Lists {
    urls: Vec<String>,
    files: Vec<(String, File)>,
    limit: u64,
}

impl Lists {
    /// Opens the lists; standard input is spooled to an unnamed file, since it
    /// has to be read twice (its hash names the crawl).
    pub fn open(urls: &[String], lists: &[PathBuf], limit: Option<u64>) -> Result<Self, CliError> {
        let mut opened = Self { limit: limit.unwrap_or(u64::MAX), ..Self::default() };
        let mut stdin = false;
        for url in urls {
            match url.as_str() {
                "-" => stdin = true,
                path if !path.contains("://") && Path::new(path).is_file() => {
                    return Err(CliError::Input(format!("{path} is a file: give it as --list {path}")));
                }
                _ => opened.urls.push(url.clone()),
            }
        }
        for path in lists {
            if path.as_os_str() == "-" {
                stdin = true;
                continue;
            }
            let file = File::open(path).map_err(|e| {
                CliError::Input(format!("the site list {} cannot be read: {e}", path.display()))
            })?;
            opened.files.push((path.display().to_string(), file));
        }
        if stdin {
            let spooled = spool(&mut io::stdin().lock())
                .map_err(|e| CliError::Input(format!("standard input cannot be read: {e}")))?;
            opened.files.push(("standard input".to_owned(), spooled));
        }
        if opened.urls.is_empty() && opened.files.is_empty() {
            return Err(CliError::Input(
                "nothing to visit: give URLs, --list FILE, or - for standard input (sonde crawl --help)"
                    .to_owned(),
            ));
        }
        Ok(opened)
    }

    /// Reads all sites in order, up to the limit, numbered from 1.
    pub fn for_each(
        &mut self,
        mut each: impl FnMut(i64, Result<Site, BadLine>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut number = 0;
        for url in &self.urls {
            if number as u64 >= self.limit {
                return Ok(());
            }
            number += 1;
            each(number, site(url, None, || format!("argument {url:?}")))?;
        }
        for (name, file) in &mut self.files {
            let failed = |e: io::Error| CliError::Input(format!("the site list {name} cannot be read: {e}"));
            file.rewind().map_err(failed)?;
            let mut reader = BufReader::new(&mut *file);
            let mut line = Vec::new();
            for line_no in 1.. {
                line.clear();
                if reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                    break;
                }
                let place = || format!("{name}:{line_no}");
                let Some(parsed) = parse_line(&line, place) else { continue };
                if number as u64 >= self.limit {
                    return Ok(());
                }
                number += 1;
                each(number, parsed)?;
            }
        }
        Ok(())
    }
}

fn spool(input: &mut impl Read) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("sonde-list-{}", uuid::Uuid::new_v4()));
    let mut file = File::options().create_new(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    io::copy(input, &mut file)?;
    file.flush()?;
    Ok(file)
}

/// One line; `None` for blank lines, comments and a CSV header.
fn parse_line(line: &[u8], place: impl Fn() -> String) -> Option<Result<Site, BadLine>> {
    let bad = |message: String| Some(Err(BadLine { place: place(), message }));
    if line.len() >= MAX_LINE {
        return bad(format!("is longer than {MAX_LINE} bytes"));
    }
    let Ok(text) = std::str::from_utf8(line) else { return bad("is not UTF-8".to_owned()) };
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() || text.starts_with('#') || text.eq_ignore_ascii_case("rank,domain") {
        return None;
    }
    if text.starts_with('{') {
        #[derive(serde::Deserialize)]
        struct Line {
            url: String,
            #[serde(default)]
            rank: Option<i64>,
        }
        return match serde_json::from_str::<Line>(text) {
            Ok(line) => Some(site(&line.url, line.rank, place)),
            Err(e) => bad(format!("is no JSON object with \"url\" (and \"rank\"): {e}")),
        };
    }
    match text.split_once(',') {
        Some((rank, domain)) if !rank.is_empty() && rank.bytes().all(|b| b.is_ascii_digit()) => {
            match rank.parse() {
                Ok(rank) => Some(site(domain.trim().trim_matches('"'), Some(rank), place)),
                Err(_) => bad(format!("rank {rank} is too large")),
            }
        }
        _ => Some(site(text, None, place)),
    }
}

fn site(url: &str, rank: Option<i64>, place: impl Fn() -> String) -> Result<Site, BadLine> {
    match validate_url(url) {
        Ok(()) => Ok(Site { url: url.to_owned(), rank }),
        Err(message) => Err(BadLine { place: place(), message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<Site, BadLine>> {
        parse_line(text.as_bytes(), || "list:7".to_owned())
    }

    /// M46
    #[test]
    fn every_kind_of_line_is_read() {
        let site = |url: &str, rank| Some(Ok(Site { url: url.to_owned(), rank }));
        assert_eq!(parse("12,example.org\r\n"), site("example.org", Some(12)));
        assert_eq!(parse("https://a.b/c,d"), site("https://a.b/c,d", None));
        assert_eq!(parse("{\"url\":\"a.org\",\"rank\":3}"), site("a.org", Some(3)));
        assert_eq!(parse("\u{feff}a.org"), site("a.org", None));
        for nothing in ["", "  \n", "# comment", "rank,domain"] {
            assert_eq!(parse(nothing), None);
        }
    }

    /// M46
    #[test]
    fn wrong_lines_are_named_with_their_place() {
        for wrong in ["ftp://x", "a b", "{\"rank\":1}", "99999999999999999999,a.org"] {
            let bad = parse(wrong).expect("a line").expect_err("refused");
            assert_eq!(bad.place, "list:7");
        }
        assert!(parse_line(&[0xff, 0xfe], String::new).expect("a line").is_err());
    }

    #[test]
    fn lists_are_numbered_on_over_all_sources_and_limited() {
        let dir = std::env::temp_dir().join(format!("sonde-lists-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        let path = dir.join("list.csv");
        std::fs::write(&path, "1,b.org\n\nbad url\n2,c.org\n").expect("a list");
        let mut lists = Lists::open(&["a.org".to_owned()], &[path], Some(3)).expect("lists");
        for _ in 0..2 {
            let mut seen = Vec::new();
            lists
                .for_each(|n, line| {
                    seen.push((
                        n,
                        line.map(|s| s.url).map_err(|b| b.place.rsplit('/').next().map(str::to_owned)),
                    ));
                    Ok(())
                })
                .expect("read");
            assert_eq!(
                seen,
                [
                    (1, Ok("a.org".to_owned())),
                    (2, Ok("b.org".to_owned())),
                    (3, Err(Some("list.csv:3".to_owned())))
                ]
            );
        }
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
