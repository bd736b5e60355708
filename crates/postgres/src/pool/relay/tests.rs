//! The relay against a model of a server: whatever a client sends, and however its bytes are cut, it hears
//! what it would hear from a server of its own.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// What PostgreSQL does with these messages, as far as names and order go.
#[derive(Default)]
struct Model {
    prepared: HashSet<Vec<u8>>,
    skipping: bool,
    input: BytesMut,
}

impl Model {
    fn feed(&mut self, bytes: &[u8]) -> BytesMut {
        self.input.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some((tag, length)) = head(&self.input).unwrap() {
            if self.input.len() < length {
                break;
            }
            let message = self.input.split_to(length);
            self.answer(tag, &message[5..], &mut out);
        }
        out
    }

    fn answer(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) {
        if tag == b'S' {
            self.skipping = false;
            return ready_for_query(out);
        }
        if self.skipping {
            return;
        }
        let ok = match tag {
            b'P' => {
                let (name, rest) = text(body).unwrap();
                if name.is_empty() {
                    self.prepared.remove(name);
                }
                let good = !rest.starts_with(b"bad") && self.prepared.insert(name.to_vec());
                reply(good, b"1", out)
            }
            b'B' => {
                let name = text(text(body).unwrap().1).unwrap().0;
                reply(self.prepared.contains(name), b"2", out)
            }
            b'D' => {
                let good = self.prepared.contains(text(&body[1..]).unwrap().0);
                reply(good, b"tn", out)
            }
            b'C' => {
                self.prepared.remove(text(&body[1..]).unwrap().0);
                reply(true, b"3", out)
            }
            b'E' => reply(true, b"C", out),
            b'Q' => {
                self.prepared.remove(b"".as_slice());
                reply(!body.starts_with(b"bad"), b"TDC", out);
                ready_for_query(out);
                true
            }
            _ => panic!("{tag}"),
        };
        self.skipping = !ok;
    }
}

fn reply(good: bool, tags: &[u8], out: &mut BytesMut) -> bool {
    for tag in if good { tags } else { b"E" } {
        message(*tag, out, |out| put_text(b"SELECT 1", out));
    }
    good
}

#[derive(Debug, Clone)]
enum Said {
    Parse(&'static str, bool),
    Bind(&'static str),
    Describe(&'static str),
    Close(&'static str),
    Execute,
    Sync,
    Query(bool),
}

impl Said {
    fn write(&self, out: &mut BytesMut) {
        let query = |good: &bool| if *good { "SELECT 1" } else { "bad" };
        let named = |tag, name: &&str, out: &mut BytesMut| {
            message(tag, out, |out| {
                out.put_u8(b'S');
                put_text(name.as_bytes(), out);
            });
        };
        match self {
            Self::Parse(name, good) => message(b'P', out, |out| {
                put_text(name.as_bytes(), out);
                put_text(query(good).as_bytes(), out);
                out.put_u16(0);
            }),
            Self::Bind(name) => message(b'B', out, |out| {
                put_text(b"", out);
                put_text(name.as_bytes(), out);
                out.put_slice(&[0; 6]);
            }),
            Self::Describe(name) => named(b'D', name, out),
            Self::Close(name) => named(b'C', name, out),
            Self::Execute => message(b'E', out, |out| out.put_slice(&[0; 5])),
            Self::Sync => message(b'S', out, |_| {}),
            Self::Query(good) => message(b'Q', out, |out| put_text(query(good).as_bytes(), out)),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let name = || prop::sample::select(vec!["", "a", "b"]);
    prop_oneof![
        3 => (name(), prop::bool::weighted(0.8)).prop_map(|(name, good)| Said::Parse(name, good)),
        3 => name().prop_map(Said::Bind),
        1 => name().prop_map(Said::Describe),
        1 => name().prop_map(Said::Close),
        2 => Just(Said::Execute),
        3 => Just(Said::Sync),
        1 => prop::bool::weighted(0.7).prop_map(Said::Query),
    ]
}

fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Ok(Some((tag, length))) = head(bytes) {
        tags.push(char::from(tag));
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "half a message");
    tags
}

/// Sends bytes through the relay, with another server for each transaction as `choices` says.
fn through_relay(bytes: &[u8], cut: usize, choices: &[bool]) -> BytesMut {
    let mut relay = Relay::default();
    let mut servers = [
        (Model::default(), State::default()),
        (Model::default(), State::default()),
    ];
    let mut choices = choices.iter().cycle();
    let (mut held, mut input, mut heard) = (None, BytesMut::new(), BytesMut::new());
    let mut from_server = BytesMut::new();
    for piece in bytes.chunks(cut) {
        input.extend_from_slice(piece);
        loop {
            let mut out = BytesMut::new();
            let before = input.len();
            let step = match held {
                Some(index) => {
                    let (model, state): &mut (Model, State) = &mut servers[index];
                    let step = relay
                        .client_said(&mut input, Some((state, &mut out)), &mut heard)
                        .unwrap();
                    let answers = model.feed(&out);
                    for part in answers.chunks(cut) {
                        from_server.extend_from_slice(part);
                        relay.server_said(&mut from_server, state, &mut heard).unwrap();
                    }
                    if relay.is_free() && relay.pinned.is_none() {
                        relay.release();
                        held = None;
                    }
                    step
                }
                None => relay.client_said(&mut input, None, &mut heard).unwrap(),
            };
            match step {
                Step::NeedServer => {
                    relay.hold();
                    held = Some(usize::from(*choices.next().unwrap_or(&false)));
                }
                Step::Wait(_) if held.is_none() && !input.is_empty() && heard.is_empty() => break,
                // Answers may have made way for what was held back.
                Step::Wait(_) if input.len() < before => {}
                Step::Wait(_) => break,
                Step::Terminate => unreachable!("nobody said so"),
            }
        }
    }
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_client_hears_what_a_server_of_its_own_would_say(
        conversation in prop::collection::vec(said(), 0..40),
        cut in 1usize..200,
        choices in prop::collection::vec(any::<bool>(), 1..10),
    ) {
        let mut bytes = BytesMut::new();
        conversation.iter().for_each(|said| said.write(&mut bytes));
        Said::Sync.write(&mut bytes);
        let private = Model::default().feed(&bytes);
        let relayed = through_relay(&bytes, cut, &choices);
        prop_assert_eq!(tags(&relayed), tags(&private), "{:?}", conversation);
    }

    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"QPBDCESHXdcfF\0\x05\x08\x10".to_vec()), any::<u8>()], 0..300),
        cut in 1usize..40,
    ) {
        let (mut relay, mut state) = (Relay::default(), State::default());
        let (mut input, mut client, mut server) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        let (mut answers, mut other) = (BytesMut::new(), BytesMut::new());
        for piece in bytes.chunks(cut) {
            input.extend_from_slice(piece);
            if relay.client_said(&mut input, Some((&mut state, &mut server)), &mut client).is_err() {
                break;
            }
            answers.extend_from_slice(piece);
            if relay.server_said(&mut answers, &mut state, &mut other).is_err() {
                break;
            }
        }
    }
}
