//! What clients are told when the session of their key has ended with its state.

use crate::common::{call, until};
use crate::{Served, attach, count_once, increment, plain, settings, tool, with};

#[tokio::test]
async fn lost_state_is_told_once() {
    let served = Served::new(settings("header:x-user")).await;
    let ada = with("x-user", "ada");
    for generation in 2..=3 {
        let before = attach(&served.client, ada).await;
        assert!(increment(&before, ada).await > 0);
        let id = served.sessions()[0].id;
        assert!(served.proxy.sessions().end(id).await);
        until("the session is gone", || served.sessions().is_empty()).await;
        assert_eq!(ada(before.post(call(1, "ping", "{}"))).send().await.status, 404, "it learns it so");

        let after = attach(&served.client, ada).await;
        for method in ["ping", "tools/list", "prompts/list"] {
            let mut reply = ada(after.post(call(1, method, "{}"))).send().await;
            let response = reply.data_json().await;
            assert!(response["result"].is_object(), "{method} needs no state: {response}");
        }
        let told = tool(&after, "increment", ada).await;
        assert_eq!(told["error"]["code"], sessile::code::STATE_LOST, "{told}");
        let data = &told["error"]["data"];
        assert_eq!((&data["stateLost"], &data["generation"]), (&true.into(), &generation.into()), "{told}");
        assert_eq!(data["session"], served.sessions()[0].id.to_string());
        assert_eq!(served.sessions()[0].generation, generation);
        assert_eq!(increment(&after, ada).await, 1, "the next request goes to a fresh server");
        assert_eq!(count_once(&served.client, ada).await, 2, "nobody else is told");
    }
    assert_eq!(count_once(&served.client, with("x-user", "bob")).await, 1, "and no other key");
    served.close().await;
}

#[tokio::test]
async fn sessions_of_one_client_are_never_said_to_be_lost() {
    let served = Served::new(settings("header:x-user")).await;
    for _ in 0..2 {
        let client = attach(&served.client, plain).await;
        assert_eq!(increment(&client, plain).await, 1);
        assert!(served.proxy.sessions().end(served.sessions()[0].id).await);
        until("the session is gone", || served.sessions().is_empty()).await;
    }
    served.close().await;
}
