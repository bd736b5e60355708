//! Strings that look like SQL, HTML and honest text: those that are committed, changed by chance, and words of the two
//! grammars in any order.

use crate::chance::Chance;

/// No string is longer.
const LONG: usize = 160;

const SQL: &[&str] = &[
    "'",
    "\"",
    "`",
    "''",
    "\\'",
    " ",
    "\t",
    "\n",
    "\u{a0}",
    "\0",
    "1",
    "0",
    "-1",
    "1.5",
    ".5",
    "1e5",
    "0x41",
    "0b1",
    "x'41'",
    "b'1'",
    "n'a'",
    "q'[a]'",
    "$$a$$",
    "$1",
    "1=1",
    "'a'='a",
    "or",
    "OR",
    "oR",
    "and",
    "xor",
    "not",
    "||",
    "&&",
    "|",
    "&",
    "^",
    "~",
    "!",
    "=",
    "<=>",
    "<>",
    "!=",
    "<",
    ">",
    ">=",
    ":=",
    "::",
    "@a",
    "@@version",
    "#",
    "--",
    "-- ",
    "--+",
    "/*",
    "*/",
    "/**/",
    "/*!",
    "/*!50000",
    "(",
    ")",
    "((",
    "))",
    ",",
    ";",
    ".",
    "*",
    "/",
    "%",
    "+",
    "-",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "?",
    ":",
    "union",
    "UnIoN",
    "all",
    "select",
    "distinct",
    "from",
    "where",
    "having",
    "group by",
    "order by",
    "limit",
    "offset",
    "like",
    "rlike",
    "regexp",
    "between",
    "in",
    "is",
    "is not",
    "null",
    "true",
    "false",
    "exists",
    "case",
    "when",
    "then",
    "else",
    "end",
    "if",
    "begin",
    "declare",
    "exec",
    "execute",
    "insert into",
    "update",
    "set",
    "delete",
    "drop",
    "table",
    "create",
    "alter",
    "waitfor delay",
    "into",
    "into outfile",
    "INTO DUMPFILE",
    "procedure",
    "analyse",
    "handler",
    "sleep",
    "sleep(5)",
    "benchmark(1,1)",
    "concat(0x41,1)",
    "char(65)",
    "user()",
    "version",
    "database()",
    "load_file",
    "information_schema",
    "pg_sleep",
    "xp_cmdshell",
    "sys.user",
    "a.b",
    "users",
    "admin",
    "password",
    "id",
    "foo",
    "e",
    "u&",
    "collate",
    "interval 1 day",
    "cast(1 as int)",
    "convert",
    "using",
    "match",
    "against",
    "div",
    "mod",
    "sounds like",
    "at",
    "time",
    "zone",
    "create or",
    "replace",
    "in boolean",
    "mode",
    "is distinct",
    "is not distinct",
    "lock in",
    "share",
    "next value",
    "previous value",
    "for",
    "@@database()",
    "@user (",
    "@@current_time(",
    "@@",
    "`",
    "= @@user()",
    "password(",
    "natural join",
    "cross join",
    "top 1",
    "print",
    "money",
    "\u{e9}",
    "=(select",
    "1--",
    "'--",
    "'#",
    "';",
    "');",
    "1)",
];

