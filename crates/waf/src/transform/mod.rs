//! `t:lowercase`, `t:urlDecodeUni` and the others: what rules do to a value before they look at it.
//!
//! Every function is linear in its input, never fails, and leaves a value alone that it would not change: [`apply`] says
//! so without a copy. Most values of real requests pass most transformations that way.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

mod base64;
mod comments;
pub(crate) mod decode;
mod digest;
mod entity;
mod escape;
mod path;
mod scan;
mod space;
mod text;
mod unicode_map;
mod utf8;

pub use unicode_map::{MapError, UnicodeMap};

macro_rules! transformations {
    ($($name:ident = $word:literal $(| $alias:literal)*, $doc:literal;)+) => {
        /// A transformation of ModSecurity's reference manual.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Transformation { $(#[doc = $doc] $name,)+ }

        impl Transformation {
            /// All of them.
            pub const ALL: &'static [Transformation] = &[$(Transformation::$name,)+];

            /// As it is written in rules.
            pub fn name(self) -> &'static str {
                match self { $(Transformation::$name => $word,)+ }
            }
        }

        /// Every spelling, and what it means.
        const SPELLINGS: &[(&str, Transformation)] =
            &[$(($word, Transformation::$name), $(($alias, Transformation::$name),)*)+];
    };
}

transformations! {
    Base64Decode = "base64Decode", "Base64 to bytes, up to what is none.";
    Base64DecodeExt = "base64DecodeExt", "Base64 to bytes, passing over what is none.";
    Base64Encode = "base64Encode", "Bytes to Base64.";
    CmdLine = "cmdLine", "What shells pass over is taken out: quotes, carets, backslashes, white space; lower case.";
    CompressWhitespace = "compressWhitespace", "A run of white space becomes one space.";
    CssDecode = "cssDecode", "CSS escapes: `\\41 `, `\\j`.";
    EscapeSeqDecode = "escapeSeqDecode", "ANSI C escapes: `\\n`, `\\x41`, `\\101`.";
    HexDecode = "hexDecode", "Hexadecimal digits to bytes.";
    HexEncode = "hexEncode", "Bytes to hexadecimal digits.";
    HtmlEntityDecode = "htmlEntityDecode", "`&#65;`, `&#x41;`, `&lt;` and the other four.";
    JsDecode = "jsDecode", "JavaScript escapes: `\\u0041`, `\\x41`, `\\101`, `\\n`.";
    Length = "length", "The number of bytes, in decimal digits.";
    Lowercase = "lowercase", "ASCII letters.";
    Md5 = "md5", "The digest's 16 bytes.";
    None = "none", "Drops the transformations before it; by itself it changes nothing.";
    NormalizePath = "normalizePath" | "normalisePath", "Doubled slashes, `.` and `..` are taken out.";
    NormalizePathWin = "normalizePathWin" | "normalisePathWin", "As normalizePath, backslashes being slashes.";
    ParityEven7bit = "parityEven7bit", "Bit 8 becomes the parity of the others.";
    ParityOdd7bit = "parityOdd7bit", "Bit 8 becomes the inverted parity of the others.";
    ParityZero7bit = "parityZero7bit", "Bit 8 becomes 0.";
    RemoveComments = "removeComments", "C, HTML and SQL comments are taken out.";
    RemoveCommentsChar = "removeCommentsChar", "What begins or ends a comment is taken out.";
    RemoveNulls = "removeNulls", "NUL bytes are taken out.";
    RemoveWhitespace = "removeWhitespace", "White space is taken out.";
    ReplaceComments = "replaceComments", "Each C comment becomes one space.";
    ReplaceNulls = "replaceNulls", "NUL bytes become spaces.";
    Sha1 = "sha1", "The digest's 20 bytes.";
    SqlHexDecode = "sqlHexDecode", "`0x414243`.";
    Trim = "trim", "White space at both ends is taken away.";
    TrimLeft = "trimLeft", "White space at the beginning is taken away.";
    TrimRight = "trimRight", "White space at the end is taken away.";
    Uppercase = "uppercase", "ASCII letters.";
    UrlDecode = "urlDecode", "`%41`, and `+` for a space.";
    UrlDecodeUni = "urlDecodeUni", "As urlDecode, and `%u0041`.";
    UrlEncode = "urlEncode", "All but letters, digits and `*`.";
    Utf8ToUnicode = "utf8toUnicode", "What UTF-8 says in more than one byte becomes `%u00e9`.";
}

