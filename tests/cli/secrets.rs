//! What is secret is not shown, however much is logged.

use crate::program::{File, SESSILE, Serving, run_with};

const SECRETS: [&str; 6] =
    ["s3cret-variable", "s3cret-literal", "s3cret-header", "s3cret-token", "s3cret-inherited", "s3cret-query"];

const VARIABLES: [(&str, &str); 4] = [
    ("TOKEN", "s3cret-variable"),
    ("HEADER", "s3cret-header"),
    ("BEARER", "s3cret-token"),
    ("MY_PASSWORD", "s3cret-inherited"),
];

fn shows_none(words: &[&str]) -> String {
    let ended = run_with(words, &VARIABLES);
    let all = format!("{}{}", ended.stdout, ended.stderr);
    for secret in SECRETS {
        assert!(!all.contains(secret), "{words:?} shows {secret}:\n{all}");
    }
    all
}

#[test]
fn what_a_server_prints_is_masked() {
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{ "a": {{ "command": "sh",
            "args": ["-c", "echo \"I know $1 and $API_KEY and $URL\" >&2; exec {SESSILE} demo", "sh", "--key=${{TOKEN}}"],
            "env": {{ "API_KEY": "s3cret-literal", "URL": "pg://me:s3cret-query@db/x" }} }},
          "b": {{ "command": "sh", "args": ["-c", "echo \"${{TOKEN}}\" >&2; exit 1"] }},
          "c": {{ "command": "/none/${{TOKEN}}" }} }} }}"#
    ));
    let shown = shows_none(&["check", "--log", "trace", "--config", &file.path()]);
    assert!(shown.contains("I know --key=*** and *** and ***"), "{shown}");
    assert!(shown.contains("its last words: ***"), "{shown}");
    assert!(shown.contains("program /none/*** was not found"), "{shown}");
}

#[test]
fn headers_and_tokens_are_not_shown() {
    let upstream = Serving::demo();
    let url = format!("{}?key=s3cret-query", upstream.url);
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{
            "a": {{ "url": "{url}", "headers": {{ "X-Key": "${{HEADER}}", "X-Other": "s3cret-literal" }}, "auth": "${{BEARER}}" }},
            "b": {{ "url": "http://me:s3cret-literal@127.0.0.1:1/", "headers": {{ "Authorization": "Bearer ${{TOKEN}}" }} }} }} }}"#
    ));
    let shown = shows_none(&["check", "--log", "trace", "--config", &file.path()]);
    assert!(shown.contains("sessile-demo"), "{shown}");
    let shown =
        shows_none(&["check", "--log", "trace", "--header", "X-Key: ${HEADER}", &url, "--bearer-env", "BEARER"]);
    assert!(shown.contains("sessile-demo"), "{shown}");
}

#[test]
fn nor_are_they_in_errors() {
    for words in [
        &["check", "--header", "X Y: s3cret-literal", "http://127.0.0.1:1/"][..],
        &["check", "--header", "s3cret-literal", "http://127.0.0.1:1/"],
        &["check", "--header", "X-A: s3cret-literal\n.", "http://127.0.0.1:1/"],
        &["check", "--header", "X-A: ${HEADER}", "--header", "x-a: ${TOKEN}", "http://127.0.0.1:1/"],
        &["check", "--bearer-env", "Bearer s3cret-literal", "http://127.0.0.1:1/"],
        &["check", "--bearer-env", "NOT_SET", "http://127.0.0.1:1/"],
        &["check", "--oauth-client-secret-env", "s3cret literal", "http://127.0.0.1:1/"],
        &["check", "http://me:s3cret-literal@/"],
        &["check", "http://me:s3cret-literal@127.0.0.1:1/?k=s3cret-query"],
        &["serve", "--help"],
    ] {
        shows_none(words);
    }
}
