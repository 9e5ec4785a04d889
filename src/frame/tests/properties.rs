//! Properties of any text, against the oracle and against `serde_json`.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

use super::{error_to_sender, oracle};
use crate::frame::{Frame, FrameError, Id, Incoming, split};

const STRING_LITERALS: &[&str] = &[
    r#""""#,
    r#""a""#,
    r#""id""#,
    r#""\u0069d""#,
    r#""_meta""#,
    r#""requestId""#,
    r#""progressToken""#,
    r#""progress\u0054oken""#,
    r#""2.0""#,
    r#""\ud800""#,
    r#""\udc00x\ud83e\udd80""#,
    r#""Zürich 🦀""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#""\\""#,
    r#""notifications/progress""#,
    r#""notifications\/cancelled""#,
    r#""eight by eight and eight again, and then eight more: sixty-four!! ""#,
];
const SCALARS: &[&str] =
    &["0", "-0", "1", "17", "1.0e+5", "1E400", "-1.5", "18446744073709551616", "null", "true", "false"];
const BYTE_ORDER_MARK: &str = "\u{feff}";
const WHITE_SPACE: &[&str] = &["", "", "", "", " ", "\n", "\r\n\t "];
const SOUP: &[&str] = &["{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "00", ".", "e", "-", "\u{1}", "tru", "\u{e9}"];

fn word() -> impl Strategy<Value = &'static str> {
    select(STRING_LITERALS)
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![word(), select(SCALARS)].prop_map(str::to_owned)
}

fn space() -> impl Strategy<Value = &'static str> {
    select(WHITE_SPACE)
}

/// The text of an object with these members, and with this space everywhere.
fn object(members: &[(&str, String)], space: &str) -> String {
    let members: Vec<_> =
        members.iter().map(|(key, value)| format!("{space}{key}{space}:{space}{value}{space}")).collect();
    format!("{{{}}}", members.join(","))
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            (vec((word(), inner), 0..4), space()).prop_map(|(members, space)| object(&members, space)),
        ]
    })
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![4 => word().prop_map(str::to_owned), 4 => select(&SCALARS[..8]).prop_map(str::to_owned), 1 => value()]
}

/// Params in which the routed fields are likely.
fn params() -> impl Strategy<Value = String> {
    let meta = (vec((prop_oneof![Just("\"progressToken\""), word()], id()), 1..3), space())
        .prop_map(|(members, space)| object(&members, space));
    let member = prop_oneof![
        3 => prop_oneof![9 => meta, 1 => value()].prop_map(|meta| ("\"_meta\"", meta)),
        2 => id().prop_map(|id| ("\"requestId\"", id)),
        2 => id().prop_map(|id| ("\"progressToken\"", id)),
        2 => (word(), value()),
    ];
    prop_oneof![9 => (vec(member, 0..3), space()).prop_map(|(members, space)| object(&members, space)), 1 => value()]
}

