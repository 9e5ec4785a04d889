//! Splices: only what was asked for changes.

use bytes::Bytes;

use super::parse;
use crate::frame::{Frame, FrameError, FrameErrorKind as E, Id, Splice};

#[test]
fn spans_are_replaced_in_order() {
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"result":[10,20,30]}"#);
    let at = |text: &str| {
        let start = std::str::from_utf8(frame.bytes()).unwrap().find(text).unwrap();
        start..start + text.len()
    };
    let id = Id::number(7);
    let spans = [(at("10"), b"1\n1".to_vec()), (at("20,"), Vec::new()), (at("20"), b"x".to_vec())];
    let spliced = frame.splice().id(&id).spans(spans).finish().into_bytes();
    assert_eq!(spliced, r#"{"jsonrpc":"2.0","id":7,"result":[1 1,30]}"#, "one that overlaps is left out");
    let kept = frame.splice().id(&id).spans([(at("\"id\":1"), b"x".to_vec())]).finish().into_bytes();
    assert_eq!(kept, r#"{"jsonrpc":"2.0","id":7,"result":[10,20,30]}"#, "what was changed already stays");
    // Whether the parts are joined or not.
    let long =
        parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{}",[{}0]]}}"#, "x".repeat(40_000), "1,".repeat(50)));
    let start = long.bytes().len() - 4 - 100;
    for count in [3, 50] {
        let spans = (0..count).map(|number| (start + 2 * number..start + 2 * number + 1, b"22".to_vec()));
        let spliced = Frame::parse(long.splice().spans(spans).finish().into_bytes()).unwrap();
        assert_eq!(spliced.len(), long.len() + count);
    }
}

#[test]
fn fields_are_replaced_in_place() {
    let frame = parse(
        r#"{ "params" : {"_meta":{"progressToken": "old" ,"x":1.0e+5},"a":1,"a":2}, "id" : -0 ,"method":"m","jsonrpc":"2.0","e":null}"#,
    );
    let (id, token) = (Id::number(42), Id::from("new"));
    assert_eq!(
        frame.splice().id(&id).progress_token(&token).cancelled_id(&id).finish().into_bytes(),
        r#"{ "params" : {"_meta":{"progressToken": "new" ,"x":1.0e+5},"a":1,"a":2}, "id" : 42 ,"method":"m","jsonrpc":"2.0","e":null}"#
    );
    let last = frame.splice().id(&token).id(&id).finish().into_bytes();
    assert_eq!(Frame::parse(last).unwrap().id(), Some(id), "the last word counts");

    let frame = parse(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a","id":1}}"#);
    assert_eq!(
        frame.splice().cancelled_id(&token).progress_token(&token).id(&token).finish().into_bytes(),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"new","id":1}}"#
    );
    let frame = parse(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5}}"#);
    assert_eq!(
        frame.splice().progress_token(&token).finish().into_bytes(),
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"new"}}"#
    );
}

#[test]
fn what_is_not_edited_is_the_frames_own_bytes() {
    let id = Id::number(1);
    for text in [r#"{"jsonrpc":"2.0","method":"m"}"#, r#"{"jsonrpc":"2.0","id":null,"error":{}}"#] {
        let frame = parse(text);
        let wire = frame.splice().id(&id).progress_token(&id).cancelled_id(&id).finish();
        assert_eq!(wire.parts().len(), 1);
        assert_eq!(wire.parts()[0].as_ptr(), frame.bytes().as_ptr());
        assert_eq!(frame.into_wire().parts()[0], text);
    }
}

#[test]
fn long_frames_are_not_copied() {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(1 << 20));
    let frame = parse(&text);
    let id = Id::number(77);
    let wire = frame.splice().id(&id).finish();
    let parts = wire.parts();
    assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [22, 2, text.len() - 23]);
    assert_eq!(parts[2].as_ptr(), frame.bytes()[23..].as_ptr());
    assert_eq!(wire.len(), text.len() + 1);
    assert_eq!(wire.into_bytes(), text.replacen(":1", ":77", 1));

    let short = parse(r#"{"jsonrpc":"2.0","id":1,"result":""}"#);
    assert_eq!(short.splice().id(&id).finish().parts().len(), 1);
}

