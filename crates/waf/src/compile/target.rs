//! What a rule looks at, resolved.

use std::collections::HashMap;

use super::chains::ChainId;
use super::names::{Names, Slot};
use crate::engine::items::{self, Family};
use crate::operator::{Pattern, caseless};
use crate::seclang::{Collection, Kind, Selector, Target as Written, Variable, Wrong};

/// A collection and which of its members.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) collection: Collection,
    pub(crate) pick: Pick,
    pub(crate) members: Members,
}

/// Where the members of a target are.
#[derive(Debug, Clone)]
pub(crate) enum Members {
    /// How many there are is asked.
    Counted,
    Lists(Box<[Listed]>),
    Single,
    /// A variable of `TX`.
    Slot(Slot),
    /// They are looked for when they are asked for.
    Others,
}

/// A list of members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) family: Family,
    /// What else its members are called.
    pub(crate) other: Collection,
    /// Whether their names are the values.
    pub(crate) names: bool,
    /// What sums the whole list up after the rule's chain; none where the target takes some of it.
    pub(crate) sum: Option<u32>,
}

/// Which sum is whose.
#[derive(Debug, Default)]
pub(crate) struct Sums(HashMap<(Family, bool, ChainId), u32>);

impl Sums {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn of(&mut self, family: Family, names: bool, chain: ChainId) -> Option<u32> {
        let next = u32::try_from(self.0.len()).ok()?;
        Some(*self.0.entry((family, names, chain)).or_insert(next))
    }
}

/// Which members of a collection.
#[derive(Debug, Clone)]
pub(crate) enum Pick {
    All,
    /// In lower case.
    Name(Box<str>),
    /// Of `TX`.
    Slot(Slot),
    /// `TX:0` to `TX:9`.
    Capture(u8),
    Pattern(std::sync::Arc<Pattern>),
    /// `XML:/*`.
    XmlText,
    /// `XML://@*`.
    XmlAttributes,
}

impl Pick {
    pub(crate) fn new(variable: &Variable, names: &mut Names) -> Result<Self, Wrong> {
        Ok(match &variable.selector {
            Selector::All if variable.collection == Collection::Xml => {
                return Err(Wrong::new("XML needs a path").hint("XML:/* or XML://@*"));
            }
            Selector::All => Self::All,
            Selector::Name(name) if variable.collection == Collection::Tx => match name.as_bytes() {
                [digit @ b'0'..=b'9'] => Self::Capture(digit - b'0'),
                _ => Self::Slot(names.intern(name)),
            },
            Selector::Name(name) if variable.collection == Collection::Geo && !is_of_place(name) => {
                return Err(Wrong::new(format!("GEO:{name} is not known here"))
                    .hint(format!("there are {}", PLACE.join(", "))));
            }
            Selector::Name(name) => Self::Name(name.to_ascii_lowercase().into()),
            Selector::Pattern(pattern) => Self::Pattern(caseless(pattern)?.into()),
            Selector::Path(path) => match path.as_str() {
                "/*" | "//*" | "/*/text()" | "//text()" => Self::XmlText,
                "//@*" | "/@*" => Self::XmlAttributes,
                other => {
                    return Err(Wrong::new(format!("the path {other} is unknown"))
                        .hint("/* is all text, and //@* all attributes"));
                }
            },
        })
    }

    /// Whether a member of this name is meant.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted.as_bytes().eq_ignore_ascii_case(name),
            Self::Pattern(pattern) => pattern.fits(name),
            Self::Slot(_) | Self::Capture(_) => false,
            Self::XmlText => name == b"/*",
            Self::XmlAttributes => name == b"//@*",
        }
    }
}

/// What a server may know of a client's place: the members of `GEO`.
pub(crate) const PLACE: [&str; 8] = [
    "COUNTRY_CODE",
    "COUNTRY_CONTINENT",
    "REGION",
    "CITY",
    "POSTAL_CODE",
    "LATITUDE",
    "LONGITUDE",
    "DMA_CODE",
];

fn is_of_place(name: &str) -> bool {
    PLACE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Members that are not looked at.
#[derive(Debug, Clone)]
pub(crate) struct Exclusion {
    pub(crate) collection: Collection,
    pub(crate) pick: Pick,
    /// The name as written, for `TX`.
    name: Option<Box<str>>,
}

impl Exclusion {
    pub(crate) fn new(written: &Written, names: &mut Names) -> Result<Self, Wrong> {
        let name = match &written.variable.selector {
            Selector::Name(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        };
        Ok(Self {
            collection: written.variable.collection,
            pick: Pick::new(&written.variable, names)?,
            name,
        })
    }

    /// Whether a member is excluded: of `collection` as the rule names it, `family` as it is.
    pub(crate) fn covers(&self, collection: Collection, family: Collection, name: &[u8]) -> bool {
        if self.collection != collection && self.collection != family {
            return false;
        }
        match (&self.pick, &self.name) {
            (Pick::Slot(_) | Pick::Capture(_), Some(own)) => own.as_bytes().eq_ignore_ascii_case(name),
            (pick, _) => pick.takes(name),
        }
    }
}

impl Target {
    /// A target of a rule with this chain.
    pub(crate) fn new(
        written: &Written,
        chain: ChainId,
        names: &mut Names,
        sums: &mut Sums,
    ) -> Result<Self, Wrong> {
        let collection = written.variable.collection;
        let pick = Pick::new(&written.variable, names)?;
        let members = if written.count {
            Members::Counted
        } else if let Some((lists, of_names)) = items::families(collection, &pick) {
            let takes_all = matches!(pick, Pick::All | Pick::XmlText | Pick::XmlAttributes);
            let listed = lists.iter().map(|(family, other)| Listed {
                family: *family,
                other: *other,
                names: of_names,
                sum: takes_all.then(|| sums.of(*family, of_names, chain)).flatten(),
            });
            Members::Lists(listed.collect())
        } else if collection.kind() == Kind::Single {
            Members::Single
        } else if let (Collection::Tx, Pick::Slot(slot)) = (collection, &pick) {
            Members::Slot(*slot)
        } else {
            Members::Others
        };
        Ok(Self {
            collection,
            pick,
            members,
        })
    }
}
