//! The decoder of server-sent events: the standard's own examples, limits, and any way to cut a stream.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::backend::http::position::{StreamPosition, StreamProgress};
use crate::backend::http::sse_decoder::{SseDecoder, SseEvent};

/// What a stream comes to, in words that are easy to compare.
fn decode(stream: &[u8], limit: usize, cuts: &[usize]) -> (Vec<String>, StreamPosition, StreamProgress) {
    let mut decoder = SseDecoder::new(limit, StreamPosition::default());
    let mut events = Vec::new();
    let mut rest = stream;
    let mut cuts = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let cut = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
        decoder.feed(Bytes::copy_from_slice(&rest[..cut]));
        rest = &rest[cut..];
        while let Some(event) = decoder.next() {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            events.push(match event {
                SseEvent::Message(data) => text(&data),
                SseEvent::Other(kind, data) => format!("{}={}", text(&kind), text(&data)),
                SseEvent::Oversized { id, request, size } => {
                    format!("over {:?} {request} {size}", id.map(|id| id.to_string()))
                }
            });
        }
    }
    (events, decoder.position().clone(), decoder.progress())
}

fn whole(stream: &str) -> Vec<String> {
    decode(stream.as_bytes(), 1000, &[]).0
}

#[test]
fn reads_what_the_standard_has_for_examples() {
    assert_eq!(whole("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
    assert_eq!(
        whole(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
        ["first event", "second event", " third event"]
    );
    assert_eq!(whole("data\n\ndata\ndata\n\ndata:"), ["\n"]);
    assert_eq!(whole("data:test\n\ndata: test\n\n"), ["test", "test"]);
}

#[test]
fn the_event_that_was_had_last_is_not_heard_again() {
    let heard = |stream: &'static str| {
        let position = StreamPosition { id: Some(Bytes::from_static(b"7")), ..StreamPosition::default() };
        let mut decoder = SseDecoder::new(1000, position);
        decoder.feed(Bytes::from_static(stream.as_bytes()));
        std::iter::from_fn(|| decoder.next()).count()
    };
    assert_eq!(heard("id: 7\ndata: a\n\nid: 8\ndata: b\n\n"), 1);
    assert_eq!(heard(": hello\n\nid: 7\ndata: a\n\nid: 7\ndata: b\n\n"), 1, "the first one only");
    assert_eq!(heard("id: 8\ndata: a\n\nid: 7\ndata: b\n\n"), 2);
    assert_eq!(heard("data: a\n\nid: 7\ndata: b\n\n"), 2);
}

#[test]
fn reads_lines_however_they_end() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = "event: endpoint|data: /here||data: {}|other: x|||:c|data: []||".replace('|', end);
        assert_eq!(whole(&stream), ["endpoint=/here", "{}", "[]"], "{end:?}");
    }
    assert_eq!(whole("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"], "a byte order mark counts at the start only");
    assert_eq!(whole("data: a\n\ndata: cut"), ["a"], "what has no end has not come");
    assert_eq!(whole("event: message\ndata: a\n\nevent:\ndata: b\n\ndata: c\n\n"), ["a", "b", "c"]);
}

#[test]
fn knows_where_to_go_on() {
    let at = |stream: &str| decode(stream.as_bytes(), 1000, &[]).1;
    assert_eq!(at("id: 1\ndata:\n\n").id.as_deref(), Some(&b"1"[..]), "a priming event has no data");
    assert_eq!(at("id: 1\n\n").id.as_deref(), Some(&b"1"[..]));
    assert_eq!(at("id: 1\n\nid: 2\ndata: x").id.as_deref(), Some(&b"1"[..]), "the second has not come");
    assert_eq!(at("id: 1\n\ndata: x\n\n").id.as_deref(), Some(&b"1"[..]), "an event without an id changes nothing");
    assert_eq!(at("id: 1\n\nid\n\n").id, None, "an empty id takes it back");
    assert_eq!(at("id: 1\n\nid: a\0b\n\n").id.as_deref(), Some(&b"1"[..]), "an id with NUL is ignored");
    assert_eq!(at("id: 1\n\nid: a\tb\n\n").id, None, "from behind an id that cannot be sent nothing can be resumed");
    assert_eq!(at(&format!("id: 1\n\nid: {}\n\n", "x".repeat(5000))).id, None);
    assert_eq!(at("retry: 250\n").retry, Some(Duration::from_millis(250)));
    assert_eq!(at("retry: 250\nretry: 1s\nretry:\nretry: -1\n").retry, Some(Duration::from_millis(250)));
    assert_eq!(at(&format!("retry: {}\n", "9".repeat(40))).retry, Some(Duration::from_millis(u64::MAX)));
}

