//! Several clients of one session, and what is each one's own.

use std::collections::BTreeSet;

use crate::common::{INITIALIZE, INITIALIZED, Request, call, until};
use crate::{Served, attach, increment, plain, settings, with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_at_once_get_one_session() {
    let served = Served::new(settings("header:x-user")).await;
    let ada = with("x-user", "ada");
    for round in 0..5_u64 {
        let coming = (0..10).map(|_| {
            let client = served.client.clone();
            tokio::spawn(async move {
                let client = attach(&client, ada).await;
                increment(&client, ada).await
            })
        });
        let mut counts = BTreeSet::new();
        for one in coming.collect::<Vec<_>>() {
            counts.insert(one.await.unwrap());
        }
        assert_eq!(counts, (round * 10 + 1..=round * 10 + 10).collect());
        assert_eq!(served.sessions().len(), 1);
    }
    assert_eq!(served.sessions()[0].clients, 50);
    served.close().await;
}

#[tokio::test]
async fn each_client_has_its_own_id_and_leaves_alone() {
    let served = Served::new(settings("header:x-user")).await;
    let ada = with("x-user", "ada");
    let (one, two) = (attach(&served.client, ada).await, attach(&served.client, ada).await);
    assert_ne!(one.session, two.session);
    // The id finds the attachment without the header, too.
    assert_eq!((increment(&one, plain).await, increment(&two, plain).await), (1, 2));
    let mut listening = two.listens().await;
    assert!(listening.block().await.unwrap().starts_with("id: "), "it is primed");
    one.deletes().await;
    for request in [one.post(call(1, "ping", "{}")), one.request("GET"), one.request("DELETE")] {
        assert_eq!(request.send().await.status, 404);
    }
    listening.stays_silent().await;
    assert_eq!(increment(&two, plain).await, 3);
    assert_eq!(served.sessions()[0].clients, 1);
    drop(listening);
    two.deletes().await;
    assert_eq!(served.sessions()[0].clients, 0);
    assert_eq!(increment(&attach(&served.client, ada).await, ada).await, 4, "the session lives on");
    served.close().await;
}

#[tokio::test]
async fn nobody_resumes_the_stream_of_another_client() {
    let served = Served::new(settings("header:x-user")).await;
    let ada = with("x-user", "ada");
    let (one, two) = (attach(&served.client, ada).await, attach(&served.client, ada).await);
    let mut listening = one.listens().await;
    let primer = listening.block().await.unwrap();
    let id = primer.lines().next().and_then(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(listening);
    let refused = two.resumes_request(&id).send().await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().await.contains("is not one of this session"));
    drop(one.resumes(&id).await);
    served.close().await;
}

#[tokio::test]
async fn a_session_has_room_for_so_many_clients() {
    let served = Served::new(settings("header:x-user")).await;
    let ada = with("x-user", "ada");
    let mut streams = Vec::new();
    let mut last = None;
    for _ in 0..256 {
        let client = attach(&served.client, ada).await;
        streams.push(client.listens().await);
        last = Some(client);
    }
    let refused = ada(served.client.post(INITIALIZE)).send().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let error = refused.json().await;
    assert_eq!(
        (&error["error"]["data"]["type"], &error["error"]["data"]["limit"]),
        (&"client_limit".into(), &256.into())
    );
    assert_eq!(served.sessions()[0].clients, 256);
    last.unwrap().deletes().await;
    attach(&served.client, ada).await;
    attach(&served.client, with("x-user", "bob")).await;
    drop(streams);
    served.close().await;
}

#[tokio::test]
async fn clients_of_the_older_transport_join_too() {
    let served = Served::new(settings("header:x-user,cookie")).await;
    let ada = with("x-user", "ada");
    let streamable = attach(&served.client, ada).await;
    assert_eq!(increment(&streamable, ada).await, 1);
    let mut stream = ada(served.client.request("GET").path("/sse")).send().await;
    let endpoint = stream.event().await.data;
    let post = |body: String| ada(served.client.post(body).path(endpoint.clone()));
    let opened = post(INITIALIZE.to_owned()).send().await;
    assert_eq!((opened.status, opened.header("set-cookie")), (202, None));
    assert!(stream.data_json().await["result"]["serverInfo"].is_object());
    assert_eq!(post(INITIALIZED.to_owned()).send().await.status, 202);
    let params = r#"{"name":"increment","arguments":{}}"#;
    assert_eq!(post(call(1, "tools/call", params)).send().await.status, 202);
    assert_eq!(stream.data_json().await["result"]["content"][0]["text"], "2");
    assert_eq!((served.sessions().len(), served.sessions()[0].clients), (1, 2));
    drop(stream);
    until("it has left", || served.sessions()[0].clients == 1).await;
    assert_eq!(post(call(1, "tools/call", params)).send().await.status, 404);
    assert_eq!(increment(&streamable, ada).await, 3);

    let without = |request: Request| request;
    let mut stream = without(served.client.request("GET").path("/sse")).send().await;
    let endpoint = stream.event().await.data;
    let opened = served.client.post(INITIALIZE).path(endpoint).send().await;
    assert!(opened.header("set-cookie").is_some_and(|cookie| cookie.starts_with("sessile-")));
    served.close().await;
}