/// Mostly messages.
fn message() -> impl Strategy<Value = String> {
    const ROUTED_METHODS: &[&str] =
        &[r#""notifications/progress""#, r#""notifications\/cancelled""#, r#""tools/call""#, r#""x\ud800""#];
    let method = prop_oneof![9 => select(ROUTED_METHODS).prop_map(str::to_owned), 1 => value()];
    let body = prop_oneof![
        6 => (method, prop::option::weighted(0.9, params())).prop_map(|(method, params)| {
            let method = ("\"m\\u0065thod\"", method);
            std::iter::once(method).chain(params.map(|params| ("\"params\"", params))).collect::<Vec<_>>()
        }),
        1 => value().prop_map(|value| vec![("\"result\"", value)]),
        1 => prop_oneof![value(), Just("{}".to_owned())].prop_map(|value| vec![("\"error\"", value)]),
    ];
    let id = prop_oneof![Just("\"id\""), Just("\"\\u0069d\"")].prop_flat_map(|key| (Just(key), id()));
    let names = &["\"id\"", "\"jsonrpc\"", "\"method\"", "\"params\"", "\"result\"", "\"error\""][..];
    let extra = prop_oneof![4 => (word(), value()), 1 => (select(names), value())];
    let pad = prop_oneof![9 => Just(0), 1 => Just(17 * 1024_usize)];
    let members = (body, prop::option::weighted(0.6, id), prop_oneof![4 => Just(None), 1 => extra.prop_map(Some)], pad)
        .prop_map(|(mut members, id, extra, pad)| {
            members.push(("\"jsonrpc\"", "\"2.0\"".to_owned()));
            members.extend(id.into_iter().chain(extra));
            if pad > 0 {
                members.push(("\"pad\"", format!("\"{}\"", "p".repeat(pad))));
            }
            members
        })
        .prop_shuffle();
    (members, space()).prop_map(|(members, space)| format!("{space}{}{space}", object(&members, space)))
}

/// A message with a few bytes damaged.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let soup = prop_oneof![select(SOUP), word(), select(SCALARS)].prop_map(|piece| piece.as_bytes().to_vec());
    let piece = prop_oneof![soup, vec(any::<u8>(), 0..3)];
    (message(), vec((any::<Index>(), 0..3_usize, piece), 0..3)).prop_map(|(message, edits)| {
        let mut bytes = message.into_bytes();
        for (index, drop, piece) in edits {
            let at = index.index(bytes.len() + 1);
            let end = bytes.len().min(at + drop);
            bytes.splice(at..end, piece);
        }
        bytes
    })
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![4 => select(SOUP), 2 => word(), 1 => select(SCALARS), 1 => space()], 0..40)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

/// Accepts what the oracle accepts, and tells what is no JSON from what is no message.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    // Neither oracle knows of byte order marks.
    let plain = bytes.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(bytes);
    let tree = oracle::read(plain);
    let serde: Result<&RawValue, _> = serde_json::from_slice(plain);
    prop_assert_eq!(tree.is_some(), serde.is_ok(), "the oracles differ: {:?}", serde.err());
    match Frame::parse(bytes.to_vec()) {
        Ok(frame) => {
            prop_assert!(tree.is_some_and(|tree| tree.is_message()));
            prop_assert!(!frame.bytes().iter().any(|byte| matches!(byte, b'\n' | b'\r')));
            let again = Frame::parse(frame.bytes().clone());
            prop_assert!(again.is_ok_and(|again| again.bytes() == frame.bytes()));
        }
        Err(error) => {
            prop_assert_eq!(error.code() == -32700, tree.is_none(), "{}", &error);
            prop_assert!(tree.is_none_or(|tree| !tree.is_message()), "{}", &error);
            prop_assert!(error.offset <= bytes.len());
            prop_assert!(Frame::parse(error_to_sender(&error).into_bytes()).is_ok_and(|answer| answer.is_error()));
        }
    }
    let _ = split(Bytes::copy_from_slice(bytes));
    Ok(())
}

/// Everything that a frame, or the error instead of one, shows.
fn seen(frame: &Result<Frame, FrameError>) -> String {
    match frame {
        Ok(frame) => format!("{frame:?} {:?} {:?} {:?}", frame.progress_token(), frame.cancelled_id(), frame.bytes()),
        Err(FrameError { kind, id, about, named, offset: _ }) => format!("{kind:?} {id:?} {about:?} {named:?}"),
    }
}

