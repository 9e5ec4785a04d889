//! The forms that other programs write.

use std::time::Duration;

use super::{command, good, server, shown, url};
use crate::config::{Bearer, ClientSecret, ConfigText, OAuthMode, Offered, ServerKind, Transport};

const CLAUDE_DESKTOP: &str = r#"{
  "globalShortcut": "Alt+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "${HOME}/Desktop"],
      "env": { "DEBUG": "1", "API_KEY": "literal-key" }
    },
    "weather_2.0": { "command": "/usr/bin/weather", "args": [] }
  }
}"#;

const CURSOR: &str = r#"{
  "mcpServers": {
    "local": { "type": "stdio", "command": "python", "args": ["${userHome}/mcp.py"], "env": { "API_KEY": "${env:TOKEN}" },
      "envFile": ".env" },
    "remote": { "url": "https://api.example.com/mcp", "headers": { "Authorization": "Bearer ${env:TOKEN}" } },
    "registered": { "url": "https://api.example.com/mcp",
      "auth": { "CLIENT_ID": "me", "CLIENT_SECRET": "${env:TOKEN}", "scopes": ["read", "write"] } }
  }
}"#;

const VS_CODE: &str = r#"{
  // Asked for once, and kept.
  "inputs": [{ "type": "promptString", "id": "key", "description": "API key", "password": true }],
  "servers": {
    "playwright": { "command": "npx", "args": ["-y", "@microsoft/mcp-server-playwright",], "dev": { "watch": "${workspaceFolder}/**" } },
    "github": { "type": "http", "url": "https://api.githubcopilot.com/mcp" },
    /* an old one */
    "old": { "type": "sse", "url": "http://localhost:3000/sse", },
    "socket": { "type": "http", "url": "unix:///run/mcp.sock#/mcp" },
    "asks": { "disabled": true, "command": "x", "env": { "KEY": "${input:key}" } },
  },
}"#;

const VS_CODE_SETTINGS: &str = r#"{ "editor.fontSize": 12, "mcp": { "inputs": [], "servers": { "time": { "command": "uvx", "args": ["mcp-server-time"] } } } }"#;

const FASTMCP: &str = r#"{
  "mcpServers": {
    "weather": { "url": "https://weather.example.com/mcp", "transport": "streamable-http", "auth": "oauth", "timeout": 30000 },
    "news": { "url": "https://news.example.com/sse", "transport": "sse", "auth": "${TOKEN}", "headers": {} },
    "assistant": { "command": "python", "args": ["./server.py"], "env": { "LOG_LEVEL": "INFO", "RETRIES": 3, "FAST": true, "NONE": null },
      "transport": "stdio", "cwd": "/srv", "description": "${what is this}", "icon": null, "include_tags": null,
      "tools": { "x": { "enabled": false } } }
  }
}"#;

#[test]
fn claude_desktop() {
    let config = good(CLAUDE_DESKTOP);
    let names: Vec<_> = config.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["filesystem", "weather_2.0"]);
    let ServerKind::Command(command) = &config.servers[0].kind else { panic!("no command") };
    assert_eq!(command.program, ConfigText::plain("npx"));
    assert_eq!(shown(&command.args), ["-y", "@modelcontextprotocol/server-filesystem", "/home/me/Desktop"]);
    assert_eq!(
        command.env,
        [("DEBUG".to_owned(), ConfigText::plain("1")), ("API_KEY".to_owned(), ConfigText::secret("literal-key"))]
    );
    assert_eq!((&command.cwd, command.inherit_env), (&None, None));
    assert!(config.servers[0].secrets.is_empty());
    assert_eq!(config.settings, crate::config::Settings::default());
}

#[test]
fn cursor() {
    let config = good(CURSOR);
    let ServerKind::Command(local) = &config.servers[0].kind else { panic!("no command") };
    assert_eq!(shown(&local.args), ["/home/me/mcp.py"]);
    // Its own `env` stands over the file.
    let env: Vec<_> = local.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("PORT", "80"), ("REGION", "eu"), ("API_KEY", "t0ps3cret")]);
    let ServerKind::Url(remote) = &config.servers[1].kind else { panic!("no url") };
    assert_eq!(remote.url, ConfigText::plain("https://api.example.com/mcp"));
    assert_eq!(remote.remote.transport, None);
    assert_eq!(remote.remote.headers, [("Authorization".to_owned(), "Bearer t0ps3cret".into())]);
    let ServerKind::Url(registered) = &config.servers[2].kind else { panic!("no url") };
    let oauth = &registered.remote.oauth;
    assert_eq!((oauth.mode, oauth.client_id.as_deref()), (Some(OAuthMode::Login), Some("me")));
    assert_eq!(oauth.client_secret, Some(ClientSecret::Value("t0ps3cret".into())));
    assert_eq!(oauth.scopes, ["read", "write"]);
}

