//! The merged configuration before it is decoded: TOML values, each with its origin.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin, Problem};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub origin: Origin,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    /// From the environment or a flag: its type is what the field asks for.
    Text(String),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

impl Node {
    pub fn text(origin: Origin, text: String) -> Self {
        Self { origin, value: Value::Text(text) }
    }

    pub fn from_default(value: toml::Value) -> Self {
        Self::plain(&Origin::Default, value)
    }

    /// A value that is all from one place.
    pub fn plain(origin: &Origin, value: toml::Value) -> Self {
        let value = match value {
            toml::Value::Table(table) => Value::Table(
                table.into_iter().map(|(key, value)| (key, Self::plain(origin, value))).collect(),
            ),
            toml::Value::Array(items) => {
                Value::Array(items.into_iter().map(|value| Self::plain(origin, value)).collect())
            }
            toml::Value::String(text) => Value::String(text),
            toml::Value::Integer(number) => Value::Integer(number),
            toml::Value::Float(number) => Value::Float(number),
            toml::Value::Boolean(truth) => Value::Boolean(truth),
            toml::Value::Datetime(time) => Value::String(time.to_string()),
        };
        Self { origin: origin.clone(), value }
    }

    /// Lays `over` on this: tables are joined key by key, everything else is replaced.
    pub fn merge(&mut self, over: Node) {
        self.origin = over.origin;
        match (&mut self.value, over.value) {
            (Value::Table(mine), Value::Table(theirs)) => {
                for (key, node) in theirs {
                    match mine.get_mut(&key) {
                        Some(under) => under.merge(node),
                        None => drop(mine.insert(key, node)),
                    }
                }
            }
            (mine, theirs) => *mine = theirs,
        }
    }

    pub fn insert(&mut self, path: &[String], node: Node) {
        let over = path.iter().rev().fold(node, |inner, key| Node {
            origin: inner.origin.clone(),
            value: Value::Table(BTreeMap::from([(key.clone(), inner)])),
        });
        self.merge(over);
    }

    fn child(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(table) => table.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The origin of the deepest node on `path` that exists.
    pub fn origin_at(&self, path: &[String]) -> &Origin {
        let mut node = self;
        for key in path {
            match node.child(key) {
                Some(child) => node = child,
                None => break,
            }
        }
        &node.origin
    }

    /// Replaces what is at `path` by its default, or removes it if it has none (an array item goes with its whole
    /// array). False if nothing could change, so that the same error would come again.
    pub fn put_back(&mut self, path: &[String], defaults: &Node) -> bool {
        if path.is_empty() {
            if self.origin == Origin::Default {
                return false;
            }
            *self = defaults.clone();
            return true;
        }
        let mut node = self;
        let mut default = Some(defaults);
        for (depth, key) in path.iter().enumerate() {
            default = default.and_then(|node| node.child(key));
            let Value::Table(table) = &mut node.value else { return false };
            let Some(child) = table.get_mut(key) else { return false };
            let last = depth + 1 == path.len() || !matches!(child.value, Value::Table(_));
            if last {
                if child.origin == Origin::Default {
                    return false;
                }
                match default {
                    Some(default) => *child = default.clone(),
                    None => drop(table.remove(key)),
                }
                return true;
            }
            node = table.get_mut(key).expect("it was found two lines above");
        }
        false
    }

    /// Dotted path to origin, for every node that is no table (an empty table counts too).
    pub fn origins(&self) -> BTreeMap<String, Origin> {
        let mut found = BTreeMap::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect(&self, path: String, found: &mut BTreeMap<String, Origin>) {
        match &self.value {
            Value::Table(table) if !table.is_empty() => {
                for (key, node) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    node.collect(path, found);
                }
            }
            _ => drop(found.insert(path, self.origin.clone())),
        }
    }
}

/// Reads a file, keeping the line and column of every value.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Node, ConfigError> {
    let source = Source { path: path.into(), text };
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let problems = errors
        .iter()
        .map(|error| {
            let start = error.span().map_or(0, |span| span.start);
            Problem::new(source.at(start), "", error.message().replace('\n', "; "))
        })
        .collect();
    ConfigError::unless_empty(problems)?;
    let start = source.at(0);
    source.table(table.get_ref(), start)
}

struct Source<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl Source<'_> {
    fn at(&self, offset: usize) -> Origin {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Origin::File {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>, origin: Origin) -> Result<Node, ConfigError> {
        let mut nodes = BTreeMap::new();
        for (key, value) in table {
            // The key's place, not the value's: that is where the reader looks, and a `[section]` has no other.
            let origin = self.at(key.span().start);
            nodes.insert(key.get_ref().to_string(), self.node(value, origin)?);
        }
        Ok(Node { origin, value: Value::Table(nodes) })
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, origin: Origin) -> Result<Node, ConfigError> {
        let unfit = |what: &str| ConfigError::one(Problem::new(origin.clone(), "", what));
        let value = match value.get_ref() {
            DeValue::Table(table) => return self.table(table, origin),
            DeValue::Array(items) => {
                let nodes = items.iter().map(|item| self.node(item, self.at(item.span().start)));
                Value::Array(nodes.collect::<Result<_, _>>()?)
            }
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => Value::Integer(
                i64::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| unfit("an integer has at most 64 bits"))?,
            ),
            DeValue::Float(number) => {
                Value::Float(number.as_str().parse().map_err(|_| unfit("this is no floating-point number"))?)
            }
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(time) => Value::String(time.to_string()),
        };
        Ok(Node { origin, value })
    }
}
