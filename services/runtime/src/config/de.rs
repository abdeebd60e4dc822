//! Decodes a tree into a type, noting the path of an error, and every key that the type does not know.

use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::error::Problem;
use super::join;
use super::suggest::nearest;
use super::tree::{Node, Value};

#[derive(Debug)]
pub(super) struct DecodeError {
    pub message: String,
    pub suggestion: Option<String>,
    path: Option<Vec<String>>,
}

impl DecodeError {
    /// Keys from the section to the field.
    pub fn path(&self) -> &[String] {
        self.path.as_deref().unwrap_or_default()
    }

    /// The first to place an error is the deepest.
    fn located(mut self, path: &[String]) -> Self {
        self.path.get_or_insert_with(|| path.to_vec());
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), suggestion: None, path: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            message: format!("`{variant}` is none of {}", expected.join(", ")),
            suggestion: nearest(variant, expected.iter().copied()),
            path: None,
        }
    }
}

type Decoded<T> = Result<T, DecodeError>;

#[derive(Clone)]
pub(super) struct De<'a> {
    node: &'a Node,
    section: &'a str,
    path: Vec<String>,
    unknown: &'a RefCell<Vec<Problem>>,
}

impl<'a> De<'a> {
    pub fn new(node: &'a Node, section: &'a str, unknown: &'a RefCell<Vec<Problem>>) -> Self {
        Self { node, section, path: Vec::new(), unknown }
    }

    fn child<'b>(&self, key: &str, node: &'b Node) -> De<'b>
    where
        'a: 'b,
    {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        De { node, section: self.section, path, unknown: self.unknown }
    }

    fn located<T>(&self, result: Decoded<T>) -> Decoded<T> {
        result.map_err(|error| error.located(&self.path))
    }

    /// The text of an untyped value, read as TOML where the field wants more than a scalar.
    fn parsed(&self, text: &str) -> Option<Node> {
        let mut table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
        if table.len() > 1 {
            return None;
        }
        Some(Node::plain(&self.node.origin, table.remove("value")?))
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let result = match &self.node.value {
            Value::Table(table) => visitor.visit_map(Table::new(&self, table)),
            Value::Array(items) => visitor.visit_seq(Items { de: &self, items: items.iter().enumerate() }),
            Value::Text(text) => match self.parsed(text) {
                Some(node) => De { node: &node, ..self.clone() }.any(visitor),
                None => visitor.visit_str(text),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
        };
        self.located(result)
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let result = match &self.node.value {
            Value::Text(text) => match (text.trim().parse::<u64>(), text.trim().parse::<i64>()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(DecodeError::invalid_value(de::Unexpected::Str(text), &visitor)),
            },
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            _ => return self.any(visitor),
        };
        self.located(result)
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let result = match &self.node.value {
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(DecodeError::invalid_value(de::Unexpected::Str(text), &visitor)),
            },
            _ => return self.any(visitor),
        };
        self.located(result)
    }

    fn note_unknown(&self, table: &BTreeMap<String, Node>, known: &'static [&'static str]) {
        for (key, node) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let mut path = self.path.clone();
            path.push(key.clone());
            let mut problem = Problem::new(node.origin.clone(), join(self.section, &path), "unknown key");
            problem.suggestion = nearest(key, known.iter().copied())
                .or_else(|| (!known.is_empty()).then(|| format!("one of {}", known.join(", "))));
            let mut unknown = self.unknown.borrow_mut();
            if !unknown.contains(&problem) {
                unknown.push(problem);
            }
        }
    }

    fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) | Value::String(text) => Some(text),
            _ => None,
        }
    }
}

