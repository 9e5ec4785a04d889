//! Relayed messages keep their bytes, in both directions.

use crate::common::{Harness, notification};

/// Everything that a typed proxy loses: key order, spelling of numbers, escapes, duplicates, nulls, unknown members.
const TREASURES: [&str; 12] = [
    r#"{"z":1,"a":2,"m":{"z":1,"a":2}}"#,
    r#"{"n":[1.0,1.0e+5,-0.0,1E400,12345678901234567890123,0.1000]}"#,
    r#"{"s":"\u00e9\/\ud800 \udc00\ud83d\ude00\u0000"}"#,
    "{\"s\":\"\u{e9}\u{1F600}\u{2028}\u{2029}\u{7f}\"}",
    r#"{"d":1,"d":2,"d":{"d":1,"d":null}}"#,
    r#"{"null":null,"cursor":null,"_meta":null}"#,
    r#"{"_meta":{"vendor/x":{"deep":[[[]]]},"io.y":null}}"#,
    r#"{ "spaced" :  [ 1 , 2 ,	3 ] }"#,
    r#"[1,"two",null,{"three":3}]"#,
    "[]",
    "null",
    r#"{"id":7,"method":"inner","jsonrpc":"1.0","result":{"id":1},"error":null,"params":[]}"#,
];

/// Results may be any JSON.
const RESULTS: [&str; 4] = ["true", r#""text""#, "-1.50e-3", "[[],{}]"];

#[tokio::test]
async fn requests_and_results() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for client in [client.clone(), client.json_only()] {
        for treasure in TREASURES {
            // The id stands last, as no serializer of ours would put it, and is a string that looks like a number.
            let ask = |id: &str| {
                format!(
                    r#"{{"params":{treasure},"x-unknown":[1.0],"method":"vendor/\u0061ny","jsonrpc":"2.0","id":{id}}}"#
                )
            };
            let asking = client.asks(&ask(r#""0\u0031""#));
            let heard = server.line().await.unwrap();
            let id = heard.rsplit_once(r#""id":"#).unwrap().1.trim_end_matches('}');
            assert_eq!(heard, ask(id), "the request");
            let answer = |id: &str| format!(r#"{{"result":{treasure},"id":{id},"extra":null,"jsonrpc":"2.0"}}"#);
            server.says(&answer(id)).await;
            assert_eq!(asking.data().await, answer(r#""0\u0031""#), "the result");
        }
    }
    harness.close().await;
}

#[tokio::test]
async fn results_of_any_type_and_errors() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let errors =
        TREASURES.map(|data| format!(r#""error":{{"data":{data},"message":"\u0041","code":-32042.0,"more":[]}}"#));
    let results = RESULTS.map(|result| format!(r#""result":{result}"#));
    for body in results.iter().chain(&errors) {
        let asking = client.asks(r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"x"}"#);
        let heard = server.hears("x").await;
        server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},{body}}}"#, heard.id)).await;
        assert_eq!(asking.data().await, format!(r#"{{"jsonrpc":"2.0","id":9007199254740993,{body}}}"#));
    }
    harness.close().await;
}

#[tokio::test]
async fn ids_as_they_are_spelled() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for id in
        ["0", "-1", "1.0", "1e3", "12345678901234567890123456789", r#""""#, r#""\ud800""#, r#""id with \" and \\""#]
    {
        let asking = client.asks(&format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"x"}}"#));
        let heard = server.hears("x").await;
        server.answers(&heard, "{}").await;
        assert_eq!(asking.data().await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    harness.close().await;
}

#[tokio::test]
async fn notifications_and_server_requests() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    for treasure in TREASURES {
        let told = format!(r#"{{"method":"notifications/\u0078","params":{treasure},"jsonrpc":"2.0","y":1.0}}"#);
        client.tells(&told).await;
        assert_eq!(server.line().await.unwrap(), told);
        server.says(&told).await;
        assert_eq!(listening.data().await, told);
        let ask = |id: &str| format!(r#"{{"params":{treasure},"jsonrpc":"2.0","id":{id},"method":"vendor/ask"}}"#);
        server.says(&ask(r#""\u0071""#)).await;
        let asked = listening.data().await;
        let (_, rest) = asked.rsplit_once(r#""id":"#).unwrap();
        let id = rest.split_once(',').unwrap().0;
        assert_eq!(asked, ask(id));
        client.tells(&format!(r#"{{"result":{treasure},"jsonrpc":"2.0","id":{id}}}"#)).await;
        assert_eq!(server.line().await.unwrap(), format!(r#"{{"result":{treasure},"jsonrpc":"2.0","id":"\u0071"}}"#));
    }
    harness.close().await;
}

#[tokio::test]
async fn line_breaks_become_spaces_and_nothing_more() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    client.tells("\r\n{\"jsonrpc\":\"2.0\",\r\n\t\"method\":\n\"n\",\"params\":{\"a\" :\n1.0}}\n\n").await;
    assert_eq!(server.line().await.unwrap(), "{\"jsonrpc\":\"2.0\",  \t\"method\": \"n\",\"params\":{\"a\" : 1.0}}");
    // In an event a carriage return would end the line as well.
    let mut listening = client.listens().await;
    server.says("{\"jsonrpc\":\"2.0\",\r\"method\":\"n\",\"params\":[1,\r2]}\r").await;
    assert_eq!(listening.data().await, "{\"jsonrpc\":\"2.0\", \"method\":\"n\",\"params\":[1, 2]}");
    harness.close().await;
}

#[tokio::test]
async fn order_is_kept() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    for number in 0..200 {
        server.says(&notification("notifications/n", &format!("[{number}]"))).await;
    }
    for number in 0..200 {
        assert_eq!(listening.data().await, notification("notifications/n", &format!("[{number}]")));
    }
    for number in 0..50 {
        client.tells(&notification("notifications/n", &format!("[{number}]"))).await;
    }
    for number in 0..50 {
        assert_eq!(server.line().await.unwrap(), notification("notifications/n", &format!("[{number}]")));
    }
    harness.close().await;
}