#[test]
fn vs_code() {
    let config = good(VS_CODE);
    let remotes: Vec<_> = config.servers[1..]
        .iter()
        .map(|server| match &server.kind {
            ServerKind::Url(url) => (url.url.shown(), url.remote.transport, url.remote.unix_socket.as_deref()),
            ServerKind::Command(command) => panic!("{command:?}"),
        })
        .collect();
    let expected = [
        ("https://api.githubcopilot.com/mcp", Some(Transport::Http), None),
        ("http://localhost:3000/sse", Some(Transport::Sse), None),
        ("http://localhost/mcp", Some(Transport::Http), Some("/run/mcp.sock".as_ref())),
    ];
    assert_eq!(remotes, expected);
    assert_eq!(good(VS_CODE_SETTINGS).servers[0].name, "time");
}

#[test]
fn fastmcp() {
    let config = good(FASTMCP);
    let [weather, news, assistant] = config.servers.as_slice() else { panic!("{config:?}") };
    let ServerKind::Url(weather) = &weather.kind else { panic!("no url") };
    assert_eq!(weather.remote.transport, Some(Transport::Http));
    assert_eq!(weather.remote.oauth.mode, Some(OAuthMode::Login));
    let ServerKind::Url(news) = &news.kind else { panic!("no url") };
    assert_eq!(news.remote.bearer, Some(Bearer::Token("t0ps3cret".into())));
    let tools = assistant.filters.filter().unwrap();
    assert!(tools.allows(Offered::Tools, "y") && !tools.allows(Offered::Tools, "x"));
    let ServerKind::Command(assistant) = &assistant.kind else { panic!("no command") };
    let env: Vec<_> = assistant.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("LOG_LEVEL", "INFO"), ("RETRIES", "3"), ("FAST", "true")]);
    assert_eq!(assistant.cwd, Some(ConfigText::plain("/srv")));
}

#[test]
fn a_byte_order_mark_is_no_matter() {
    good("\u{feff}{\"mcpServers\":{\"a\":{\"command\":\"x\"}}}");
}

