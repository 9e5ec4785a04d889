//! Every rule of what a message is, one by one, to the byte.

use bytes::Bytes;

use super::{error_to_sender, holding, id, parse, raw, refusal};
use crate::frame::{Frame, FrameErrorKind as E, Id, Kind, MAX_DEPTH};

#[test]
fn kinds_are_told_apart() {
    for (text, kind, id, method) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request, Some("1"), Some("ping")),
        (r#"{"jsonrpc":"2.0","method":"ping"}"#, Kind::Notification, None, Some("ping")),
        (r#"{"jsonrpc":"2.0","id":"a","result":null}"#, Kind::Response, Some("\"a\""), None),
        (r#"{"jsonrpc":"2.0","id":"a","result":{}}"#, Kind::Response, Some("\"a\""), None),
        (r#"{"jsonrpc":"2.0","id":2,"error":{}}"#, Kind::Response, Some("2"), None),
        (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, Kind::Response, None, None),
        (r#"{"jsonrpc":"2.0","error":{}}"#, Kind::Response, None, None),
        (r#"{"jsonrpc":"2.0","method":""}"#, Kind::Notification, None, Some("")),
    ] {
        let frame = parse(text);
        assert_eq!(frame.kind(), kind, "{text}");
        assert_eq!(raw(frame.id()).as_deref(), id, "{text}");
        assert_eq!(frame.method(), method, "{text}");
        assert_eq!(frame.is_error(), text.contains("error"), "{text}");
        assert_eq!(frame.bytes(), text, "the bytes are untouched");
    }
}

#[test]
fn members_come_in_any_order_and_unknown_ones_pass() {
    let text = r#"{"params":{"_meta":{"progressToken":"t"}},"x":[{}],"x":1,"method":"m","id":7,"jsonrpc":"2.0"}"#;
    let frame = parse(text);
    assert_eq!(frame.bytes(), text);
    assert_eq!(frame.method(), Some("m"));
    assert_eq!(raw(frame.id()).as_deref(), Some("7"));
    assert_eq!(raw(frame.progress_token()).as_deref(), Some("\"t\""));
    assert_eq!(frame.lookup(&["params"]), Ok(Some(&br#"{"_meta":{"progressToken":"t"}}"#[..])));
}

#[test]
fn parts_are_raw() {
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"result": {"a" : [1, 1.0e+5]} }"#);
    assert_eq!(frame.result(), Some(&br#"{"a" : [1, 1.0e+5]}"#[..]));
    assert_eq!(frame.lookup(&["params"]), Ok(None));
    assert_eq!(frame.lookup(&["error"]), Ok(None));
    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#);
    assert_eq!(frame.lookup(&["error"]), Ok(Some(&br#"{"code":-1,"message":"no"}"#[..])));
}

#[test]
fn params_may_be_an_object_an_array_or_null() {
    for params in ["{}", "[]", "[1,{}]", "null"] {
        let frame = parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#));
        assert_eq!(frame.lookup(&["params"]), Ok(Some(params.as_bytes())));
        assert_eq!(frame.progress_token(), None);
    }
    for params in ["1", "\"x\"", "true", "false", "-1"] {
        let error = refusal(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#));
        assert_eq!((error.kind, error.id), (E::ParamsType, Some(id("1"))));
    }
}

#[test]
fn what_is_not_json_is_refused_where_it_goes_wrong() {
    for (text, kind, offset) in [
        ("", E::Empty, 0),
        (" \n\t\r", E::Empty, 4),
        ("{", E::Truncated, 1),
        (" {", E::Truncated, 2),
        ("{]", E::Unexpected, 1),
        ("{,}", E::Unexpected, 1),
        (r#"{"a" 1}"#, E::Unexpected, 5),
        (r#"{"a":1,}"#, E::Unexpected, 7),
        (r#"{"a":1 "b":2}"#, E::Unexpected, 7),
        ("[1,]", E::Unexpected, 3),
        ("[1}", E::Unexpected, 2),
        ("[1 2]", E::Unexpected, 3),
        ("{} x", E::Trailing, 3),
        ("{}{}", E::Trailing, 2),
        ("tru", E::Truncated, 3),
        ("trux", E::Unexpected, 3),
        ("nul ", E::Truncated, 3),
        ("True", E::Unexpected, 0),
        ("NaN", E::Unexpected, 0),
        ("\u{feff}", E::Empty, 3),
        ("\u{feff}\u{feff}{}", E::Unexpected, 3),
        (" \u{feff}{}", E::Unexpected, 1),
        ("\u{c}{}", E::Unexpected, 0),
        ("{} //", E::Trailing, 3),
        ("\"", E::Truncated, 1),
        ("\"\\", E::Truncated, 1),
        ("\"\\u12", E::Truncated, 1),
        ("\"\\u12\"}}}}", E::Escape, 1),
        ("\"\\x\"", E::Escape, 1),
        ("\"\\'\"", E::Escape, 1),
        ("\"\\uD8G0\"", E::Escape, 1),
        ("\"a\nb\"", E::ControlCharacter, 2),
        ("\"\0\"", E::ControlCharacter, 1),
        ("\"\x1f\"", E::ControlCharacter, 1),
        ("'a'", E::Unexpected, 0),
    ] {
        let error = refusal(text);
        assert_eq!((&error.kind, error.offset), (&kind, offset), "{text:?}");
        assert_eq!(error.code(), -32700, "{text:?}");
    }
    parse(&holding("\"\x7f \u{80} \u{2028}\""));
}

#[test]
fn bytes_that_matter_are_seen_wherever_they_stand() {
    for length in 0..200 {
        for at in 0..length {
            let stops = [(b'\x1f', E::ControlCharacter), (b'\xff', E::Utf8), (b'"', E::Unexpected), (b'\\', E::Escape)];
            for (bad, kind) in stops {
                if bad == b'\\' && at + 1 == length {
                    continue; // It would only escape the quote.
                }
                let mut text = holding(&format!("\"{}\"", "~".repeat(length))).into_bytes();
                let place = text.iter().position(|&byte| byte == b'~').unwrap() + at;
                text[place] = bad;
                let error = refusal(&text);
                assert_eq!(error.kind, kind);
                assert_eq!(error.offset, place + usize::from(bad == b'"'));
            }
        }
    }
}

#[test]
fn numbers_follow_the_grammar_and_stay_as_spelled() {
    for number in [
        "0",
        "-0",
        "1.0e+5",
        "1E400",
        "-1.5E-7",
        "0.0",
        "1e0",
        "123456789012345678901234567890",
        "10",
        "0e1",
        "-0.0e-0",
    ] {
        let text = holding(number);
        assert_eq!(parse(&text).bytes(), text.as_str());
        let text = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"m"}}"#);
        let frame = parse(&text);
        assert_eq!(raw(frame.id()).as_deref(), Some(number));
        assert_eq!(frame.splice().id(&frame.id().unwrap()).finish().into_bytes(), text.as_str());
    }
    for number in ["00", "01", "-01", "-", "1.", ".5", "+1", "1e", "1e+", "1.e1", "0x1", "1_0", "-a", "--1", "1.2.3"] {
        let error = refusal(holding(number));
        assert!(matches!(error.kind, E::Number | E::Unexpected), "{number}: {error}");
        assert_eq!(error.code(), -32700);
    }
}

#[test]
fn utf8_is_required() {
    for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82", b"\xf5\x80\x80\x80", b"\x80"] {
        let mut text = br#"{"jsonrpc":"2.0","id":1,"method":"m","x":"abc"#.to_vec();
        let offset = text.len();
        text.extend_from_slice(bad);
        text.extend_from_slice(b"\"}");
        let error = refusal(&text);
        assert_eq!((error.kind, error.offset, error.id), (E::Utf8, offset, Some(id("1"))));
    }
    let error = refusal(b"{\"\xff\":1}");
    assert_eq!((error.kind, error.offset), (E::Utf8, 2));
    parse(&holding("\"Zürich 東京 🦀\""));
}

#[test]
fn lone_surrogates_pass_and_equal_nothing() {
    let text = holding(r#""\ud800 \udc00\ud800 \uDBFF\uDFFF \ud83e""#);
    assert_eq!(parse(&text).bytes(), text.as_str());

    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping\ud800"}"#);
    assert_eq!(frame.method(), Some("ping\u{fffd}"));

    let frame = parse(r#"{"jsonrpc":"2.0","id":1,"id\ud800":2,"id\ud800":3,"method":"m","params":{"\udead":1}}"#);
    assert_eq!(raw(frame.id()).as_deref(), Some("1"));
    assert_eq!(frame.lookup(&["params", "\u{fffd}"]), Ok(None));

    assert_eq!(id(r#""\ud800""#), id(r#""\uD800""#));
    assert_ne!(id(r#""\ud800""#), id(r#""\ud801""#));
    assert_ne!(id(r#""\ud800""#), id("\"\u{fffd}\""));
}

#[test]
fn escapes_in_keys_and_words_are_undone_before_comparing() {
    let text = r#"{"j\u0073onrpc":"\u0032.0","\u0069d":5,"m\u0065thod":"notifications\/\u0063ancelled"}"#;
    let frame = parse(text);
    assert_eq!((frame.kind(), frame.id()), (Kind::Request, Some(Id::number(5))));
    assert_eq!(frame.method(), Some("notifications/cancelled"));
    assert_eq!(frame.bytes(), text);

    let frame = parse(r#"{"jsonrpc":"2.0","method":"notifications\/cancelled","params":{"request\u0049d":"x"}}"#);
    assert_eq!(raw(frame.cancelled_id()).as_deref(), Some("\"x\""));
    let frame = parse(r#"{"jsonrpc":"2.0","method":"\ud83e\udd80 \"\\\b\f\n\r\t"}"#);
    assert_eq!(frame.method(), Some("🦀 \"\\\u{8}\u{c}\n\r\t"));

    let error = refusal(r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"m"}"#);
    assert_eq!((error.kind, error.id), (E::Duplicate("id".into()), None));
}

#[test]
fn json_that_is_no_message_is_refused() {
    let one = Some(Id::number(1));
    for (text, kind, id) in [
        ("1", E::NotAnObject, None),
        ("null", E::NotAnObject, None),
        ("\"x\"", E::NotAnObject, None),
        ("[]", E::NotAnObject, None),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#, E::NotAnObject, None),
        ("{}", E::Version, None),
        (r#"{"id":1,"method":"m"}"#, E::Version, one.clone()),
        (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, E::Version, one.clone()),
        (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, E::Version, one.clone()),
        (r#"{"jsonrpc":"2.0 ","id":1,"method":"m"}"#, E::Version, one.clone()),
        (r#"{"jsonrpc":null,"id":1,"method":"m"}"#, E::Version, one.clone()),
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"m"}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","id":{},"result":{}}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","id":false,"error":{}}"#, E::IdType, None),
        (r#"{"jsonrpc":"2.0","result":{}}"#, E::IdMissing, None),
        (r#"{"jsonrpc":"2.0","id":1}"#, E::NoBody, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"params":{}}"#, E::NoBody, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, E::MethodType, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, E::MethodType, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, E::ManyBodies, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","error":{}}"#, E::ManyBodies, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#, E::ManyBodies, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"error":null}"#, E::ErrorType, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, E::ErrorType, one.clone()),
        (r#"{"jsonrpc":"2.0","id":1,"error":[]}"#, E::ErrorType, one),
    ] {
        let error = refusal(text);
        assert_eq!((&error.kind, &error.id), (&kind, &id), "{text}");
        assert_eq!(error.code(), -32600, "{text}");
    }
    // If a text is neither JSON nor a message, the error says that it is not JSON.
    assert_eq!(refusal(r#"{"id":1,"id":2,"jsonrpc":1]"#).code(), -32700);
}

#[test]
fn envelope_members_stand_once() {
    for name in ["jsonrpc", "id", "method", "params"] {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"NAME":"2.0"}"#.replace("NAME", name);
        assert_eq!(refusal(text).kind, E::Duplicate(name.into()));
    }
    for name in ["result", "error"] {
        let text = r#"{"jsonrpc":"2.0","id":1,"NAME":{},"NAME":{}}"#.replace("NAME", name);
        let error = refusal(text);
        assert_eq!((error.kind, error.id), (E::Duplicate(name.into()), Some(Id::number(1))));
        assert_eq!(error.about, Some(Kind::Response));
    }
}

#[test]
fn fields_in_params_stand_once_where_they_are_read() {
    let of = |head: &str, params: &str| format!(r#"{{"jsonrpc":"2.0",{head},"params":{params}}}"#);
    let request = r#""id":1,"method":"m""#;
    let other = r#""method":"m""#;
    let progress = r#""method":"notifications/progress""#;
    let cancelled = r#""method":"notifications/cancelled""#;
    let metas = r#"{"_meta":{},"_meta":1}"#;
    let inner = r#"{"_meta":{"progressToken":1,"progressToken":1}}"#;
    let tokens = r#"{"progressToken":1,"progress\u0054oken":2}"#;
    let ids = r#"{"requestId":1,"requestId":1}"#;
    for (head, params, refused) in [
        (request, metas, Some("_meta")),
        (request, inner, Some("progressToken")),
        (request, tokens, None),
        (request, ids, None),
        (other, metas, None),
        (other, inner, None),
        (other, tokens, None),
        (other, ids, None),
        (progress, metas, None),
        (progress, inner, None),
        (progress, tokens, Some("progressToken")),
        (progress, ids, None),
        (cancelled, metas, None),
        (cancelled, tokens, None),
        (cancelled, ids, Some("requestId")),
        // With an id it is a request, whatever its name.
        (r#""id":1,"method":"notifications/cancelled""#, ids, None),
        (r#""id":1,"result":1"#, metas, None),
    ] {
        let text = of(head, params);
        match refused {
            Some(name) => assert_eq!(refusal(&text).kind, E::Duplicate(name.into()), "{text}"),
            None => assert_eq!(parse(&text).bytes(), text.as_str()),
        }
    }
    // Duplicates of other members pass.
    parse(&holding(r#"{"a":1,"a":2,"_meta":1,"_meta":2,"id":1,"id":1}"#));
}

#[test]
fn tokens_and_cancelled_ids_are_found() {
    for (value, found) in
        [("1", true), ("\"\"", true), ("1.5e3", true), ("null", false), ("true", false), ("[1]", false), ("{}", false)]
    {
        let expected = found.then(|| value.to_owned());
        let frame = parse(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{{"progressToken":9}},"_meta":{{"b":[],"progressToken":{value}}},"progressToken":8}}}}"#
        ));
        assert_eq!(raw(frame.progress_token()), expected);
        assert_eq!(frame.cancelled_id(), None);
        let frame = parse(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{value},"requestId":1,"_meta":{{"progressToken":2}}}}}}"#
        ));
        assert_eq!(raw(frame.progress_token()), expected);
        assert_eq!(frame.cancelled_id(), None);
        let frame = parse(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{value},"progressToken":1}}}}"#
        ));
        assert_eq!(raw(frame.cancelled_id()), expected);
        assert_eq!(frame.progress_token(), None);
    }
    for meta in ["null", "[]", "1", "\"progressToken\""] {
        let frame = parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{meta}}}}}"#));
        assert_eq!(frame.progress_token(), None);
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize, open: &str, close: &str| holding(&(open.repeat(depth) + "1" + &close.repeat(depth)));
    // The message and its params are two levels.
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"_meta":"#, "}]")] {
        let levels = open.matches(['[', '{']).count();
        let most = (MAX_DEPTH - 2) / levels;
        parse(&nested(most, open, close));
        let error = refusal(nested(most + 1, open, close));
        assert_eq!((error.kind.clone(), error.code()), (E::TooDeep, -32600));
        assert_eq!(error.id, Some(Id::number(1)));
    }
    // The levels around a value count, wherever the value starts.
    for (place, outer) in [
        (r#""id":1,"method":"m","x":HERE"#, 1),
        (r#""id":1,"result":HERE"#, 1),
        (r#""id":1,"method":"m","params":HERE"#, 1),
        (r#""method":"notifications/progress","params":{"progressToken":HERE}"#, 2),
        (r#""method":"notifications/cancelled","params":{"requestId":HERE}"#, 2),
        (r#""id":1,"method":"m","params":{"_meta":HERE}"#, 2),
        (r#""id":1,"method":"m","params":{"_meta":{"progressToken":HERE}}"#, 3),
        (r#""id":1,"method":"m","params":{"_meta":{"x":HERE}}"#, 3),
    ] {
        let text = |depth: usize| {
            let value = "[".repeat(depth) + &"]".repeat(depth);
            format!(r#"{{"jsonrpc":"2.0",{}}}"#, place.replace("HERE", &value))
        };
        parse(&text(MAX_DEPTH - outer));
        assert_eq!(refusal(text(MAX_DEPTH - outer + 1)).kind, E::TooDeep, "{place}");
    }
    assert_eq!(refusal("[".repeat(MAX_DEPTH)).kind, E::Truncated);
    assert_eq!(refusal("[".repeat(1 << 20)).kind, E::TooDeep);
}

#[test]
fn a_frame_is_one_line() {
    let text = "\r\n {\n\"jsonrpc\":\r\n\t\"2.0\",\n\"id\":1,\"method\":\"a\\nb\"\r} \n\n";
    let line = "{ \"jsonrpc\":  \t\"2.0\", \"id\":1,\"method\":\"a\\nb\" }";
    let shared = Bytes::from(text);
    assert_eq!(Frame::parse(shared.clone()).unwrap().bytes(), line);
    assert_eq!(shared, text, "what others see is left alone");

    let owned = Bytes::from(text.as_bytes().to_vec());
    let place = owned.as_ptr();
    let frame = Frame::parse(owned).unwrap();
    assert_eq!(frame.bytes(), line);
    assert_eq!(frame.bytes().as_ptr().addr(), place.addr() + 3, "a sole owner's bytes are changed in place");
    assert_eq!(frame.method(), Some("a\nb"));

    let owned = Bytes::from(b" {\"jsonrpc\":\"2.0\",\"method\":\"m\"} ".to_vec());
    assert_eq!(Frame::parse(owned.clone()).unwrap().bytes().as_ptr(), owned[1..].as_ptr(), "nothing was copied");
}

#[test]
fn errors_name_place_and_message() {
    let error = refusal("  {\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"m\",]");
    assert_eq!((error.offset, &error.id, error.about), (41, &Some(Id::from("x")), Some(Kind::Request)));
    assert_eq!(error.to_string(), "this byte cannot stand here; send JSON as RFC 8259 has it, at byte 41");
    assert_eq!(
        error_to_sender(&error).into_bytes(),
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32700,"message":"this byte cannot stand here; send JSON as RFC 8259 has it, at byte 41"}}"#
    );
    let error = refusal(r#"{"jsonrpc":"2.0","id":4,"result":1,"error":{}}"#);
    assert_eq!(error.about, Some(Kind::Response));
    assert_eq!(refusal(r#"{"jsonrpc":"2.0","method":5}"#).about, Some(Kind::Notification));
    assert_eq!(refusal("{}").about, None);
}