proptest! {
    // More of them: `PROPTEST_CASES=100000 cargo test --release frame::tests::properties`.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..64)) {
        agree(&bytes)?;
    }

    #[test]
    fn soups_are_judged(bytes in soup()) {
        agree(&bytes)?;
    }

    #[test]
    fn messages_are_judged(text in message()) {
        agree(text.as_bytes())?;
        let marked = format!("{BYTE_ORDER_MARK}{text}");
        agree(marked.as_bytes())?;
        prop_assert_eq!(seen(&Frame::parse(marked)), seen(&Frame::parse(text)));
    }

    #[test]
    fn damaged_messages_are_judged(bytes in damaged()) {
        agree(&bytes)?;
    }

    #[test]
    fn splices_change_what_they_should_and_can_be_undone(text in message(), ids in prop::array::uniform3(id())) {
        let Ok(frame) = Frame::parse(text) else { return Ok(()) };
        let [Some(id), Some(token), Some(cancelled)] = ids.map(|id| Id::from_raw(id.as_bytes())) else { return Ok(()) };
        let wire = frame.splice().cancelled_id(&cancelled).id(&id).progress_token(&token).finish();
        prop_assert_eq!(wire.len(), wire.parts().iter().map(Bytes::len).sum::<usize>());
        let spliced = Frame::parse(wire.into_bytes()).unwrap();
        prop_assert_eq!(spliced.kind(), frame.kind());
        prop_assert_eq!(spliced.method(), frame.method());
        prop_assert_eq!(spliced.result(), frame.result());
        let raw = |id: Option<Id>| id.map(|id| id.raw().to_vec());
        let new = |old: Option<Id>, new: &Id| old.map(|_| new.raw().to_vec());
        prop_assert_eq!(raw(spliced.id()), new(frame.id(), &id));
        prop_assert_eq!(raw(spliced.progress_token()), new(frame.progress_token(), &token));
        prop_assert_eq!(raw(spliced.cancelled_id()), new(frame.cancelled_id(), &cancelled));

        let old = |old: Option<Id>| old.unwrap_or_else(|| Id::number(0));
        let (id, token, cancelled) = (old(frame.id()), old(frame.progress_token()), old(frame.cancelled_id()));
        let back = spliced.splice().id(&id).progress_token(&token).cancelled_id(&cancelled).finish();
        prop_assert_eq!(&back.into_bytes(), frame.bytes());
    }

    #[test]
    fn members_set_are_found_and_members_removed_are_not(text in message(), key in word(), json in value()) {
        let Ok(frame) = Frame::parse(text) else { return Ok(()) };
        let name = Id::from_raw(key.as_bytes()).and_then(|key| key.to_text()).unwrap();
        let path = ["params", &name];
        let Ok(splice) = frame.splice().set(&path, json.as_bytes()) else { return Ok(()) };
        let Ok(set) = Frame::parse(splice.finish().into_bytes()) else {
            // Only a second field of those that may stand once can make the message invalid.
            return Ok(());
        };
        let flat = json.replace(['\n', '\r'], " ");
        prop_assert_eq!(set.lookup(&path).unwrap(), Some(flat.as_bytes()));
        let removed = Frame::parse(set.splice().remove(&path).unwrap().finish().into_bytes()).unwrap();
        prop_assert_eq!(removed.lookup(&path), Ok(None));
    }

    #[test]
    fn a_batch_is_its_elements(elements in vec(prop_oneof![4 => message(), 1 => value()], 1..5), space in space()) {
        let text = format!("{space}[{}]{space}", elements.join(","));
        let Ok(Incoming::Batch(found)) = split(text) else { return Err(TestCaseError::fail("no batch")) };
        let found: Vec<_> = found.iter().map(seen).collect();
        let alone: Vec<_> = elements.into_iter().map(|element| seen(&Frame::parse(element))).collect();
        prop_assert_eq!(found, alone);
    }

    #[test]
    fn equal_ids_have_equal_text(one in word(), other in word()) {
        let [one, other] = [one, other].map(|text| (oracle::read(text.as_bytes()), Id::from_raw(text.as_bytes())));
        prop_assert_eq!(one.0 == other.0, one.1 == other.1);
    }

    #[test]
    fn any_text_makes_an_id(text in any::<String>()) {
        let id = Id::from(&*text);
        prop_assert_eq!(Id::from_raw(id.raw()), Some(id.clone()));
        prop_assert_eq!(id.to_text(), Some(text));
    }
}
