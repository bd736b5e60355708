//! From what releases were built.

use crate::store;

#[test]
fn a_release_knows_the_trees_that_it_was_built_from() {
    let (store, _folder) = store();
    assert!(store.release_trees("sha256:a").unwrap().is_empty());
    store.release_source_add("sha256:a", "tree-1", 7, 10).unwrap();
    store.release_source_add("sha256:a", "tree-2", 8, 20).unwrap();
    store.release_source_add("sha256:b", "tree-1", 9, 30).unwrap();
    // Found again by a later run: it was built by the first one.
    store.release_source_add("sha256:a", "tree-1", 10, 40).unwrap();
    let trees = store.release_trees("sha256:a").unwrap();
    assert_eq!(trees, [("tree-2".to_owned(), 8), ("tree-1".to_owned(), 7)]);
    assert!(
        store.release_source_add(&"a".repeat(129), "t", 1, 1).is_err(),
        "what is no digest has no place"
    );
}
