//! Fuzzes frames with any bytes: parsing never panics and agrees with `serde_json` on what is JSON, and splicing the
//! old ids back gives the original message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sessile::fuzzing::{Frame, FrameErrorKind, Id, Incoming, LONGEST_ID, split};

fuzz_target!(|bytes: &[u8]| {
    let parsed = Frame::parse(bytes.to_vec());
    let is_json = match &parsed {
        Ok(_) => true,
        Err(error) => error.code() != -32700,
    };
    let too_deep = matches!(&parsed, Err(error) if error.kind == FrameErrorKind::TooDeep);
    // serde_json has a lower limit of depth, whose error cannot be told from one of syntax.
    let braces = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if !too_deep && braces < 100 {
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        assert_eq!(is_json, serde_json::from_slice::<&RawValue>(text).is_ok());
    }
    match parsed {
        Ok(frame) => relay(&frame),
        Err(error) => {
            assert!(error.offset <= bytes.len());
            assert!(error.id.is_none_or(|id| id.raw().len() <= LONGEST_ID));
        }
    }
    if let Ok(Incoming::Batch(elements)) = split(bytes.to_vec()) {
        elements.iter().flatten().for_each(relay);
    }
});

/// Splices ids in and back, as a relayed message would have it.
fn relay(frame: &Frame) {
    assert!(!frame.bytes().iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    let _ = (frame.method(), frame.lookup(&["params", "_meta", "a"]));
    let (id, token) = (Id::number(7), Id::from("t\u{1}"));
    let wire = frame.splice().id(&id).progress_token(&token).cancelled_id(&id).finish();
    let Ok(spliced) = Frame::parse(wire.into_bytes()) else { panic!("a splice broke the message") };
    assert_eq!(spliced.id(), frame.id().map(|_| id.clone()));
    let old = |old: Option<Id>| old.unwrap_or_else(|| Id::number(0));
    let (id, token, cancelled) = (old(frame.id()), old(frame.progress_token()), old(frame.cancelled_id()));
    let back = spliced.splice().id(&id).progress_token(&token).cancelled_id(&cancelled).finish();
    assert_eq!(&back.into_bytes(), frame.bytes());
    if let Ok(splice) = frame.splice().remove(&["params", "_meta"]) {
        assert!(Frame::parse(splice.finish().into_bytes()).is_ok());
    }
}