#[test]
fn tells_what_a_stream_has_brought() {
    let progress = |had: Option<&'static str>, stream: &'static str| {
        let position =
            StreamPosition { id: had.map(|id| Bytes::from_static(id.as_bytes())), ..StreamPosition::default() };
        let mut decoder = SseDecoder::new(100, position);
        decoder.feed(Bytes::from_static(stream.as_bytes()));
        while decoder.next().is_some() {}
        decoder.progress()
    };
    assert_eq!(progress(None, ": nothing\n\n\nretry: 4\n\nid: 1"), StreamProgress::Nothing);
    assert_eq!(progress(None, "id: 1\n\n"), StreamProgress::PositionsOnly);
    assert_eq!(progress(None, "id: 1\ndata:\n\n"), StreamProgress::PositionsOnly);
    assert_eq!(progress(None, "data: a\n\nid: 2\n\n"), StreamProgress::Messages);
    assert_eq!(progress(Some("7"), "id: 7\ndata: a\n\n"), StreamProgress::Nothing, "it was there before");
    assert_eq!(progress(Some("7"), "id: 7\n\nid: 8\n\n"), StreamProgress::PositionsOnly);
    assert_eq!(progress(Some("7"), "id: 7\ndata: a\n\ndata: b\n\n"), StreamProgress::Messages);
}

#[test]
fn scans_what_is_over_the_limit() {
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"{}\"}}", "x".repeat(9000));
    let stream = format!("data: {{}}\n\nid: 4\ndata: {long}\nevent: message\n\ndata: []\n\n");
    for cuts in [&[][..], &[1], &[7, 3], &[1024]] {
        let (events, position, _) = decode(stream.as_bytes(), 100, cuts);
        assert_eq!(events, ["{}", &format!("over Some(\"7\") false {}", long.len()), "[]"], "{cuts:?}");
        assert_eq!(position.id.as_deref(), Some(&b"4"[..]));
    }
    // In many lines, none of which is long.
    let lines =
        format!("data: {{\"id\":8,\ndata: \"method\":\n{}data: \"x\"}}\n\ndata: a\n\n", "data:     \n".repeat(40));
    for cuts in [&[][..], &[1], &[5, 11]] {
        let (events, ..) = decode(lines.as_bytes(), 100, cuts);
        assert_eq!(events[0], "over Some(\"8\") true 223", "{cuts:?}");
        assert_eq!(events[1..], ["a"]);
    }
    // Exactly the limit is not over it.
    assert_eq!(decode(format!("data: {}\n\n", "x".repeat(100)).as_bytes(), 100, &[1]).0, ["x".repeat(100)]);
    assert_eq!(decode(format!("data:{}\n\n", "x".repeat(101)).as_bytes(), 100, &[1]).0, ["over None false 101"]);
}

#[test]
fn keeps_nothing_of_an_endless_line() {
    let mut decoder = SseDecoder::new(1000, StreamPosition::default());
    for prefix in ["data: ", "\n: ", "\nevent: ", "\nid: ", "\nwhatever"] {
        decoder.feed(Bytes::from_static(prefix.as_bytes()));
        assert_eq!(decoder.next(), None);
        for _ in 0..1000 {
            decoder.feed(Bytes::from(vec![b'x'; 10_000]));
            assert_eq!(decoder.next(), None);
            assert!(decoder.kept() <= 16 * 1024, "{} bytes are kept after {prefix:?}", decoder.kept());
        }
    }
}

