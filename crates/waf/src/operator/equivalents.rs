//! Patterns that cannot be matched in linear time, and what matches the same texts.

/// What matches the same texts as a pattern that cannot be matched in linear time.
pub(crate) enum Same {
    /// This pattern.
    Pattern(&'static str),
    /// The texts that this pattern does not match.
    Unmatched(&'static str),
    /// This text with these pieces replaced.
    Edited(&'static [(&'static str, &'static str)]),
    /// This pattern, where its first group and its second differ, or its first and its third do not.
    Compared(&'static str),
}

/// The patterns of the Core Rule Set 3 with look-around or back-references, each with its equivalent.
///
/// - 953120: `<?` not followed by `xml`: the texts that differ or end within three bytes are spelled out.
/// - 920120: an upload's name with a quote, `=`, or a `;` that is not the end of a listed HTML entity: the negation of
///   "all is something else, or a whole entity".
/// - 942130: `word OPERATOR word`, the words being equal or not: they are compared after the pattern has found them.
/// - 920600: `\s*+` keeps all white space to itself, so that what follows it cannot begin with any; where that could, its
///   first character is now none.
/// - 942370: what `[^…]++` keeps to itself, the optional part behind it could have taken and need not.
pub(crate) const EQUIVALENTS: &[(&str, Same)] = &[
    (
        r"<\?(?!xml)",
        Same::Pattern(r"<\?(?:$|[^x]|x(?:$|[^m]|m(?:$|[^l])))"),
    ),
    (
        r#"(?<!&(?:[aAoOuUyY]uml)|&(?:[aAeEiIoOuU]circ)|&(?:[eEiIoOuUyY]acute)|&(?:[aAeEiIoOuU]grave)|&(?:[cC]cedil)|&(?:[aAnNoO]tilde)|&(?:amp)|&(?:apos));|['"=]"#,
        Same::Unmatched(
            r#"^(?:[^'"=;]|&(?:[aAoOuUyY]uml|[aAeEiIoOuU]circ|[eEiIoOuUyY]acute|[aAeEiIoOuU]grave|[cC]cedil|[aAnNoO]tilde|amp|apos);)*$"#,
        ),
    ),
    (
        r#"(?i:[\s'"`()]*?\b([\d\w]+)\b[\s'"`()]*?(?:<(?:=(?:[\s'"`()]*?(?!\b\1\b)[\d\w]+|>[\s'"`()]*?(?:\b\1\b))|>?[\s'"`()]*?(?!\b\1\b)[\d\w]+)|(?:not\s+(?:regexp|like)|is\s+not|>=?|!=|\^)[\s'"`()]*?(?!\b\1\b)[\d\w]+|(?:(?:sounds\s+)?like|r(?:egexp|like)|=)[\s'"`()]*?(?:\b\1\b)))"#,
        Same::Compared(
            r#"(?i)\b(\w+)\b[\s'"`()]*?(?:(?:<[=>]?|not\s+(?:regexp|like)|is\s+not|>=?|!=|\^)[\s'"`()]*(\w+)|(?:<=>|(?:sounds\s+)?like|r(?:egexp|like)|=)[\s'"`()]*(\w+))"#,
        ),
    ),
    (
        r#"^(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)\/(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+))(?:\s*+;\s*+(?:(?:charset\s*+=\s*+(?:"?(?:iso-8859-15?|windows-1252|utf-8)\b"?))|(?:(?:c(?:h(?:a(?:r(?:s(?:e[^t"(),\/:;<=>?![\x5c\]{}]|[^e"(),/:;<=>?![\x5c\]{}])|[^s"(),/:;<=>?![\x5c\]{}])|[^r"(),/:;<=>?![\x5c\]{}])|[^a"(),/:;<=>?![\x5c\]{}])|[^h"(),/:;<=>?![\x5c\]{}])|[^c"(),/:;<=>?![\x5c\]{}])[^"(),/:;<=>?![\x5c\]{}]*(?:)\s*+=\s*+[^(),/:;<=>?![\x5c\]{}]+)|;?))*(?:\s*+,\s*+(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)\/(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+))(?:\s*+;\s*+(?:(?:charset\s*+=\s*+(?:"?(?:iso-8859-15?|windows-1252|utf-8)\b"?))|(?:(?:c(?:h(?:a(?:r(?:s(?:e[^t"(),\/:;<=>?![\x5c\]{}]|[^e"(),/:;<=>?![\x5c\]{}])|[^s"(),/:;<=>?![\x5c\]{}])|[^r"(),/:;<=>?![\x5c\]{}])|[^a"(),/:;<=>?![\x5c\]{}])|[^h"(),/:;<=>?![\x5c\]{}])|[^c"(),/:;<=>?![\x5c\]{}])[^"(),/:;<=>?![\x5c\]{}]*(?:)\s*+=\s*+[^(),/:;<=>?![\x5c\]{}]+)|;?))*)*$"#,
        Same::Edited(&[
            (r"\s*+", r"\s*"),
            (
                r#"[^c"(),/:;<=>?![\x5c\]{}])[^""#,
                r#"[^c\s"(),/:;<=>?![\x5c\]{}])[^""#,
            ),
            (
                r#"=\s*[^(),/:;<=>?![\x5c\]{}]+"#,
                r#"=\s*[^\s(),/:;<=>?![\x5c\]{}][^(),/:;<=>?![\x5c\]{}]*"#,
            ),
            (
                r#",\s*(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)"#,
                r#",\s*(?:(?:\*|[^\s"(),\/:;<=>?![\x5c\]{}][^"(),\/:;<=>?![\x5c\]{}]*)"#,
            ),
        ]),
    ),
    (
        r#"(?i:["'`]\s*?(?:(?:n(?:and|ot)|(?:x?x)?or|between|\|\||and|div|&&)\s+[\s\w]+=\s*?\w+\s*?having\s+|like(?:\s+[\s\w]+=\s*?\w+\s*?having\s+|\W*?["'`\d])|[^?\w\s=.,;)(]++\s*?[(@"'`]*?\s*?\w+\W+\w|\*\s*?\w+\W+["'`])|(?:union\s*?(?:distinct|[(!@]*?|all)?\s*?[([]*?\s*?select|select\s+?[\[\]()\s\w\.,"'`-]+from)\s+|\w\s+like\s+["'`]|find_in_set\s*?\(|like\s*?["'`]%)"#,
        Same::Edited(&[("]++", "]+")]),
    ),
];