#[test]
fn transports_have_many_names() {
    for (type_, expected) in [
        ("http", Transport::Http),
        ("streamable-http", Transport::Http),
        ("streamableHttp", Transport::Http),
        ("sse", Transport::Sse),
        ("auto", Transport::Auto),
    ] {
        let entry = format!(r#"{{"url":"http://x/","type":"{type_}"}}"#);
        assert_eq!(url(&entry).remote.transport, Some(expected));
        let entry = format!(r#"{{"url":"http://x/","transport":"{type_}","type":"{type_}"}}"#);
        assert_eq!(url(&entry).remote.transport, Some(expected));
    }
}

#[test]
fn a_server_has_settings_of_its_own() {
    let spec = server(
        r#"{"url":"https://${HOST}/mcp?key=${TOKEN}","headers":{"X-A":"1","Content-Type":"application/json"},"sessile":{
            "forwardHeaders":["X-User"],"bearerFile":"${HOME}/token","connectTimeout":"5s","transport":"sse",
            "allowTools":["read_*"],"denyTools":["read_secret"],"allowResources":["file:///srv/**"],"denyPrompts":["*"]}}"#,
    );
    assert_eq!(spec.filters.tools.allow.as_deref(), Some(["read_*".to_owned()].as_slice()));
    assert_eq!(spec.filters.tools.deny, ["read_secret"]);
    assert_eq!(spec.filters.resources.allow.as_deref(), Some(["file:///srv/**".to_owned()].as_slice()));
    assert_eq!(spec.filters.prompts.deny, ["*"]);
    assert!(spec.secrets.contains(&"t0ps3cret".into()), "the variable's value itself is to be masked");
    let ServerKind::Url(url) = spec.kind else { panic!("no url") };
    assert_eq!(url.url, ConfigText::secret("https://mcp.example.com/mcp?key=t0ps3cret"));
    assert_eq!(url.remote.headers, [("X-A".to_owned(), "1".into())]);
    assert_eq!(url.remote.forward_headers, ["x-user"]);
    assert_eq!(url.remote.bearer, Some(Bearer::File("/home/me/token".into())));
    assert_eq!(url.remote.connect_timeout, Some(Duration::from_secs(5)));
    assert_eq!(url.remote.transport, Some(Transport::Sse));
    assert_eq!(command(r#"{"command":"x","sessile":{"inheritEnv":true}}"#).inherit_env, Some(true));
}

#[test]
fn oauth_is_a_word_or_an_object() {
    for sessile in [
        r#"{"oauth":"client-credentials","oauthClientId":"me","oauthClientSecretEnv":"S","oauthScope":"a b","noBrowser":true}"#,
        r#"{"oauth":{"mode":"client-credentials","clientId":"me","clientSecretEnv":"S","scope":["a","b"]},"noBrowser":true}"#,
        r#"{"oauth":{"mode":"client-credentials","clientId":"me","clientSecretEnv":"S","scope":"a b","noBrowser":true}}"#,
    ] {
        let oauth = url(&format!(r#"{{"url":"https://x/","sessile":{sessile}}}"#)).remote.oauth;
        assert_eq!(oauth.mode, Some(OAuthMode::ClientCredentials), "{sessile}");
        assert_eq!((oauth.client_id.as_deref(), oauth.scopes.len()), (Some("me"), 2));
        assert_eq!(oauth.client_secret, Some(ClientSecret::Env("S".into())));
        assert_eq!(oauth.no_browser, Some(true));
    }
    let oauth = url(r#"{"url":"https://x/","sessile":{"oauth":{"redirectPort":7,"tokenDir":"/t"}}}"#).remote.oauth;
    assert_eq!((oauth.mode, oauth.redirect_port), (Some(OAuthMode::Login), Some(7)));
}

#[test]
fn secrets_are_not_in_what_debug_writes() {
    let config = good(&format!(
        r#"{{"mcpServers":{{
            "a":{{"command":"${{TOKEN}}","args":["--token=${{TOKEN}}"],"cwd":"/x/${{TOKEN}}",
                "env":{{"X":"${{TOKEN}}","MY_SECRET":"lit3ral","DB":"pg://u:lit3ral@h/d"}}}},
            "b":{{"url":"https://u:lit3ral@h/?k=lit3ral","headers":{{"X-A":"lit3ral","X-B":"${{TOKEN}}"}},"auth":"lit3ral"}},
            "c":{{"url":"https://h/","auth":{{"CLIENT_ID":"x","CLIENT_SECRET":"lit3ral"}}}}}},
           "sessile":{{"header":["X-C: lit3ral"],{}}}}}"#,
        r#""allowHost":["h"]"#
    ));
    let debug = format!("{config:?} {config:#?}");
    assert!(!debug.contains("t0ps3cret") && !debug.contains("lit3ral"), "{debug}");
    assert!(debug.contains("***"));
}

#[test]
fn names_and_urls_are_taken_as_other_programs_write_them() {
    let config = good(
        r#"{ "mcpServers": {
            "GitHub MCP (prod)": { "serverUrl": "https://a.example.com/mcp" },
            "My Server": { "httpUrl": "https://b.example.com/mcp" },
            "größe": { "command": "x" }
        }, "mcp": { "servers": {} } }"#,
    );
    let names: Vec<_> = config.servers.iter().map(|server| (server.name.as_str(), server.prefix())).collect();
    let expected = [("GitHub MCP (prod)", "GitHub_MCP__prod_"), ("My Server", "My_Server"), ("größe", "gr__e")];
    assert_eq!(names, expected.map(|(name, prefix)| (name, prefix.to_owned())));
    let remote = |at: usize| match &config.servers[at].kind {
        ServerKind::Url(url) => (url.url.shown().to_owned(), url.remote.transport),
        ServerKind::Command(command) => panic!("{command:?}"),
    };
    assert_eq!(remote(0), ("https://a.example.com/mcp".to_owned(), None));
    assert_eq!(remote(1), ("https://b.example.com/mcp".to_owned(), Some(Transport::Http)));
}
