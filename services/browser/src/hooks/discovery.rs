//! Plugins in the directories that the operator configured. No request ever names one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::names::HookName;
use super::schema::{Schema, SchemaError};

/// Plugins in one directory; beyond it the directory is not one of plugins.
const MAX_PLUGINS: usize = 1000;
/// Bytes of a config.json.
const MAX_CONFIG: u64 = 1 << 20;

/// One hook: its name, and its file with all links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFile {
    pub name: HookName,
    pub path: PathBuf,
}

/// One plugin: a directory with hooks, a config.json, or both.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The directory's name.
    pub name: String,
    pub dir: PathBuf,
    pub schema: Schema,
    /// In the order of running.
    pub hooks: Vec<HookFile>,
}

/// Something that is not taken, and why.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{path:?} may be written by every user, who could put any program there; chmod o-w {path:?}")]
    WorldWritable { path: PathBuf },
    #[error("{path:?} is a link to {target:?}, outside of {root:?}; put the file itself there")]
    Escapes { path: PathBuf, target: PathBuf, root: PathBuf },
    #[error("{path:?} cannot be read: {source}; check its path and rights in [hooks] dirs")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path:?} holds more than {MAX_PLUGINS} directories; name the directory of the plugins itself")]
    TooMany { path: PathBuf },
    #[error("{0}")]
    Name(#[from] super::names::NameError),
    #[error("{path:?}: {source}")]
    Schema { path: PathBuf, source: SchemaError },
    #[error("plugin {name} is also in {first:?}, which comes first; {second:?} is left out")]
    Twice { name: String, first: PathBuf, second: PathBuf },
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Found {
    /// By name.
    pub plugins: Vec<Plugin>,
    pub refused: Vec<Refusal>,
}

impl Found {
    pub fn plugin(&self, name: &str) -> Option<&Plugin> {
        self.plugins.iter().find(|p| p.name == name)
    }
}

/// Looks through directories of plugins. What cannot be taken is in `refused`; the rest is still there.
pub fn discover(dirs: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for dir in dirs {
        if let Err(refusal) = look(dir, &mut found) {
            found.refused.push(refusal);
        }
    }
    found.plugins.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn look(dir: &Path, found: &mut Found) -> Result<(), Refusal> {
    let root = dir.canonicalize().map_err(|source| Refusal::Read { path: dir.to_owned(), source })?;
    not_for_everyone(&root)?;
    let mut entries = list(&root)?;
    if entries.len() > MAX_PLUGINS {
        return Err(Refusal::TooMany { path: root });
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.is_dir() {
            continue;
        }
        match plugin(&root, &path, &mut found.refused) {
            Ok(None) => {}
            Ok(Some(plugin)) => match found.plugin(&plugin.name) {
                None => found.plugins.push(plugin),
                Some(first) => {
                    let (name, first) = (plugin.name, first.dir.clone());
                    found.refused.push(Refusal::Twice { name, first, second: plugin.dir });
                }
            },
            Err(refusal) => found.refused.push(refusal),
        }
    }
    Ok(())
}

fn plugin(root: &Path, path: &Path, refused: &mut Vec<Refusal>) -> Result<Option<Plugin>, Refusal> {
    let dir = inside(root, path)?;
    not_for_everyone(&dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let config = dir.join("config.json");
    let schema = if config.exists() { read_schema(root, &config)? } else { Schema::default() };
    let has_config = config.exists();
    let mut hooks = Vec::new();
    for file in list(&dir)? {
        let Some(parsed) = HookName::parse(&file.file_name().unwrap_or_default().to_string_lossy()) else {
            continue;
        };
        let hook = parsed.map_err(Refusal::from).and_then(|name| {
            let path = inside(root, &file)?;
            not_for_everyone(&path)?;
            Ok(HookFile { name, path })
        });
        match hook {
            Ok(hook) => hooks.push(hook),
            Err(refusal) => refused.push(refusal),
        }
    }
    hooks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((has_config || !hooks.is_empty()).then_some(Plugin { name, dir, schema, hooks }))
}

fn read_schema(root: &Path, config: &Path) -> Result<Schema, Refusal> {
    let path = inside(root, config)?;
    not_for_everyone(&path)?;
    let read = |source| Refusal::Read { path: path.clone(), source };
    if fs::metadata(&path).map_err(read)?.len() > MAX_CONFIG {
        let source = io::Error::other(format!("longer than {MAX_CONFIG} bytes"));
        return Err(Refusal::Read { path, source });
    }
    let text = fs::read_to_string(&path).map_err(read)?;
    Schema::parse(&text).map_err(|source| Refusal::Schema { path, source })
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let read = |source| Refusal::Read { path: dir.to_owned(), source };
    fs::read_dir(dir).map_err(read)?.map(|e| e.map(|e| e.path()).map_err(read)).collect()
}

/// The file with its links followed, if that is in the directory of plugins.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, Refusal> {
    let target = path.canonicalize().map_err(|source| Refusal::Read { path: path.to_owned(), source })?;
    if target.starts_with(root) {
        return Ok(target);
    }
    Err(Refusal::Escapes { path: path.to_owned(), target, root: root.to_owned() })
}

fn not_for_everyone(path: &Path) -> Result<(), Refusal> {
    let meta = fs::metadata(path).map_err(|source| Refusal::Read { path: path.to_owned(), source })?;
    if meta.permissions().mode() & 0o002 != 0 {
        return Err(Refusal::WorldWritable { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) -> PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A23
    #[test]
    fn plugins_and_hooks_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "b/on_Snapshot__50_b.py", "");
        put(dir.path(), "b/on_Snapshot__5_first.py", "");
        put(dir.path(), "b/templates/card.html", "");
        put(dir.path(), "a/config.json", r#"{"properties":{"A_ENABLED":{"type":"boolean","default":true}}}"#);
        put(dir.path(), "nothing/README", "");
        put(dir.path(), ".git/on_Snapshot__50_c.py", "");
        let found = discover(&[dir.path().to_owned()]);
        assert!(found.refused.is_empty(), "{:?}", found.refused);
        let names: Vec<_> = found.plugins.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let hooks: Vec<_> = found.plugins[1].hooks.iter().map(|h| h.name.file.as_str()).collect();
        assert_eq!(hooks, ["on_Snapshot__5_first.py", "on_Snapshot__50_b.py"]);
    }

    /// S8: what others can write, or what leads elsewhere, is not run; the rest is.
    #[test]
    fn links_that_escape_and_files_for_everyone_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let evil = put(outside.path(), "on_Snapshot__50_evil.sh", "");
        put(dir.path(), "good/on_Snapshot__10_good.sh", "");
        std::os::unix::fs::symlink(
            "on_Snapshot__10_good.sh",
            dir.path().join("good/on_Snapshot__11_again.sh"),
        )
        .unwrap();
        std::os::unix::fs::symlink(&evil, dir.path().join("good/on_Snapshot__12_evil.sh")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("linked")).unwrap();
        let open = put(dir.path(), "open/on_Snapshot__13_open.sh", "");
        fs::set_permissions(open.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        let found = discover(&[dir.path().to_owned()]);
        assert_eq!(found.plugins.len(), 1);
        assert_eq!(found.plugins[0].hooks.len(), 2);
        let said: Vec<_> = found.refused.iter().map(ToString::to_string).collect();
        assert_eq!(found.refused.len(), 3, "{said:?}");
        assert!(said.iter().any(|s| s.contains("chmod o-w")), "{said:?}");
        assert_eq!(said.iter().filter(|s| s.contains("outside of")).count(), 2, "{said:?}");
    }

    #[test]
    fn directories_that_are_gone_or_for_everyone_and_second_plugins_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let again = tempfile::tempdir().unwrap();
        put(dir.path(), "a/on_Snapshot__10_a.sh", "");
        put(again.path(), "a/on_Snapshot__10_a.sh", "");
        let found = discover(&[dir.path().to_owned(), again.path().to_owned(), dir.path().join("gone")]);
        assert_eq!(found.plugins.len(), 1);
        assert!(matches!(&found.refused[..], [Refusal::Twice { .. }, Refusal::Read { .. }]));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let found = discover(&[dir.path().to_owned()]);
        assert!(found.plugins.is_empty());
        assert!(matches!(&found.refused[..], [Refusal::WorldWritable { .. }]));
    }
}
