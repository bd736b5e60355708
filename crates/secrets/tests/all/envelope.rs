use astraler_secrets::{EnvelopeError, EnvironmentKey, RootKey, Sealed, Secret, Vault, WrappedKey};
use proptest::prelude::*;

fn vault(scopes: &[&str]) -> Vault {
    let mut vault = Vault::new(RootKey::generate());
    for scope in scopes {
        vault.create_key(scope).unwrap();
    }
    vault
}

fn label() -> impl Strategy<Value = (String, String, u64)> {
    // Short and alike on purpose: collisions of the encoding would show here.
    ("[ab:/]{1,3}", "[ab:/]{1,3}", 0u64..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn opens_as_sealed_and_as_nothing_else((scope, name, version) in label(), other in label(), text in ".{0,200}") {
        let vault = vault(&[&scope]);
        let secret = Secret::new(text);
        let sealed = vault.seal(&scope, &name, version, &secret).unwrap();
        prop_assert_eq!(&vault.open(&scope, &name, version, &sealed).unwrap(), &secret);
        if other != (scope.clone(), name.clone(), version) {
            // Under the same key, so that only the associated data can tell them apart.
            prop_assert!(vault.open(&scope, &other.1, other.2, &sealed).is_err() || (other.1, other.2) == (name, version));
        }
    }

    #[test]
    fn any_flipped_bit_is_found(text in ".{0,60}", bit in 0usize..8) {
        let vault = vault(&["production"]);
        let sealed = vault.seal("production", "api", 1, &Secret::new(text)).unwrap();
        for position in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[position] ^= 1 << bit;
            prop_assert!(vault.open("production", "api", 1, &Sealed::from_bytes(bytes)).is_err(), "byte {}", position);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut vault = vault(&["s"]);
        prop_assert!(vault.open("s", "n", 1, &Sealed::from_bytes(bytes.clone())).is_err());
        prop_assert!(vault.add_key("s", &WrappedKey::from_bytes(bytes)).is_err());
    }
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    let vault = vault(&["staging"]);
    let sealed = vault
        .seal("staging", "api", 1, &Secret::new("canary-value"))
        .unwrap();
    for length in 0..sealed.as_bytes().len() {
        assert!(
            vault
                .open(
                    "staging",
                    "api",
                    1,
                    &Sealed::from_bytes(&sealed.as_bytes()[..length])
                )
                .is_err()
        );
    }
    let mut longer = sealed.as_bytes().to_vec();
    longer.push(0);
    assert!(
        vault
            .open("staging", "api", 1, &Sealed::from_bytes(longer))
            .is_err()
    );
}

/// Even when the same key wraps both scopes: only the associated data stands between them.
#[test]
fn a_scope_with_the_same_key_cannot_read_anothers_secret() {
    let root = RootKey::generate();
    let wrapped = EnvironmentKey::create(&root, "staging").unwrap();
    let mut vault = Vault::new(root);
    vault.add_key("staging", &wrapped).unwrap();
    let error = vault.add_key("production", &wrapped).unwrap_err();
    assert!(matches!(error, EnvelopeError::Damaged { .. }), "{error}");
    assert_eq!(
        vault
            .open("production", "api", 1, &Sealed::from_bytes([]))
            .unwrap_err(),
        {
            // A damaged ciphertext is found before the key is looked for; neither opens.
            EnvelopeError::Damaged {
                what: "secret `api` of `production`, version 1".into(),
            }
        }
    );
    let sealed = vault.seal("staging", "api", 1, &Secret::new("x")).unwrap();
    assert_eq!(
        vault.open("production", "api", 1, &sealed).unwrap_err(),
        EnvelopeError::NoKey {
            scope: "production".into()
        }
    );
}

/// A data key and a text of two secrets under one scope key cannot be combined.
#[test]
fn halves_of_two_secrets_do_not_fit() {
    let vault = vault(&["p"]);
    let a = vault.seal("p", "a", 1, &Secret::new("text")).unwrap();
    let b = vault.seal("p", "a", 1, &Secret::new("other")).unwrap();
    let cut = 81;
    let mixed = [&a.as_bytes()[..cut], &b.as_bytes()[cut..]].concat();
    assert!(vault.open("p", "a", 1, &Sealed::from_bytes(mixed)).is_err());
    assert_ne!(
        a,
        vault.seal("p", "a", 1, &Secret::new("text")).unwrap(),
        "the same text never seals the same"
    );
}

#[test]
fn rotating_the_root_key_rewraps_and_leaves_secrets_as_they_are() {
    let (old, new) = (RootKey::generate(), RootKey::generate());
    let wrapped = EnvironmentKey::create(&old, "production").unwrap();
    let rewrapped = EnvironmentKey::rewrap(&old, &new, "production", &wrapped).unwrap();
    let (old_id, new_id) = (old.id(), new.id());
    let mut before = Vault::new(old);
    before.add_key("production", &wrapped).unwrap();
    let sealed = before.seal("production", "db", 3, &Secret::new("v3")).unwrap();
    let mut after = Vault::new(new);
    after.add_key("production", &rewrapped).unwrap();
    assert_eq!(after.open("production", "db", 3, &sealed).unwrap().expose(), "v3");
    let error = after.add_key("production", &wrapped).unwrap_err();
    assert_eq!(
        error,
        EnvelopeError::WrongKey {
            what: "the key of `production`".into(),
            needs: old_id,
            has: new_id
        }
    );
}

#[test]
fn rotating_a_scope_key_rewraps_its_secrets() {
    let root = RootKey::generate();
    let first = EnvironmentKey::create(&root, "production").unwrap();
    let second = EnvironmentKey::create(&root, "production").unwrap();
    let new = EnvironmentKey::unwrap(&root, "production", &second).unwrap();
    let mut vault = Vault::new(root);
    vault.add_key("production", &first).unwrap();
    let sealed = vault.seal("production", "db", 1, &Secret::new("value")).unwrap();
    let moved = vault.rewrap("production", "db", 1, &sealed, &new).unwrap();
    assert!(
        vault.open("production", "db", 1, &moved).is_err(),
        "the old key no longer opens it"
    );
    vault.add_key("production", &second).unwrap();
    assert_eq!(
        vault.open("production", "db", 1, &moved).unwrap().expose(),
        "value"
    );
    assert!(vault.open("production", "db", 1, &sealed).is_err());
    assert_eq!(
        sealed.as_bytes()[81..],
        moved.as_bytes()[81..],
        "the text itself is not touched"
    );
}

#[test]
fn bounds_are_held() {
    let vault = vault(&["s"]);
    let refused = |scope: &str, name: &str, text: String| {
        matches!(
            vault.seal(scope, name, 1, &Secret::new(text)),
            Err(EnvelopeError::Refused { .. })
        )
    };
    assert!(refused("s", "", "x".into()) && refused("", "n", "x".into()));
    assert!(refused("s", &"n".repeat(257), "x".into()));
    assert!(refused("s", "n", "x".repeat((1 << 20) + 1)));
    assert!(
        vault
            .seal("s", &"n".repeat(256), 1, &Secret::new("x".repeat(1 << 20)))
            .is_ok()
    );
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret_or_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    RootKey::generate().save_new(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let digits = text.split(' ').nth(1).unwrap();
    let root = RootKey::load(&path).unwrap();
    let wrapped = EnvironmentKey::create(&root, "production").unwrap();
    let key = EnvironmentKey::unwrap(&root, "production", &wrapped).unwrap();
    let mut vault = Vault::new(RootKey::load(&path).unwrap());
    vault.add_key("production", &wrapped).unwrap();
    let secret = Secret::new("canary-5ecret");
    let sealed = vault.seal("production", "api", 1, &secret).unwrap();
    let error = vault.open("production", "api", 2, &sealed).unwrap_err();
    let shown = format!("{root:?} {vault:#?} {key:?} {wrapped:?} {secret:?} {sealed:?} {error} {error:?}");
    assert!(!shown.contains("canary") && !shown.contains(digits));
    // Neither as the decimal list that a derived Debug of the bytes would print.
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    assert!(!shown.contains(&list(b"canary")));
    let raw: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    assert!(!shown.contains(&list(&raw[..4])));
}
