use crate::store;
use astraler_store::{AlertChange, AlertDelivery, Store};
use serde_json::{Value, json};

fn delivery(number: u64, done: bool) -> AlertDelivery {
    AlertDelivery {
        number,
        done,
        body: json!({ "number": number }),
    }
}

fn change(store: &Store, deliveries: &[AlertDelivery], ended: &[(u64, Value)]) {
    let book = json!({ "sequence": 1 });
    let change = AlertChange {
        book: &book,
        deliveries,
        ended,
    };
    store.alerts_change(&change, 5).unwrap();
}

#[test]
fn a_book_and_what_is_to_be_said_are_kept_together() {
    let (store, _folder) = store();
    assert_eq!(store.alert_book().unwrap(), None);
    change(
        &store,
        &[delivery(3, false), delivery(2, false)],
        &[(1, json!("over"))],
    );
    assert_eq!(store.alert_book().unwrap(), Some(json!({ "sequence": 1 })));
    let numbers =
        |all: Vec<Value>| -> Vec<u64> { all.iter().filter_map(|one| one["number"].as_u64()).collect() };
    assert_eq!(numbers(store.alert_deliveries_open().unwrap()), [2, 3]);
    store.alert_delivery_put(&delivery(2, true), 6).unwrap();
    assert_eq!(numbers(store.alert_deliveries_open().unwrap()), [3]);
    assert_eq!(numbers(store.alert_deliveries(10).unwrap()), [3, 2]);
    assert_eq!(store.alert_history(10).unwrap(), [json!("over")]);

    // One of them is too large: nothing of it is kept.
    let book = json!({ "sequence": 2 });
    let huge = AlertDelivery {
        body: json!("x".repeat(5 << 20)),
        ..delivery(9, false)
    };
    let refused = AlertChange {
        book: &book,
        deliveries: &[delivery(8, false), huge],
        ended: &[],
    };
    store.alerts_change(&refused, 7).unwrap_err();
    assert_eq!(store.alert_book().unwrap(), Some(json!({ "sequence": 1 })));
    assert_eq!(numbers(store.alert_deliveries_open().unwrap()), [3]);
}

#[test]
fn what_has_ended_is_kept_for_a_while_and_what_has_not_for_ever() {
    let (store, _folder) = store();
    let open = [delivery(1, false)];
    change(&store, &open, &[]);
    let done: Vec<AlertDelivery> = (2..1_500).map(|number| delivery(number, true)).collect();
    let ended: Vec<(u64, Value)> = (1..1_500).map(|number| (number, json!(number))).collect();
    change(&store, &done, &ended);
    assert_eq!(store.alert_deliveries_open().unwrap().len(), 1);
    assert_eq!(store.alert_deliveries(5_000).unwrap().len(), 1_000);
    let history = store.alert_history(5_000).unwrap();
    assert_eq!((history.len(), history[0].as_u64()), (1_000, Some(1_499)));
}