#[test]
fn one_large_event_is_not_copied_when_it_came_in_one_piece() {
    let stream = Bytes::from(format!("data: {}\n\n", "x".repeat(1_000_000)));
    let mut decoder = SseDecoder::new(2_000_000, StreamPosition::default());
    decoder.feed(stream.clone());
    let Some(SseEvent::Message(data)) = decoder.next() else { panic!("no event") };
    assert_eq!(data.as_ptr(), stream[6..].as_ptr());
}

fn streams() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "(data|id|event|retry|other|)(: ?| )[a-z0-9{}\":,]{0,12}",
        1 => Just("data".to_owned()),
        1 => "data: [a-z]{90,130}",
        3 => Just(String::new()),
        1 => Just(": comment".to_owned()),
        1 => Just("\u{feff}data: x".to_owned()),
        1 => "id: \\x00?é?",
    ];
    let lines = prop::collection::vec((line, prop_oneof![Just("\n"), Just("\r"), Just("\r\n")]), 0..30);
    lines.prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

proptest! {
    /// How a stream is cut makes no difference.
    #[test]
    fn any_chunks_give_the_same_events(stream in streams(), cuts in prop::collection::vec(1..40_usize, 1..8)) {
        let whole = decode(stream.as_bytes(), 100, &[]);
        prop_assert_eq!(&decode(stream.as_bytes(), 100, &cuts), &whole);
        prop_assert_eq!(&decode(stream.as_bytes(), 100, &[1]), &whole);
    }

    /// Against the standard's algorithm, written down as plain_response as it stands there.
    #[test]
    fn agrees_with_the_standard(stream in streams(), cut in 1..40_usize) {
        let (events, position, _) = decode(stream.as_bytes(), usize::MAX, &[cut]);
        let (expected, id) = oracle(&stream);
        prop_assert_eq!(events, expected);
        prop_assert_eq!(position.id.map(|id| String::from_utf8_lossy(&id).into_owned()), id);
    }
}

/// The standard's algorithm on a whole stream.
fn oracle(stream: &str) -> (Vec<String>, Option<String>) {
    let text = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut last) = (Vec::new(), String::new());
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    for line in complete.split('\n').take(if text.contains('\n') { usize::MAX } else { 0 }) {
        if line.is_empty() {
            last.clone_from(&id);
            let said = data.strip_suffix('\n').unwrap_or(&data);
            match kind.as_str() {
                _ if data.is_empty() => {}
                "" | "message" if said.is_empty() => {}
                "" | "message" => events.push(said.to_owned()),
                kind => events.push(format!("{kind}={said}")),
            }
            data.clear();
            kind.clear();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => data.extend([value, "\n"]),
            "event" => value.clone_into(&mut kind),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            _ => {}
        }
    }
    (events, Some(last).filter(|last| !last.is_empty()))
}

/// A message is charged for the memory that it takes when its event is complete: its buffer may be larger than it is.
#[test]
fn says_how_much_memory_a_message_takes() {
    for (size, piece) in
        [(10, 1 << 20), (50_000, 16 << 10), (125_000, 16 << 10), (1_000_000, 16 << 10), (700_000, 1000)]
    {
        let mut decoder = SseDecoder::new(1 << 20, StreamPosition::default());
        let stream = format!("data: {}\n\n", "x".repeat(size));
        let mut most = 0;
        let mut message = None;
        for chunk in stream.as_bytes().chunks(piece) {
            most = most.max(decoder.will_take());
            decoder.feed(Bytes::copy_from_slice(chunk));
            while let Some(event) = decoder.next() {
                message = Some((event, decoder.message_takes()));
            }
        }
        let Some((SseEvent::Message(data), takes)) = message else { panic!("no message of {size} bytes") };
        assert_eq!(data.len(), size);
        let buffer = Vec::from(data).capacity();
        assert!((size..=size + size / 7 + "data: ".len() * 2).contains(&takes), "{size}: {takes}");
        assert!(takes >= buffer, "{size}: {takes} are charged and {buffer} taken");
        assert!(takes <= most, "{size}: {takes} are taken of {most} that were announced");
    }
}