#[test]
fn members_are_set() {
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a": {} ,"b":{ "c":1},"d":[]}}"#);
    let set = |path: &[&str], json: &'static str| {
        let wire = frame.splice().set(path, json.as_bytes()).map_err(|error| error.kind)?.finish();
        Ok::<_, E>(String::from_utf8(wire.into_bytes().to_vec()).unwrap())
    };
    let with = |params: &str| Ok(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#));
    assert_eq!(set(&["params", "a"], "\n2"), with(r#"{"a":  2 ,"b":{ "c":1},"d":[]}"#));
    assert_eq!(set(&["params", "a", "x\""], "2"), with(r#"{"a": {"x\"":2} ,"b":{ "c":1},"d":[]}"#));
    assert_eq!(set(&["params", "b", "x"], "2"), with(r#"{"a": {} ,"b":{"x":2, "c":1},"d":[]}"#));
    assert_eq!(set(&["params"], "null"), with("null"));
    assert_eq!(set(&[], "0"), Ok("0".to_owned()));
    assert_eq!(set(&["params", "d", "x"], "2"), Err(E::NoObject("x".into())));
    assert_eq!(set(&["params", "n", "x"], "2"), Err(E::NoObject("x".into())));
}

#[test]
fn members_are_removed() {
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{ "a" : 1 , "b":{"c":1},"d":[] }}"#);
    let remove = |path: &[&str]| {
        let wire = frame.splice().remove(path).unwrap().finish();
        wire.into_bytes()
    };
    let with = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
    assert_eq!(remove(&["params", "a"]), with(r#"{ "b":{"c":1},"d":[] }"#));
    assert_eq!(remove(&["params", "b"]), with(r#"{ "a" : 1 , "d":[] }"#));
    assert_eq!(remove(&["params", "d"]), with(r#"{ "a" : 1 , "b":{"c":1} }"#));
    assert_eq!(remove(&["params", "b", "c"]), with(r#"{ "a" : 1 , "b":{},"d":[] }"#));
    assert_eq!(remove(&["params"]), r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    assert_eq!(&remove(&["params", "d", "x"]), frame.bytes());
    assert_eq!(&remove(&["nope", "x"]), frame.bytes());
    assert_eq!(&remove(&[]), frame.bytes());
}

#[test]
fn changes_that_overlap_are_refused() {
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1,"_meta":{"progressToken":1}}}"#);
    let id = Id::number(2);
    let overlap = |splice: Result<Splice<'_>, _>| match splice {
        Err(FrameError { kind: E::Overlap, .. }) => {}
        _ => panic!("accepted"),
    };
    overlap(frame.splice().progress_token(&id).remove(&["params", "_meta"]));
    overlap(frame.splice().remove(&["params", "a"]).unwrap().set(&["params", "b"], &b"1"[..]));
    overlap(frame.splice().remove(&["params", "a"]).unwrap().remove(&["params", "_meta"]));
    overlap(frame.splice().set(&["params"], &b"{}"[..]).unwrap().set(&["params", "b"], &b"1"[..]));
    let wire = frame.splice().set(&["params"], &b"{}"[..]).unwrap().progress_token(&id).id(&id).finish();
    assert_eq!(wire.into_bytes(), r#"{"jsonrpc":"2.0","id":2,"method":"m","params":{}}"#);
    let splice = frame.splice().progress_token(&id).set(&["params", "b"], &b"1"[..]).unwrap();
    let wire = splice.remove(&["params", "_meta", "x"]).unwrap().set(&["params", "a"], &b"2"[..]).unwrap().finish();
    assert_eq!(
        wire.into_bytes(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"b":1,"a":2,"_meta":{"progressToken":2}}}"#
    );
}
