//! Batches, ids, lookups, permits, and messages of our own making.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{holding, id, parse};
use crate::frame::{
    FrameErrorKind as E, Id, Incoming, MAX_BATCH, MAX_DEPTH, Permit, Wire, error_response, notification, request,
    response, split,
};

#[test]
fn batches_are_split() {
    let text = " [ {\"jsonrpc\":\"2.0\",\n\"id\":1,\"method\":\"a\"} ,7, {\"jsonrpc\":\"2.0\",\"method\":\"b\"},[]\n] ";
    let bytes = Bytes::from(text.to_owned());
    let Incoming::Batch(elements) = split(bytes).unwrap() else { panic!("no batch") };
    assert_eq!(elements.len(), 4);
    assert_eq!(elements[0].as_ref().unwrap().bytes(), "{\"jsonrpc\":\"2.0\", \"id\":1,\"method\":\"a\"}");
    let error = elements[1].as_ref().unwrap_err();
    assert_eq!((&error.kind, error.offset), (&E::NotAnObject, text.find('7').unwrap()));
    assert_eq!(elements[2].as_ref().unwrap().method(), Some("b"));
    assert_eq!(elements[3].as_ref().unwrap_err().kind, E::NotAnObject);

    let bytes = Bytes::from_static(br#"[{"jsonrpc":"2.0","method":"b"}]"#);
    let Incoming::Batch(elements) = split(bytes.clone()).unwrap() else { panic!("no batch") };
    assert_eq!(elements[0].as_ref().unwrap().bytes().as_ptr(), bytes[1..].as_ptr(), "nothing was copied");

    assert!(matches!(split("{\"jsonrpc\":\"2.0\",\"method\":\"b\"}\n"), Ok(Incoming::One(_))));
    for (text, kind, offset) in [
        ("[]", E::EmptyBatch, 0),
        (" [ ] ", E::EmptyBatch, 1),
        ("[] 1", E::Trailing, 3),
        ("[1,]", E::Unexpected, 3),
        ("[1 1]", E::Unexpected, 3),
        (" [1", E::Truncated, 3),
        ("[1]]", E::Trailing, 3),
        ("[\"a\nb\"]", E::ControlCharacter, 3),
        (" {", E::Truncated, 2),
        ("  ", E::Empty, 2),
    ] {
        let error = split(text).unwrap_err();
        assert_eq!((error.kind, error.offset), (kind, offset), "{text}");
    }
    let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert!(matches!(split(many(MAX_BATCH)), Ok(Incoming::Batch(all)) if all.len() == MAX_BATCH));
    let error = split(many(MAX_BATCH + 1)).unwrap_err();
    assert_eq!((error.kind.clone(), error.code()), (E::BatchTooLong, -32600));
    // The array is not one of an element's levels.
    let deep = holding(&("[".repeat(MAX_DEPTH - 2) + &"]".repeat(MAX_DEPTH - 2)));
    assert!(matches!(split(format!("[{deep}]")), Ok(Incoming::Batch(all)) if all[0].is_ok()));
}

#[test]
fn ids_are_equal_when_a_peer_may_take_them_so() {
    for (one, other, equal) in [
        ("1", "1", true),
        ("1", "1.0", false),
        ("1", "\"1\"", false),
        (r#""a""#, r#""\u0061""#, true),
        (r#""\/""#, r#""/""#, true),
        (r#""\n""#, r#""\u000A""#, true),
        (r#""é""#, r#""\u00e9""#, true),
        (r#""🦀""#, r#""\ud83e\udd80""#, true),
        (r#""\"""#, r#""\u0022""#, true),
        (r#""\\u0061""#, r#""a""#, false),
        (r#""\\u0061""#, r#""\u005cu0061""#, true),
        (r#""a""#, r#""A""#, false),
        (r#""""#, r#""\"""#, false),
    ] {
        let (one, other) = (id(one), id(other));
        assert_eq!(one == other, equal, "{one} {other}");
        assert_eq!(HashSet::from([one.clone()]).contains(&other), equal, "{one} {other}");
        assert_ne!(one.raw(), b"", "the spelling is kept");
    }
    assert_eq!(id(" \"\\u0061\" ").as_str(), r#""\u0061""#);
    assert_eq!(id(r#""\u0061""#).to_text().as_deref(), Some("a"));
    assert_eq!(id("5").to_text(), None);
    for bad in ["", "null", "[]", "01", "1 2", "\"", "\u{c}1", "\"\\x\"", "tru"] {
        assert_eq!(Id::from_raw(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn ids_are_made_and_read_as_numbers() {
    for number in [0, 1, 9, 10, 4_294_967_296, u64::MAX] {
        let made = Id::number(number);
        assert_eq!(made.as_str(), number.to_string());
        assert_eq!(made.as_u64(), Some(number));
    }
    let made = Id::from("a\"\\\n\u{1}é");
    assert_eq!(made.as_str(), r#""a\"\\\n\u0001é""#);
    assert_eq!(made.to_text().as_deref(), Some("a\"\\\n\u{1}é"));
    assert_eq!(format!("{made} {:?}", Id::number(3)), r#""a\"\\\n\u0001é" Id(3)"#);
}

#[test]
fn lookups_walk_objects_and_refuse_duplicates_on_their_way() {
    let frame = parse(
        r#"{"x":{"y":1,"y":2},"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"b\"c": [1] ,"d":1,"d":2,"n":null},"t":1,"t":2,"z":{"k":1}}}"#,
    );
    let find = |path: &[&str]| frame.lookup(path).map(|found| found.map(|raw| str::from_utf8(raw).unwrap().to_owned()));
    assert_eq!(find(&["params", "a", "b\"c"]), Ok(Some("[1]".into())));
    assert_eq!(find(&["params", "a", "n"]), Ok(Some("null".into())));
    assert_eq!(find(&["params", "z", "k"]), Ok(Some("1".into())));
    assert_eq!(find(&["jsonrpc"]), Ok(Some("\"2.0\"".into())));
    assert_eq!(find(&["params", "a", "b\"c", "0"]), Ok(None), "arrays are not walked");
    for missing in [&["nope"][..], &["params", "q"], &["params", "a", "n", "x"], &["result"], &["error", "code"]] {
        assert_eq!(find(missing), Ok(None));
    }
    assert_eq!(find(&[]).unwrap().unwrap().as_bytes(), frame.bytes());
    for (path, name) in [(&["params", "a", "d"][..], "d"), (&["params", "t", "u"], "t"), (&["x", "y"], "y")] {
        let error = frame.lookup(path).unwrap_err();
        assert_eq!((error.kind, error.id), (E::Duplicate(name.into()), Some(Id::number(1))));
    }
    assert_eq!(parse(r#"{"jsonrpc":"2.0","method":"m","params":["a"]}"#).lookup(&["params", "a"]), Ok(None));
}

#[test]
fn permits_live_as_long_as_the_bytes() {
    let held = Arc::new(());
    let frame = parse(&holding("1")).with_permit(Permit::new(held.clone())).with_permit(Permit::new(held.clone()));
    assert_eq!(Arc::strong_count(&held), 3, "both are held");
    let copy = frame.share();
    assert_eq!(copy.bytes(), frame.bytes());
    let mut wire = frame.into_wire();
    let other = wire.clone_parts();
    assert_eq!(Arc::strong_count(&held), 3);
    let permit = wire.take_permit();
    assert!(wire.take_permit().is_none());
    drop((wire, copy));
    assert_eq!(Arc::strong_count(&held), 3);
    let other = other.with_permit(permit).with_permit(None);
    assert_eq!(Arc::strong_count(&held), 3);
    drop(other);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_batch_shares_its_permit() {
    let held = Arc::new(());
    let message = r#"{"jsonrpc":"2.0","method":"m"}"#;
    let incoming = split(format!("[{message},1,{message}]")).unwrap().with_permit(Permit::new(held.clone()));
    let Incoming::Batch(mut elements) = incoming.with_permit(None) else { panic!("no batch") };
    let last = elements.pop().unwrap().unwrap().into_wire();
    drop(elements);
    assert_eq!(Arc::strong_count(&held), 2);
    drop(last);
    assert_eq!(Arc::strong_count(&held), 1);
    let one = split(message).unwrap().with_permit(Permit::new(held.clone()));
    assert_eq!(Arc::strong_count(&held), 2);
    drop(one);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn messages_are_made() {
    let text = |wire: Wire| String::from_utf8(wire.into_bytes().to_vec()).unwrap();
    let made = text(error_response(Some(&id("1.0")), -32000, "no \"x\"\n", Some("{\"a\":\n1}")));
    assert_eq!(made, r#"{"jsonrpc":"2.0","id":1.0,"error":{"code":-32000,"message":"no \"x\"\n","data":{"a": 1}}}"#);
    assert!(parse(&made).is_error());
    let made = text(error_response(None, 1, "", None));
    assert_eq!(made, r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#);
    assert!(parse(&made).is_error());
    assert_eq!(text(notification("a/b", None)), r#"{"jsonrpc":"2.0","method":"a/b"}"#);
    assert_eq!(
        text(request(&Id::from("x"), "a\"", Some("{}"))),
        r#"{"jsonrpc":"2.0","id":"x","method":"a\"","params":{}}"#
    );
    assert_eq!(text(response(&Id::number(5), "[]")), r#"{"jsonrpc":"2.0","id":5,"result":[]}"#);
}
