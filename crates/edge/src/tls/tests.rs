use super::*;

#[test]
fn exact_names_come_before_wildcards_and_a_wildcard_is_one_label() {
    let mut names = Names::default();
    names.add(&["*.a.test".into(), "A.test".into()], &1);
    names.add(&["x.a.test".into(), "a.test".into(), "*.a.test".into()], &2);
    for (name, found) in [
        ("a.test", Some(1)),
        ("x.a.test", Some(2)),
        ("y.a.test", Some(1)),
        ("z.y.a.test", None),
        (".a.test", Some(1)),
        ("test", None),
        ("", None),
    ] {
        assert_eq!(names.find(name).copied(), found, "{name}");
    }
}
