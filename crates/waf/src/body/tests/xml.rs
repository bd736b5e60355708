use super::super::*;
use super::lines;

#[track_caller]
fn check(body: &str, wanted: &[&str]) {
    let (found, outcome) = lines(|sink| xml(body.as_bytes(), &Limits::default(), sink));
    assert_eq!(found, wanted, "{body}");
    assert_eq!(outcome.error, None, "{body}");
}

#[track_caller]
fn fault(body: &[u8]) -> String {
    let (_, outcome) = lines(|sink| xml(body, &Limits::default(), sink));
    outcome
        .error
        .unwrap_or_else(|| panic!("no fault in {}", body.escape_ascii()))
        .to_string()
}

#[test]
fn text_and_attributes() {
    check(
        r#"<?xml version="1.0"?><a b="1"  c="x&amp;y">t1<d e="2">t2 &lt; &#65;&#x42;</d><!-- c --><![CDATA[cd<>]]><?p x?> t3</a>"#,
        &[
            "attribute 1",
            "attribute x&y",
            "attribute 2",
            "text t1t2 < ABcd<> t3",
        ],
    );
    check("<a b = \"1\" c= '2' />", &["attribute 1", "attribute 2"]);
    check("<a xmlns=\"u\" xmlns:p=\"v\" p:q=\"w\"/>", &["attribute w"]);
    check(
        "\u{feff} <!-- c -->\n<a b=\"x\ny\"> z\n</a >\n<?p?>",
        &["attribute x y", "text  z\\n"],
    );
    check("<a>\u{e9}<\u{e9}/></a>", &["text \\xc3\\xa9"]);
    check("<p:a/>", &[]);
}

#[test]
fn declared_entities_are_seen_and_not_expanded() {
    check(
        "<!DOCTYPE a [<!ENTITY f SYSTEM \"file:///etc/passwd\"><!-- ] > -->]><a b='&f;'>&f;</a>",
        &[
            "attribute &f;",
            "text <!ENTITY f SYSTEM \\\"file:///etc/passwd\\\">\\n&f;",
        ],
    );
    check(
        "<!DOCTYPE svg PUBLIC \"-//W3C\" 'svg.dtd' [<!ENTITY a \"b > ]\"><!ENTITY % e SYSTEM 'x>'>%e;]><a>&a;</a>",
        &["text -//W3C\\nsvg.dtd\\n<!ENTITY % e SYSTEM \\'x>\\'>\\n&a;"],
    );
}

#[test]
fn encodings() {
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>\xe9</a>";
    assert_eq!(
        lines(|sink| xml(latin, &Limits::default(), sink)).0,
        ["text \\xe9"]
    );
    assert_eq!(
        fault(b"<?xml version='1.0' encoding='UTF-16'?><a/>"),
        "XML parsing error: an encoding that is not read here at byte 39"
    );
    let (found, outcome) = lines(|sink| xml(b"<a>b\xffc</a>", &Limits::default(), sink));
    assert_eq!(found, ["text b"]);
    assert_eq!(
        outcome.error.unwrap().to_string(),
        "XML parsing error: bytes that are no character at byte 4"
    );
}

#[test]
fn one_piece_is_borrowed() {
    xml(b"<a b='c'>text</a>", &Limits::default(), &mut |item| {
        assert!(matches!(
            item,
            Item::XmlText(Cow::Borrowed(_)) | Item::XmlAttribute(Cow::Borrowed(_))
        ));
    });
}

#[test]
fn what_is_not_well_formed_is_said_with_its_place() {
    assert_eq!(
        fault(b"<a>"),
        "XML parsing error: the document ends too early at byte 3"
    );
    assert_eq!(
        fault(b"<a></b>"),
        "XML parsing error: an end tag is not of the element that is open at byte 6"
    );
    assert_eq!(
        fault(b"text"),
        "XML parsing error: an element was expected at byte 0"
    );
    for body in [
        "",
        "<a/><b/>",
        "<a/>junk",
        "<a b=1/>",
        "<a b='1' b='2'/>",
        "<a b='1'c='2'/>",
        "<a b/>",
        "<a b='<'/>",
        "<a>&foo;</a>",
        "<a>x & y</a>",
        "<a>]]></a>",
        "<a><!-- -- --></a>",
        "<a>\u{1}</a>",
        "<1a/>",
        "< a/>",
        "<a",
        "<a b='",
        "<a><![CDATA[",
        "<!DOCTYPE a [",
        "<a>&#0;</a>",
        "<a>&#x110000;</a>",
        "<a>&lt</a>",
        " <?xml version='1.0'?><a/>",
        "<a/><!DOCTYPE a>",
        "<a></a",
        "<a></a b>",
        "</a>",
        "<!-- x",
        "<a>\u{0}</a>",
        "<?xml",
        "<?xml ",
    ] {
        fault(body.as_bytes());
    }
}

#[test]
fn the_declaration() {
    for body in [
        "<?xml version='1.0'?><a>b</a>",
        "<?xml version = \"1.1\" encoding = 'utf-8' standalone='yes' ?><a>b</a>",
        "<?xml\tversion=\"1.0\"\nstandalone=\"no\"?><a>b</a>",
        "<?xml-stylesheet href='x'?><a>b</a>",
    ] {
        check(body, &["text b"]);
    }
    // A malformed one is a fault, and what follows is looked at all the same.
    for body in [
        "<?xml ?><a>b</a>",
        "<?xml versio='1.0'?><a>b</a>",
        "<?xml version='2.0'?><a>b</a>",
        "<?xml version=1.0?><a>b</a>",
        "<?xml version='1.0' standalone='maybe'?><a>b</a>",
        "<?xml version='1.0'encoding='utf-8'?><a>b</a>",
        "<?xml standalone='no' version='1.0'?><a>b</a>",
        "<?xml.0\"?><a>b</a>",
        "<a>b</a><?p\u{b}?>",
    ] {
        let (found, outcome) = lines(|sink| xml(body.as_bytes(), &Limits::default(), sink));
        assert_eq!(found, ["text b"], "{body}");
        assert!(outcome.error.is_some(), "{body}");
    }
}

#[test]
fn limits_are_said() {
    let limits = Limits {
        depth: 2,
        arguments: 2,
        ..Limits::default()
    };
    let fault = |body: &str| {
        lines(|sink| xml(body.as_bytes(), &limits, sink))
            .1
            .error
            .unwrap()
            .to_string()
    };
    assert_eq!(
        fault("<a><b><c></c></b></a>"),
        "Request body is nested deeper than 2"
    );
    assert_eq!(
        fault("<a b='1' c='2' d='3'/>"),
        "Request body has more than 2 arguments"
    );
}
