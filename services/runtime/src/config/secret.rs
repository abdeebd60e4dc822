use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MAX_BYTES: u64 = 64 * 1024;

/// A reference to a secret, `{ file = "/run/secrets/token" }` or `{ env = "TOKEN" }`; never the secret itself, so that
/// it may be printed, logged and stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Env(String),
    Literal(String),
}

/// The secret itself; shown by nothing but [`Revealed::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the secret file {path} cannot be read: {source}; create it, readable by this user only")]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "the secret file {path} is larger than {MAX_BYTES} bytes; give a file that holds the secret only"
    )]
    TooLarge { path: PathBuf },
    #[error("the environment variable {name}, which should hold a secret, is not set (or not UTF-8)")]
    Env { name: String },
    #[error("the secret from {from} is empty")]
    Empty { from: String },
}

impl Secret {
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    pub fn env(name: impl Into<String>) -> Self {
        Self(Source::Env(name.into()))
    }

    /// A secret made by this process (a session's token); it cannot come from a configuration.
    pub fn literal(value: impl Into<String>) -> Self {
        Self(Source::Literal(value.into()))
    }

    /// Reads the secret now, without the end-of-line that an editor left. Reading late lets it be rotated.
    ///
    /// # Errors
    /// If the file or variable is missing, empty or too large; the error never holds the secret.
    pub fn reveal(&self) -> Result<Revealed, SecretError> {
        let text = match &self.0 {
            Source::Literal(value) => value.clone(),
            Source::Env(name) => std::env::var(name).map_err(|_| SecretError::Env { name: name.clone() })?,
            Source::File(path) => {
                let failed = |source| SecretError::File { path: path.clone(), source };
                let mut text = String::new();
                let file = std::fs::File::open(path).map_err(failed)?;
                file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
                if text.len() as u64 > MAX_BYTES {
                    return Err(SecretError::TooLarge { path: path.clone() });
                }
                text
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            Err(SecretError::Empty { from: self.to_string() })
        } else {
            Ok(Revealed(text.to_owned()))
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Env(name) => write!(f, "env {name}"),
            Source::Literal(_) => f.write_str("<redacted>"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match &self.0 {
            Source::File(path) => map.serialize_entry("file", path)?,
            Source::Env(name) => map.serialize_entry("env", name)?,
            Source::Literal(_) => map.serialize_entry("literal", "<redacted>")?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Secret", &["file", "env"], Reference)
    }
}

struct Reference;

impl<'de> de::Visitor<'de> for Reference {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reference to a secret: { file = \"/path\" } or { env = \"NAME\" }")
    }

    /// Without the text: someone put the secret itself here.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
        Err(E::custom(
            "a secret is not written here but referred to: { file = \"/path\" } or { env = \"NAME\" }",
        ))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            found.push(match key.as_str() {
                "file" => Secret::file(map.next_value::<PathBuf>()?),
                "env" => Secret::env(map.next_value::<String>()?),
                other => return Err(de::Error::unknown_field(other, &["file", "env"])),
            });
        }
        match (found.pop(), found.is_empty()) {
            (Some(secret), true) => Ok(secret),
            _ => {
                Err(de::Error::custom("give either { file = \"/path\" } or { env = \"NAME\" }, and not both"))
            }
        }
    }
}
