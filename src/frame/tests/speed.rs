//! Figures, printed by `cargo test --release -- --ignored --nocapture frame::tests::speed`: what parsing and splicing
//! cost, and what `serde_json` takes to find the same fields.

use std::borrow::Cow;
use std::hint::black_box;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::{Frame, Id};

/// The fields of a frame, read by `serde_json`.
#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawParams<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawMeta<'a> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
}

fn parse_with_serde(bytes: &[u8]) {
    let message: RawMessage<'_> = serde_json::from_slice(bytes).unwrap();
    if let Some(params) = message.params.filter(|params| params.get().starts_with('{')) {
        let params: RawParams<'_> = serde_json::from_str(params.get()).unwrap();
        if let Some(meta) = params.meta.filter(|meta| meta.get().starts_with('{')) {
            let meta: RawMeta<'_> = serde_json::from_str(meta.get()).unwrap();
            black_box(meta.progress_token);
        }
        black_box((params.request_id, params.progress_token));
    }
    // A frame knows of line breaks, which have to be replaced.
    black_box(memchr::memchr2(b'\n', b'\r', bytes));
    black_box((message.jsonrpc, message.id, message.method, message.result, message.error));
}

#[expect(clippy::disallowed_methods, reason = "what is measured here is real time")]
fn nanos<T>(rounds: u32, mut work: impl FnMut() -> T) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            black_box(work());
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    }
    best
}

fn report(name: &str, text: String) {
    let bytes = Bytes::from(text);
    let size = u32::try_from(bytes.len()).unwrap();
    let rounds = (40_000_000 / (size + 2000)).max(10);
    let id = Id::number(123_456);
    let parse = nanos(rounds, || Frame::parse(bytes.clone()).unwrap());
    let serde = nanos(rounds, || parse_with_serde(&bytes));
    let frame = Frame::parse(bytes.clone()).unwrap();
    let splice = nanos(rounds, || frame.splice().id(&id).progress_token(&id).finish());
    let rate = f64::from(size) / parse;
    println!(
        "{name:>26}: {size:>7} bytes, parse {parse:>8.0} ns ({rate:>5.2} GB/s), serde_json {:>4.2} times that, splice \
         {splice:>6.0} ns",
        serde / parse
    );
}

#[test]
#[ignore = "prints figures"]
fn speed() {
    println!("Frame {} bytes, Id {} bytes", size_of::<Frame>(), size_of::<Id>());
    let call = |argument: &str| {
        let head = r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"_meta":{"progressToken":17},"name":"#;
        let arguments = r#""browser_click","arguments":{"element":"the button that says Send","ref":""#;
        format!(r#"{head}{arguments}{argument}","doubleClick":false,"n":1}}}}}}"#)
    };
    let response = |text: &str| {
        let head = r#"{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"image","mimeType":"image/png","data":""#;
        format!("{head}{text}\"}}]}}}}")
    };
    report("small call", call("e42"));
    report("small response", response("the button was clicked, and the page is https://example.com/sent?id=42 now"));
    for size in [10_000, 1 << 20] {
        let filled = |piece: &str| piece.repeat(size / piece.len());
        report("base64", response(&filled("iVBORw0KGgoAAAANSUhEUgAA/+8=")));
        report("an escape in 40 bytes", response(&filled("a line of forty bytes with its ending.\\n")));
        report("an escape in 8 bytes", response(&filled("\\\"key\\\":1,")));
        report("Cyrillic", response(&filled("Страница не найдена. ")));
        let record = r#"{"ref":"e1","role":"link","name":"Home","box":[1,2,30.5,-4e2],"on":true}"#;
        let records = vec![record; size / record.len()].join(",");
        report("small objects", format!(r#"{{"jsonrpc":"2.0","id":1,"result":[{records}]}}"#));
        report("a long argument of a call", call(&filled("x")));
    }
}
