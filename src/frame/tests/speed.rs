//! Figures, printed by `cargo test --release -- --ignored --nocapture frame::tests::speed`.

use std::hint::black_box;

use bytes::Bytes;

use crate::frame::{Frame, Id};

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

fn report(name: &str, text: String, rounds: u32) {
    let bytes = Bytes::from(text);
    let id = Id::number(123_456);
    let parse = nanos(rounds, || Frame::parse(bytes.clone()).unwrap());
    let frame = Frame::parse(bytes.clone()).unwrap();
    let splice = nanos(rounds, || frame.splice().id(&id).progress_token(&id).finish());
    let size = u32::try_from(bytes.len()).unwrap();
    let rate = f64::from(size) / parse;
    println!("{name:>28}: {size:>8} bytes, parse {parse:>9.0} ns ({rate:>5.2} GB/s), splice {splice:>6.0} ns");
}

#[test]
#[ignore = "prints figures"]
fn speed() {
    println!("Frame {} bytes, Id {} bytes", size_of::<Frame>(), size_of::<Id>());
    let call = r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"_meta":{"progressToken":17},"name":"browser_click","arguments":{"element":"the button that says Send","ref":"e42","doubleClick":false,"n":1}}}"#;
    report("small call", call.to_owned(), 200_000);
    let response = |text: &str| {
        let head = r#"{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"image","mimeType":"image/png","data":""#;
        format!("{head}{text}\"}}]}}}}")
    };
    report("1 MB of base64", response(&"iVBORw0KGgoAAAANSUhEUgAA/+8=".repeat(37_450)), 200);
    report("1 MB, an escape in 40 bytes", response(&"a line of forty bytes with its ending.\\n".repeat(26_214)), 100);
    report("1 MB, an escape in 8 bytes", response(&"\\\"key\\\":1,".repeat(104_857)), 50);
    report("1 MB of Cyrillic", response(&"Страница не найдена. ".repeat(27_594)), 100);
    let records = vec![r#"{"ref":"e1","role":"link","name":"Home","box":[1,2,30.5,-4e2],"on":true}"#; 14_000];
    let records = format!(r#"{{"jsonrpc":"2.0","id":1,"result":[{}]}}"#, records.join(","));
    report("1 MB of small objects", records, 50);
    let upload = call.replace("e42", &"x".repeat(1 << 20));
    report("1 MB in a call's params", upload, 200);
}
