//! Values of expressions, and how GitHub converts and compares them.

use super::{fold, number};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// A value.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing; also what a name that is not there gives.
    #[default]
    Null,
    /// `true`, `false`.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Text.
    String(String),
    /// A list.
    Array(Arc<Array>),
    /// Names and values.
    Object(Arc<Object>),
}

/// Which kind of [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Null`.
    Null,
    /// `Boolean`.
    Boolean,
    /// `Number`.
    Number,
    /// `String`.
    String,
    /// `Array`.
    Array,
    /// `Object`.
    Object,
}

/// A list.
#[derive(Debug, Clone, Default)]
pub struct Array {
    items: Vec<Value>,
    /// It comes from `*`: an index is applied to each of its items instead of to itself.
    pub(super) filtered: bool,
}

/// Names and values, in the order in which they were put in. Names differ by more than case, unless the object
/// is one of [`Object::case_sensitive`].
#[derive(Debug, Clone, Default)]
pub struct Object {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
    case_sensitive: bool,
}

impl Kind {
    /// `Null`, `Boolean`, `Number`, `String`, `Array`, `Object`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Boolean => "Boolean",
            Self::Number => "Number",
            Self::String => "String",
            Self::Array => "Array",
            Self::Object => "Object",
        }
    }
}

impl Value {
    /// Which kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Boolean(_) => Kind::Boolean,
            Self::Number(_) => Kind::Number,
            Self::String(_) => Kind::String,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
        }
    }

    /// Whether it counts as true: all but null, false, 0, NaN and the empty string.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Boolean(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// The number that it counts as; NaN where it is none.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Boolean(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::String(value) => number::parse(value),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// The text that it becomes within other text: nothing for null, `Array` and `Object` for these.
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Boolean(value) => value.to_string(),
            Self::Number(value) => number::format(*value),
            Self::String(value) => value.clone(),
            Self::Array(_) | Self::Object(_) => self.kind().name().to_owned(),
        }
    }

    /// `==`. Lists and objects equal only themselves.
    pub fn equals(&self, other: &Self) -> bool {
        match coerce(self, other) {
            Pair::Null => true,
            Pair::Boolean(left, right) => left == right,
            Pair::Number(left, right) => left == right,
            Pair::String(left, right) => fold::equal(left, right),
            Pair::Same(same) => same,
            Pair::Different => false,
        }
    }

    /// `<` and `>`: none where neither holds.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match coerce(self, other) {
            Pair::Boolean(left, right) => Some(left.cmp(&right)),
            Pair::Number(left, right) => left.partial_cmp(&right),
            Pair::String(left, right) => Some(fold::compare(left, right)),
            Pair::Null | Pair::Same(_) | Pair::Different => None,
        }
    }

    /// Null, boolean, number or string.
    pub(super) fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// A list.
    pub fn array(items: impl IntoIterator<Item = Value>) -> Self {
        Self::Array(Arc::new(Array {
            items: items.into_iter().collect(),
            filtered: false,
        }))
    }

    /// Names and values.
    pub fn object<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Object(Arc::new(entries.into_iter().collect()))
    }

    /// The value of a name, where this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }
}

/// Two values made alike for a comparison.
enum Pair<'a> {
    Null,
    Boolean(bool, bool),
    Number(f64, f64),
    String(&'a str, &'a str),
    Same(bool),
    Different,
}

fn coerce<'a>(left: &'a Value, right: &'a Value) -> Pair<'a> {
    use Value::{Array, Boolean, Null, Number, Object, String};
    match (left, right) {
        (Null, Null) => Pair::Null,
        (Boolean(left), Boolean(right)) => Pair::Boolean(*left, *right),
        (Number(left), Number(right)) => Pair::Number(*left, *right),
        (String(left), String(right)) => Pair::String(left, right),
        (Array(left), Array(right)) => Pair::Same(Arc::ptr_eq(left, right)),
        (Object(left), Object(right)) => Pair::Same(Arc::ptr_eq(left, right)),
        (Array(_) | Object(_), _) | (_, Array(_) | Object(_)) => Pair::Different,
        _ => Pair::Number(left.to_number(), right.to_number()),
    }
}

impl Array {
    pub(super) fn filtered(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(Self {
            items,
            filtered: true,
        }))
    }

    /// Its items.
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Object {
    /// An empty one whose names may differ by case alone, as those of `env` on Linux.
    pub fn case_sensitive() -> Self {
        Self {
            case_sensitive: true,
            ..Self::default()
        }
    }

    /// Puts a value under a name, instead of the one that is there.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) {
        let name = name.into();
        let key = self.key(&name);
        match self.index.get(&key) {
            Some(&at) => self.entries[at].1 = value,
            None => {
                self.index.insert(key, self.entries.len());
                self.entries.push((name, value));
            }
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.index.remove(&self.key(name))?;
        for place in self.index.values_mut().filter(|place| **place > at) {
            *place -= 1;
        }
        Some(self.entries.remove(at).1)
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = *self.index.get(&self.key(name))?;
        self.entries.get(at).map(|(_, value)| value)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn key(&self, name: &str) -> String {
        if self.case_sensitive {
            name.to_owned()
        } else {
            fold::upper(name)
        }
    }
}

impl<K: Into<String>> FromIterator<(K, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (K, Value)>>(entries: T) -> Self {
        let mut object = Self::default();
        for (name, value) in entries {
            object.insert(name, value);
        }
        object
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self::Object(Arc::new(value))
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Boolean(value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(value) => Self::String(value),
            serde_json::Value::Array(items) => Self::array(items.into_iter().map(Self::from)),
            serde_json::Value::Object(entries) => {
                Self::object(entries.into_iter().map(|(name, value)| (name, Self::from(value))))
            }
        }
    }
}

/// As JSON: a whole number without a fraction, and `null` for one that JSON has not.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// From here on not every whole number is an `f64`.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Number(value) if value.fract() == 0.0 && value.abs() < EXACT => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(array) => {
                let mut sequence = serializer.serialize_seq(Some(array.items.len()))?;
                for item in &array.items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                for (name, value) in object.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}