impl fmt::Display for Transformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such transformation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no transformation is called '{0}'")]
pub struct UnknownTransformation(pub String);

impl FromStr for Transformation {
    type Err = UnknownTransformation;

    /// Names are compared without regard to case, as ModSecurity does: the Core Rule Set writes `t:base64decode` too.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = SPELLINGS
            .iter()
            .find(|(spelling, _)| spelling.eq_ignore_ascii_case(name));
        found
            .map(|(_, transformation)| *transformation)
            .ok_or_else(|| UnknownTransformation(name.into()))
    }
}

/// Transforms `input`. `false`: it stays as it is, and what is in `out` means nothing. `true`: `out` is the new value.
pub fn apply(transformation: Transformation, input: &[u8], out: &mut Vec<u8>) -> bool {
    apply_with(transformation, input, out, None)
}

/// As [`apply`]; `map` (`SecUnicodeMapFile`) says what the characters of `%uHHHH` look like in a code page of one byte.
pub fn apply_with(
    transformation: Transformation,
    input: &[u8],
    out: &mut Vec<u8>,
    map: Option<&UnicodeMap>,
) -> bool {
    use Transformation as T;
    out.clear();
    match transformation {
        T::None => false,
        T::Base64Decode => base64::decode(input, out),
        T::Base64DecodeExt => base64::decode_ext(input, out),
        T::Base64Encode => base64::encode(input, out),
        T::CmdLine => space::cmd_line(input, out),
        T::CompressWhitespace => space::compress(input, out),
        T::CssDecode => escape::css(input, out),
        T::EscapeSeqDecode => escape::ansi_c(input, out),
        T::HexDecode => digest::hex_decode(input, out),
        T::HexEncode => digest::hex_encode(input, out),
        T::HtmlEntityDecode => entity::decode(input, out),
        T::JsDecode => escape::javascript(input, out),
        T::Length => digest::length(input, out),
        T::Lowercase => text::lowercase(input, out),
        T::Md5 => digest::md5(input, out),
        T::NormalizePath => path::normalize(input, out, false),
        T::NormalizePathWin => path::normalize(input, out, true),
        T::ParityEven7bit => text::parity(input, out, text::Parity::Even),
        T::ParityOdd7bit => text::parity(input, out, text::Parity::Odd),
        T::ParityZero7bit => text::parity(input, out, text::Parity::Zero),
        T::RemoveComments => comments::remove(input, out),
        T::RemoveCommentsChar => comments::remove_marks(input, out),
        T::RemoveNulls => text::remove_nulls(input, out),
        T::RemoveWhitespace => space::remove(input, out),
        T::ReplaceComments => comments::replace(input, out),
        T::ReplaceNulls => text::replace_nulls(input, out),
        T::Sha1 => digest::sha1(input, out),
        T::SqlHexDecode => decode::sql_hex(input, out),
        T::Trim => space::trim(input, out, true, true),
        T::TrimLeft => space::trim(input, out, true, false),
        T::TrimRight => space::trim(input, out, false, true),
        T::Uppercase => text::uppercase(input, out),
        T::UrlDecode => decode::url_decode(input, out, &mut 0),
        T::UrlDecodeUni => decode::url_decode_uni(input, out, map),
        T::UrlEncode => decode::url_encode(input, out),
        T::Utf8ToUnicode => utf8::to_unicode(input, out),
    }
}

#[cfg(test)]
mod tests;
