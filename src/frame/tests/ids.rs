//! Ids that are too long, that stand twice, that are spelled in another way, or that cannot be made out; and the mark
//! that some programs write in front of their first message.

use bytes::Bytes;
use proptest::prelude::*;

use super::{error_to_sender, id, parse, raw, refusal};
use crate::frame::{Frame, FrameErrorKind as E, Incoming, Kind, LONGEST_ID, Named, Wire, split};

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The raw text of an id of so many bytes.
fn long(length: usize, quote: &str) -> String {
    format!("{quote}{}{quote}", "7".repeat(length - 2 * quote.len()))
}

fn named(text: &str) -> Named {
    match split(String::from(text)) {
        Err(error) => error.named,
        Ok(incoming) => panic!("accepted as {incoming:?}: {text}"),
    }
}

fn numbers(numbers: &[u64]) -> Named {
    Named::Numbers(numbers.into())
}

#[test]
fn an_id_or_a_token_has_a_longest_length() {
    for quote in ["", "\""] {
        let (longest, over) = (long(LONGEST_ID, quote), long(LONGEST_ID + 1, quote));
        for (text, about) in [
            (r#"{"jsonrpc":"2.0","id":ID,"method":"m"}"#, Kind::Request),
            (r#"{"method":"m","jsonrpc":"2.0","\u0069d": ID }"#, Kind::Request),
            (r#"{"jsonrpc":"2.0","id":ID,"result":{}}"#, Kind::Response),
            (r#"{"jsonrpc":"2.0","id":ID,"error":{}}"#, Kind::Response),
        ] {
            assert_eq!(raw(parse(&text.replace("ID", &longest)).id()), Some(longest.clone()));
            let error = refusal(text.replace("ID", &over));
            assert_eq!((&error.kind, error.code(), &error.id), (&E::LongId, -32600, &None), "{text}");
            assert_eq!((error.about, &error.named), (Some(about), &Named::Unknown), "{text}");
            assert_eq!(error.offset, text.find("ID").unwrap());
            assert!(error_to_sender(&error).len() < 200);
        }
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":ID}}}"#;
        assert_eq!(raw(parse(&text.replace("ID", &longest)).progress_token()), Some(longest));
        let error = refusal(text.replace("ID", &over));
        assert_eq!((error.kind, error.id, error.named), (E::LongId, Some(id("1")), Named::Nothing));

        // A notification may have an id in it that no request can have: it is relayed, and names no request.
        for text in [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":ID}}"#,
        ] {
            let text = text.replace("ID", &over);
            let frame = parse(&text);
            assert_eq!((frame.progress_token(), frame.cancelled_id(), frame.bytes()), (None, None, &Bytes::from(text)));
        }
    }
    // Whatever else is wrong with the message: a longer id is never repeated.
    for text in [
        r#"{"jsonrpc":"2.0","id":ID}"#,
        r#"{"id":ID,"method":"m"}"#,
        r#"{"id":ID,"method":"m","#,
        r#"{"jsonrpc":"2.0","id":ID,"method":7}"#,
    ] {
        assert_eq!(refusal(text.replace("ID", &long(LONGEST_ID + 1, "\""))).id, None, "{text}");
    }
}

#[test]
fn what_an_unreadable_message_names() {
    let table: &[(&str, Named)] = &[
        // Answers.
        (r#"{"jsonrpc":"2.0","id":5,"result":1,"error":{}}"#, numbers(&[5])),
        (r#"{"jsonrpc":"2.0","id":5}"#, numbers(&[5])),
        (r#"{"id":5,"result":1}"#, numbers(&[5])),
        (r#"{"jsonrpc":"2.0","id":5,"result":"#, numbers(&[5])),
        (r#"{"jsonrpc":"2.0","id":5,"id":6,"result":1}"#, numbers(&[5, 6])),
        (r#"{"jsonrpc":"2.0","id":5,"result":1,"\u0069d":"a","id":null,"id":5}"#, numbers(&[5])),
        (r#"{"jsonrpc":"2.0","id":null,"id":5,"result":1}"#, numbers(&[5])),
        (r#"{"jsonrpc":"2.0","id":5,"id":6,"result":{]"#, numbers(&[5, 6])),
        (r#"{"jsonrpc":"2.0","id":"a","result":1,"error":{}}"#, numbers(&[])),
        (r#"{"jsonrpc":"2.0","id":"a","id":-1,"result":1}"#, numbers(&[])),
        // Answers that do not say to what.
        (r#"{"jsonrpc":"2.0","result":1}"#, Named::Unknown),
        (r#"{"jsonrpc":"2.0","id":true,"result":1}"#, Named::Unknown),
        (r#"{"jsonrpc":"2.0","id":{},"id":[],"result":1}"#, Named::Unknown),
        (r#"{"jsonrpc":"2.0","id":,"result":1}"#, Named::Unknown),
        (r#"{"result":{nonsense},"jsonrpc":"2.0","id":5}"#, Named::Unknown),
        ("{'jsonrpc': '2.0', 'id': 5, 'result': {}}", Named::Unknown),
        (r#"[{"jsonrpc":"2.0","id":5,"result":1}"#, Named::Unknown),
        (r#"{"jsonrpc":"2.0"}"#, Named::Unknown),
        // Servers that answer notifications write these.
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, Named::Nothing),
        (r#"{"jsonrpc":"2.0","id":null,"error":"no"}"#, Named::Nothing),
        // Requests: the sender's own.
        (r#"{"jsonrpc":"2.0","id":5,"method":7}"#, Named::Nothing),
        (r#"{"jsonrpc":"2.0","id":5,"id":6,"method":"m"}"#, Named::Unknown),
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, Named::Nothing),
        // Notifications, and what programs print.
        (r#"{"jsonrpc":"2.0","method":"m","params":7}"#, Named::Nothing),
        (r#"{"jsonrpc":"2.0","method":"m","params":{"#, Named::Nothing),
        ("", Named::Nothing),
        ("some jsonrpc log line", Named::Nothing),
        ("{ready}", Named::Nothing),
        ("[info] jsonrpc is ready", Named::Nothing),
        (r#"[debug] sent {"jsonrpc":"2.0","id":5,"result":1}"#, Named::Nothing),
        (r#"{"level":"info","msg":"jsonrpc is ready"}"#, Named::Nothing),
        (r#"{"level":"error","error":"jsonrpc: no"}"#, Named::Nothing),
        ("7", Named::Nothing),
        ("\"jsonrpc\"", Named::Nothing),
    ];
    for (text, expected) in table {
        assert_eq!(&named(text), expected, "{text}");
        assert_eq!(&named(&format!("{BYTE_ORDER_MARK} {text}")), expected, "{text}");
    }
}

#[test]
fn ids_without_end_are_counted() {
    let many: Vec<_> = (0..5000).map(|number| format!(r#""id":{number}"#)).collect();
    let error = refusal(format!(r#"{{"jsonrpc":"2.0",{},"result":1}}"#, many.join(",")));
    let Named::Numbers(numbers) = error.named else { panic!("it names some") };
    assert_eq!((numbers.len(), numbers[0]), (1024, 0));
}

#[test]
fn which_call_an_unreadable_message_answers() {
    let of = |text: &str| split(String::from(text)).unwrap_err();
    assert!(of(r#"{"jsonrpc":"2.0","id":5.0,"result":1,"error":{}}"#).is_answer_to(5));
    assert!(!of(r#"{"jsonrpc":"2.0","id":6,"result":1,"error":{}}"#).is_answer_to(5));
    assert!(of(r#"{"jsonrpc":"2.0","id":6,"id":5,"result":1}"#).is_answer_to(5));
    assert!(of(r#"{"jsonrpc":"2.0","result":1}"#).is_answer_to(5));
    assert!(!of("listening").is_answer_to(5));
    for (request, wants_answer) in [("5", true), ("5,\"id\":6", true), (&*long(2000, "\""), true), ("null", false)] {
        let error = of(&format!(r#"{{"jsonrpc":"2.0","id":{request},"method":7}}"#));
        assert!(!error.is_answer_to(5) && error.is_request() == wants_answer, "{request}");
    }
}

#[test]
fn integers_are_read_in_any_spelling() {
    for (text, number) in [
        ("5", Some(5)),
        ("5.0", Some(5)),
        ("5e0", Some(5)),
        ("50e-1", Some(5)),
        ("0.5E+1", Some(5)),
        ("5.000e-0000", Some(5)),
        ("0.0000005e7", Some(5)),
        ("0", Some(0)),
        ("-0", Some(0)),
        ("0.0e99999999999", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551615.0", Some(u64::MAX)),
        ("1844674407370955161.5e1", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1844674407370955161.6e1", None),
        // Read as floating-point numbers, these would be equal to an integer.
        ("9007199254740993.0", Some(9_007_199_254_740_993)),
        ("9007199254740992.5", None),
        ("5.00000000000000000000000001", None),
        ("1e19", Some(10_000_000_000_000_000_000)),
        ("1e20", None),
        ("1e400", None),
        ("1e-1", None),
        ("1e99999999999999999999", None),
        ("1e-99999999999999999999", None),
        ("-5", None),
        ("-5.0", None),
        ("1.5", None),
        ("\"5\"", None),
        ("\"5.0\"", None),
        ("\"\"", None),
    ] {
        assert_eq!(id(text).as_u64(), number, "{text}");
    }
    assert_ne!(id("5.0"), id("5"), "as ids of the peer's own they are two");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    for around in [format!("{BYTE_ORDER_MARK}{text}"), format!("{BYTE_ORDER_MARK}\r\n {text}\n")] {
        let bytes = Bytes::from(around);
        let frame = Frame::parse(bytes.clone()).unwrap();
        assert_eq!(frame.bytes(), text);
        assert!(bytes.as_ptr_range().contains(&frame.bytes().as_ptr()), "nothing was copied");
    }
    let Ok(Incoming::Batch(elements)) = split(format!("{BYTE_ORDER_MARK}[{text},7]")) else { panic!("no batch") };
    assert_eq!(elements[0].as_ref().unwrap().bytes(), text);
    assert_eq!(
        elements[1].as_ref().unwrap_err().offset,
        BYTE_ORDER_MARK.len() + text.len() + 2,
        "the mark counts in places"
    );
    // The mark may stand in front of the text, and nowhere else.
    for text in
        [format!("[{BYTE_ORDER_MARK}{text}]"), format!("{{{BYTE_ORDER_MARK}}}"), format!("{text}{BYTE_ORDER_MARK}")]
    {
        assert_eq!(split(text).unwrap_err().code(), -32700);
    }
}

/// The number that this text spells, by moving its decimal point, which is not how the code does it.
fn moved(whole: &str, fraction: &str, exponent: i32) -> Option<u64> {
    let zeros = "0".repeat(usize::try_from(exponent.unsigned_abs()).unwrap());
    let text = format!("{zeros}{whole}{fraction}{zeros}");
    let point = usize::try_from(exponent).map_or(whole.len(), |places| zeros.len() + whole.len() + places);
    let (whole, fraction) = text.split_at(point);
    if fraction.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if whole.is_empty() { Some(0) } else { whole.parse().ok() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_spelling_of_a_number_is_that_number(number: u64, places in 0..30_usize, zeros in 0..30_usize) {
        let digits = number.to_string();
        let padded = format!("{}{digits}", "0".repeat(30));
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let whole = Some(whole.trim_start_matches('0')).filter(|whole| !whole.is_empty()).unwrap_or("0");
        let zeros = "0".repeat(zeros);
        let plain = places == 0 && zeros.is_empty();
        let left = if plain { format!("{whole}e0") } else { format!("{whole}.{fraction}{zeros}e{places}") };
        for text in [format!("{digits}{zeros}e-{}", zeros.len()), left, digits] {
            prop_assert_eq!(id(&text).as_u64(), Some(number), "{}", text);
        }
    }

    #[test]
    fn integers_are_reckoned_without_rounding(
        whole in "0|[1-9][0-9]{0,21}", fraction in "[0-9]{0,4}0{0,4}", exponent in -25..25_i32, minus: bool,
    ) {
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if minus { "-" } else { "" };
        let text = format!("{sign}{whole}{point}{fraction}e{exponent}");
        let expected = moved(&whole, &fraction, exponent).filter(|number| !minus || *number == 0);
        prop_assert_eq!(id(&text).as_u64(), expected, "{}", text);
    }

    #[test]
    fn no_error_repeats_a_long_id(
        length in LONGEST_ID - 3..LONGEST_ID + 4, quote in prop_oneof![Just(""), Just("\"")], batch: bool,
        rest in prop_oneof![
            Just(r#","method":"m"}"#), Just(r#","result":1}"#), Just(r#","method":7}"#), Just("}"), Just(r#","x":]"#),
        ],
    ) {
        let message = format!(r#"{{"jsonrpc":"2.0","id":{}{rest}"#, long(length, quote));
        let text = if batch { format!("[{message}]") } else { message };
        let all = match split(text) {
            Ok(Incoming::One(frame)) => vec![Ok(frame)],
            Ok(Incoming::Batch(frames)) => frames,
            Err(error) => vec![Err(error)],
        };
        for message in all {
            let (ids, told) = match message {
                Ok(frame) => (frame.id().into_iter().collect::<Vec<_>>(), Wire::from(Vec::new())),
                Err(error) => (error.id.iter().cloned().collect(), error_to_sender(&error)),
            };
            prop_assert!(ids.iter().all(|id| id.raw().len() <= LONGEST_ID));
            prop_assert!(length > LONGEST_ID || batch && rest.ends_with(']') || ids.len() == 1);
            prop_assert!(length <= LONGEST_ID || ids.is_empty() && told.len() < 300);
        }
    }

    #[test]
    fn all_ids_of_an_answer_are_named(numbers in proptest::collection::vec(0..20_u32, 2..20)) {
        let members: Vec<_> = numbers.iter().map(|number| format!(r#""id":{number}"#)).collect();
        let error = refusal(format!(r#"{{"jsonrpc":"2.0","result":{{"id":99}},{}}}"#, members.join(",")));
        prop_assert_eq!(&error.kind, &E::Duplicate("id".into()));
        let mut expected = Vec::new();
        for number in numbers.into_iter().map(u64::from) {
            if !expected.contains(&number) {
                expected.push(number);
            }
        }
        prop_assert_eq!(error.named, Named::Numbers(expected.into()));
    }
}