macro_rules! by {
    ($how:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> { self.$how(visitor) })*
    };
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = DecodeError;

    by!(any: deserialize_any deserialize_bytes deserialize_byte_buf deserialize_unit);
    by!(integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    by!(float: deserialize_f32 deserialize_f64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let Value::Text(text) = &self.node.value else { return self.any(visitor) };
        let result = match text.trim().to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => visitor.visit_bool(true),
            "false" | "0" | "no" | "off" => visitor.visit_bool(false),
            _ => Err(DecodeError::invalid_value(de::Unexpected::Str(text), &"true or false")),
        };
        self.located(result)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match self.text() {
            Some(text) => self.located(visitor.visit_str(text)),
            None => self.any(visitor),
        }
    }

    by!(deserialize_str: deserialize_string deserialize_char deserialize_identifier);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        // An empty variable unsets: there is no other way to say so in an environment.
        if matches!(&self.node.value, Value::Text(text) if text.is_empty()) {
            return visitor.visit_none();
        }
        let path = self.path.clone();
        visitor.visit_some(self).map_err(|error: DecodeError| error.located(&path))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Decoded<V::Value> {
        self.any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Decoded<V::Value> {
        let path = self.path.clone();
        visitor.visit_newtype_struct(self).map_err(|error: DecodeError| error.located(&path))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let Value::Text(text) = &self.node.value else { return self.any(visitor) };
        if text.trim_start().starts_with('[') {
            return self.any(visitor);
        }
        let items: Vec<Node> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Node::text(self.node.origin.clone(), item.to_owned()))
            .collect();
        self.located(visitor.visit_seq(Items { de: &self, items: items.iter().enumerate() }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Decoded<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_seq(visitor)
    }

    by!(any: deserialize_map);

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        match &self.node.value {
            Value::Table(table) => {
                self.note_unknown(table, fields);
                let known = Table::only(&self, table, fields);
                self.located(visitor.visit_map(known))
            }
            Value::Text(text) => match self.parsed(text) {
                Some(node @ Node { value: Value::Table(_), .. }) => {
                    De { node: &node, ..self.clone() }.deserialize_struct(name, fields, visitor)
                }
                _ => self.any(visitor),
            },
            _ => self.any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        if let Value::Text(text) = &self.node.value
            && text.trim_start().starts_with('{')
            && let Some(node) = self.parsed(text)
        {
            return De { node: &node, ..self.clone() }.deserialize_enum(name, variants, visitor);
        }
        let result = match (&self.node.value, self.text()) {
            (_, Some(text)) => visitor.visit_enum(text.into_deserializer()),
            (Value::Table(table), _) if table.len() == 1 => visitor.visit_enum(Variant { de: &self, table }),
            (Value::Table(_), _) => Err(DecodeError::custom(format!("give one of {}", variants.join(", ")))),
            _ => return self.any(visitor),
        };
        self.located(result)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_unit()
    }
}

struct Table<'b> {
    de: &'b De<'b>,
    entries: btree_map::Iter<'b, String, Node>,
    known: Option<&'static [&'static str]>,
    next: Option<(&'b str, &'b Node)>,
}

impl<'b> Table<'b> {
    fn new(de: &'b De<'b>, table: &'b BTreeMap<String, Node>) -> Self {
        Self { de, entries: table.iter(), known: None, next: None }
    }

    fn only(de: &'b De<'b>, table: &'b BTreeMap<String, Node>, known: &'static [&'static str]) -> Self {
        Self { known: Some(known), ..Self::new(de, table) }
    }
}

impl<'de> MapAccess<'de> for Table<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Decoded<Option<K::Value>> {
        let known = self.known;
        let wanted = |key: &str| known.is_none_or(|known| known.contains(&key));
        let Some((key, node)) = self.entries.by_ref().find(|(key, _)| wanted(key)) else { return Ok(None) };
        self.next = Some((key, node));
        let key_de: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
        let child = self.de.child(key, node);
        child.located(seed.deserialize(key_de)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Decoded<V::Value> {
        let (key, node) =
            self.next.take().ok_or_else(|| DecodeError::custom("a value was asked for before its key"))?;
        let child = self.de.child(key, node);
        let path = child.path.clone();
        seed.deserialize(child).map_err(|error| error.located(&path))
    }
}

struct Items<'b, I> {
    de: &'b De<'b>,
    items: I,
}

impl<'de, 'b, I: Iterator<Item = (usize, &'b Node)>> SeqAccess<'de> for Items<'b, I> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Decoded<Option<T::Value>> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let child = self.de.child(&index.to_string(), node);
        let path = child.path.clone();
        seed.deserialize(child).map(Some).map_err(|error| error.located(&path))
    }
}

struct Variant<'b> {
    de: &'b De<'b>,
    table: &'b BTreeMap<String, Node>,
}

impl<'de, 'b> EnumAccess<'de> for Variant<'b> {
    type Error = DecodeError;
    type Variant = Content<'b>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Decoded<(V::Value, Content<'b>)> {
        let (key, node) =
            self.table.iter().next().ok_or_else(|| DecodeError::custom("an empty table names no variant"))?;
        let content = Content(self.de.child(key, node));
        let key_de: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
        Ok((content.0.located(seed.deserialize(key_de))?, content))
    }
}

struct Content<'b>(De<'b>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Decoded<()> {
        self.0.located(Err(DecodeError::custom("this variant takes no value; write its name as a string")))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Decoded<T::Value> {
        let path = self.0.path.clone();
        seed.deserialize(self.0).map_err(|error| error.located(&path))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Decoded<V::Value> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
