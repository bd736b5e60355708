//! Deliveries: tried again, never doubled within a minute, never out of order.

use crate::payloads::notice;
use astraler_alert::{Channel, Delivery, DeliveryState, GIVE_UP_MS, Retry, SendError, UNSURE_MS, due};
use proptest::prelude::*;

fn failure(retry: Retry) -> Result<(), SendError> {
    Err(SendError {
        retry,
        message: "away".into(),
    })
}

#[test]
fn a_sink_that_is_away_for_an_hour_hears_everything_in_order_within_five_minutes_of_its_return() {
    let mut all: Vec<Delivery> = (1..=3)
        .map(|number| Delivery::new(notice(number, Channel::Slack), 0))
        .collect();
    let (mut heard, mut tries) = (Vec::new(), 0);
    let mut now = 0;
    while heard.len() < 3 {
        let next = due(&all, now).first().map(|delivery| delivery.notice.number);
        if let Some(number) = next {
            let delivery = all.iter_mut().find(|one| one.notice.number == number).unwrap();
            delivery.begin(now);
            tries += 1;
            let away = now < 3_600_000;
            let result = if away {
                failure(Retry::Again { after_s: None })
            } else {
                heard.push(number);
                Ok(())
            };
            delivery.end(now, &result);
        }
        now += 1_000;
        assert!(now < 3_600_000 + 310_000, "too late: {all:?}");
    }
    assert_eq!(heard, [1, 2, 3]);
    assert!(tries < 30, "{tries} attempts");
}

#[test]
fn channels_do_not_wait_for_each_other() {
    let mut all = vec![
        Delivery::new(notice(1, Channel::Email), 0),
        Delivery::new(notice(2, Channel::Slack), 0),
        Delivery::new(notice(3, Channel::Slack), 0),
    ];
    let numbers = |all: &[Delivery], now| -> Vec<u64> {
        due(all, now)
            .iter()
            .map(|delivery| delivery.notice.number)
            .collect()
    };
    assert_eq!(numbers(&all, 0), [1, 2]);
    all[0].begin(0);
    all[1].begin(0);
    assert_eq!(numbers(&all, 0), Vec::<u64>::new(), "under way");
    all[1].end(10, &Ok(()));
    assert_eq!(numbers(&all, 10), [3]);
}

#[test]
fn what_may_have_been_heard_waits_a_minute_also_after_a_kill() {
    let mut delivery = Delivery::new(notice(1, Channel::Slack), 0);
    delivery.begin(5_000);
    let written = serde_json::to_string(&delivery).unwrap();
    let mut read: Delivery = serde_json::from_str(&written).unwrap();
    assert_eq!(read, delivery);
    // The clock of the next process says that hardly any time has passed.
    read.recover(5_001);
    assert_eq!(
        (read.state, read.next_ms),
        (DeliveryState::Waiting, 5_001 + UNSURE_MS)
    );
    delivery.end(6_000, &failure(Retry::Unsure));
    assert_eq!(delivery.next_ms, 6_000 + UNSURE_MS);
}

#[test]
fn who_asks_for_a_pause_gets_it_and_who_refuses_for_good_is_left_alone() {
    let mut delivery = Delivery::new(notice(1, Channel::Slack), 0);
    delivery.begin(0);
    delivery.end(0, &failure(Retry::Again { after_s: Some(30) }));
    assert_eq!(delivery.next_ms, 30_000);
    delivery.begin(30_000);
    delivery.end(
        30_000,
        &failure(Retry::Again {
            after_s: Some(u64::MAX),
        }),
    );
    assert!(delivery.next_ms <= 30_000 + 900_000);
    delivery.begin(930_000);
    delivery.end(930_000, &failure(Retry::Never));
    assert_eq!(
        (delivery.state, delivery.error.as_deref()),
        (DeliveryState::Failed, Some("away"))
    );
}

proptest! {
    #[test]
    fn attempts_end(retries in prop::collection::vec(0..2_u8, 2_000)) {
        let mut delivery = Delivery::new(notice(1, Channel::Email), 7);
        let mut now = 7;
        for retry in retries {
            if delivery.is_done() {
                break;
            }
            prop_assert!(delivery.next_ms >= now);
            now = delivery.next_ms;
            delivery.begin(now);
            let retry = if retry == 0 { Retry::Unsure } else { Retry::Again { after_s: None } };
            delivery.end(now, &failure(retry));
        }
        prop_assert!(delivery.is_done());
        prop_assert!(now - 7 <= GIVE_UP_MS && now - 7 > GIVE_UP_MS - 400_000);
    }
}