const HTML: &[&str] = &[
    "<",
    ">",
    "</",
    "/>",
    "<!",
    "<!--",
    "-->",
    "--!>",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE",
    "<?",
    "?>",
    "<?xml",
    "<%",
    "%>",
    "\"",
    "'",
    "`",
    "=",
    "/",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{c}",
    "\0",
    "a",
    "b",
    "script",
    "SCRIPT",
    "scr\0ipt",
    "img",
    "svg",
    "math",
    "iframe",
    "object",
    "embed",
    "base",
    "link",
    "meta",
    "style",
    "form",
    "input",
    "body",
    "video",
    "xss",
    "xml",
    "xsl",
    "applet",
    "onload",
    "ONLOAD",
    "onerror",
    "onclick",
    "onmouseover",
    "onfocus",
    "ontoggle",
    "onx",
    "on",
    "one",
    "only",
    "o\0nload",
    "href",
    "src",
    "action",
    "formaction",
    "xlink:href",
    "xmlns",
    "data",
    "srcdoc",
    "dynsrc",
    "lowsrc",
    "to",
    "from",
    "values",
    "by",
    "background",
    "attributename",
    "folder",
    "filter",
    "datasrc",
    "style",
    "javascript:",
    "JaVaScRiPt:",
    "vbscript:",
    "data:",
    "view-source:",
    "java\nscript:",
    "&#106;avascript:",
    "&#x6a;",
    "&#x6A;avascript:",
    "&lt;",
    "&Tab;",
    "http://a",
    "alert(1)",
    "x:expression(1)",
    "1",
    "[if",
    "[endif]",
    "import",
    "entity",
    "%3C",
    "\u{e9}",
    "x onload=1",
    "' onclick=",
    "text",
    "<a",
    "<b",
    "<x",
    "<svg/onload=1>",
    "<script>",
    "</script>",
    "<img src=x",
    "<!-- a -->",
    "<!--[if IE]>",
    "<a href=",
];

/// Makes strings.
pub(crate) struct Maker<'s> {
    /// What is committed: attacks and honest strings.
    known: &'s [Vec<u8>],
}

impl<'s> Maker<'s> {
    pub(crate) fn new(known: &'s [Vec<u8>]) -> Self {
        Self { known }
    }

    pub(crate) fn make(&self, chance: &mut Chance) -> Vec<u8> {
        let mut text = match chance.below(8) {
            0 | 1 => words(SQL, chance),
            2 | 3 => words(HTML, chance),
            _ => self.known(chance),
        };
        for _ in 0..chance.below(4) {
            self.change(&mut text, chance);
        }
        text.truncate(LONG);
        text
    }

    fn known(&self, chance: &mut Chance) -> Vec<u8> {
        self.known
            .get(chance.below(self.known.len()))
            .cloned()
            .unwrap_or_default()
    }

    fn change(&self, text: &mut Vec<u8>, chance: &mut Chance) {
        let at = chance.below(text.len() + 1);
        let token = match chance.below(2) {
            0 => one(SQL, chance),
            _ => one(HTML, chance),
        };
        match chance.below(9) {
            0 | 1 => drop(text.splice(at..at, token.bytes())),
            2 => {
                let end = (at + chance.below(4)).min(text.len());
                text.drain(at..end);
            }
            3 => {
                if let Some(byte) = text.get_mut(at) {
                    *byte = u8::try_from(chance.below(256)).unwrap_or(0);
                }
            }
            4 => {
                if let Some(byte) = text.get_mut(at) {
                    byte.make_ascii_uppercase();
                }
            }
            5 => {
                // The beginning of one, the end of another.
                text.truncate(at);
                let other = self.known(chance);
                let from = chance.below(other.len() + 1);
                text.extend_from_slice(&other[from..]);
            }
            6 => {
                let end = (at + chance.below(12)).min(text.len());
                let again = text[at..end].to_vec();
                text.splice(end..end, again);
            }
            7 => {
                for space in text.iter_mut().filter(|byte| **byte == b' ') {
                    *space = b"\t\n\x0b\x0c\r/ +"[chance.below(8)];
                }
            }
            _ => drop(text.splice(0..0, token.bytes())),
        }
    }
}

fn words(of: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut text = Vec::new();
    let glue: &[&str] = &[" ", "", "", "/**/", "\t", "+"];
    let between = one(glue, chance);
    for _ in 0..1 + chance.below(8) {
        text.extend_from_slice(one(of, chance).as_bytes());
        text.extend_from_slice(between.as_bytes());
    }
    text
}

fn one<'w>(of: &[&'w str], chance: &mut Chance) -> &'w str {
    of.get(chance.below(of.len())).copied().unwrap_or_default()
}
