//! Collections with members: headers, arguments, cookies, what a body brings.

use super::texts::{NodeId, TextId, Texts};
use crate::compile::target::Pick;
use crate::seclang::Collection;

/// A member of a collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) name: TextId,
    pub(super) value: NodeId,
    /// The name as a value: of `ARGS_NAMES` and the like. Made when it is first asked for.
    name_node: Option<NodeId>,
}

/// A collection that has its own list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    RequestHeaders,
    ResponseHeaders,
    ArgsGet,
    ArgsPost,
    Cookies,
    Files,
    FilesNames,
    FilesSizes,
    FilesContent,
    PartHeaders,
    XmlText,
    XmlAttributes,
}

const FAMILIES: usize = 12;

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Items([Vec<Item>; FAMILIES]);

impl Items {
    pub(super) fn list(&self, family: Family) -> &[Item] {
        &self.0[family as usize]
    }

    pub(super) fn push(&mut self, family: Family, texts: &mut Texts<'_>, name: TextId, value: TextId) {
        let value = texts.node(value);
        self.0[family as usize].push(Item {
            name,
            value,
            name_node: None,
        });
    }

    /// The name of a member as a value.
    pub(super) fn name_node(&mut self, family: Family, index: usize, texts: &mut Texts<'_>) -> NodeId {
        let item = &mut self.0[family as usize][index];
        *item.name_node.get_or_insert_with(|| texts.node(item.name))
    }
}

/// What a collection's members are: which lists, and whether their names are the values.
pub(crate) fn families(
    collection: Collection,
    pick: &Pick,
) -> Option<(&'static [(Family, Collection)], bool)> {
    use Collection as C;
    use Family as F;
    let (families, names): (&'static [(Family, Collection)], bool) = match collection {
        C::Args => (&[(F::ArgsGet, C::ArgsGet), (F::ArgsPost, C::ArgsPost)], false),
        C::ArgsNames => (
            &[(F::ArgsGet, C::ArgsGetNames), (F::ArgsPost, C::ArgsPostNames)],
            true,
        ),
        C::ArgsGet => (&[(F::ArgsGet, C::Args)], false),
        C::ArgsGetNames => (&[(F::ArgsGet, C::ArgsNames)], true),
        C::ArgsPost => (&[(F::ArgsPost, C::Args)], false),
        C::ArgsPostNames => (&[(F::ArgsPost, C::ArgsNames)], true),
        C::RequestHeaders => (&[(F::RequestHeaders, C::RequestHeaders)], false),
        C::RequestHeadersNames => (&[(F::RequestHeaders, C::RequestHeadersNames)], true),
        C::ResponseHeaders => (&[(F::ResponseHeaders, C::ResponseHeaders)], false),
        C::ResponseHeadersNames => (&[(F::ResponseHeaders, C::ResponseHeadersNames)], true),
        C::RequestCookies => (&[(F::Cookies, C::RequestCookies)], false),
        C::RequestCookiesNames => (&[(F::Cookies, C::RequestCookiesNames)], true),
        C::Files | C::MultipartFilename => (&[(F::Files, C::Files)], false),
        C::FilesNames | C::MultipartName => (&[(F::FilesNames, C::FilesNames)], false),
        C::FilesSizes => (&[(F::FilesSizes, C::FilesSizes)], false),
        C::FilesTmpContent => (&[(F::FilesContent, C::FilesTmpContent)], false),
        C::MultipartPartHeaders => (&[(F::PartHeaders, C::MultipartPartHeaders)], false),
        C::Xml => match pick {
            Pick::XmlAttributes => (&[(F::XmlAttributes, C::Xml)], false),
            _ => (&[(F::XmlText, C::Xml)], false),
        },
        _ => return None,
    };
    Some((families, names))
}
