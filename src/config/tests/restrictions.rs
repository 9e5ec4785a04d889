//! What the keys of other programs take away: the form of each program, what is refused, and that no spelling, type or
//! place makes a tool pass that was taken away.

use proptest::prelude::*;

use super::{bad, good, parse, server};
use crate::config::{ConfigFile, Offered, ServerSpec, Settings};

/// The tools that the server of the tests has.
const TOOLS: [&str; 4] = ["pull", "push", "status", "git_push"];

/// Those of them that a server offers.
fn offered(server: &ServerSpec) -> Vec<&'static str> {
    let filter = server.filters.filter().unwrap();
    TOOLS.into_iter().filter(|tool| filter.allows(Offered::Tools, tool)).collect()
}

/// Those that the server of an entry offers, which has a command and these keys.
fn leaves(keys: &str) -> Vec<&'static str> {
    offered(&server(&format!(r#"{{"command":"x",{keys}}}"#)))
}

/// The error about an entry, which begins at line 2 and has these keys in line 3.
fn refused(keys: &str) -> String {
    bad(&format!("{{\"mcpServers\":{{\"git\":\n{{\"command\":\"x\",\n{keys}}}}}}}"))
}

#[test]
fn the_form_of_each_program_is_obeyed() {
    let all = TOOLS.as_slice();
    let cases: [(&str, &[&str]); 43] = [
        // FastMCP.
        (r#""tools":{"push":{"enabled":false}}"#, &["pull", "status", "git_push"]),
        (r#""tools":{"push":{"enabled":false},"pull":{"enabled":true},"status":{}}"#, &["pull", "status", "git_push"]),
        (r#""tools":{"push":{"enabled":true,"name":null,"tags":[],"arguments":{}}}"#, all),
        (r#""tools":{},"include_tags":null,"exclude_tags":[]"#, all),
        // Gemini CLI and Qwen Code.
        (r#""includeTools":["push","pull"]"#, &["pull", "push"]),
        (r#""excludeTools":["push"],"trust":true"#, &["pull", "status", "git_push"]),
        (r#""includeTools":["push","pull"],"excludeTools":["push"]"#, &["pull"]),
        (r#""includeTools":[]"#, &[]),
        (r#""excludeTools":[]"#, all),
        // GitHub Copilot.
        (r#""type":"stdio","tools":["*"]"#, all),
        (r#""tools":["push"]"#, &["push"]),
        (r#""tools":[]"#, &[]),
        (r#""tools":["push","*"]"#, all),
        // Roo Code, Kilo Code.
        (
            r#""alwaysAllow":["push"],"disabledTools":["push"],"watchPaths":["/x"],"timeout":60"#,
            &["pull", "status", "git_push"],
        ),
        // Windsurf, Antigravity.
        (r#""disabled":false,"disabledTools":["git_push","pull"]"#, &["push", "status"]),
        // Kiro, Amazon Q.
        (r#""autoApprove":["*"],"disabledTools":["push"],"disabled":false"#, &["pull", "status", "git_push"]),
        // Codex and Crush, as JSON.
        (r#""enabled":true,"enabled_tools":["push","pull"],"disabled_tools":["pull"],"tool_timeout_sec":5"#, &["push"]),
        // goose, as JSON.
        (r#""available_tools":["status"]"#, &["status"]),
        // MCP Hub for Neovim.
        (
            r#""disabled_tools":["push"],"disabled_prompts":[],"disabled_resources":[],"autoApprove":true"#,
            &["pull", "status", "git_push"],
        ),
        // The APIs of models, LiteLLM.
        (r#""allowed_tools":["push"],"require_approval":{"always":{"tool_names":["push"]}}"#, &["push"]),
        (r#""disallowed_tools":["push"]"#, &["pull", "status", "git_push"]),
        // Claude, Cursor, Cline, VS Code, Continue, LibreChat: what takes nothing away.
        (r#""alwaysAllow":[],"autoApprove":["push"],"timeout":60"#, all),
        (r#""alwaysLoad":true,"headersHelper":"x","oauth":{"clientId":"x"}"#, all),
        (
            r#""dev":{"watch":"**","debug":{"type":"node"}},"sandboxEnabled":true,"sandbox":{"network":{"allowedDomains":[]}}"#,
            all,
        ),
        (r#""startup":false,"chatMenu":false,"serverInstructions":true,"icon":"y","description":"x""#, all),
        (
            r#""supports_parallel_tool_calls":false,"default_tools_approval_mode":"prompt","toolAliases":{"push":"p"}"#,
            all,
        ),
        (r#""tools":{"push":{"approval_mode":"approve"}}"#, all),
        // Names of variables are the server's business.
        (r#""env":{"DISABLED_TOOLS":"push","EXCLUDE_TOOLS":"a"},"args":["--exclude-tools","push"]"#, all),
        (r#""requestOptions":{"headers":{"X-MCP-Exclude-Tools":"push"}}"#, all),
        // Cherry Studio: what is asked about.
        (r#""isActive":true,"disabledTools":[],"disabledAutoApproveTools":["push"]"#, all),
        // Other spellings.
        (r#""exclude_tools":["push"]"#, &["pull", "status", "git_push"]),
        (r#""exclude-tools":["push"]"#, &["pull", "status", "git_push"]),
        (r#""ExcludeTools":["push"]"#, &["pull", "status", "git_push"]),
        (r#""EXCLUDETOOLS":["push"]"#, &["pull", "status", "git_push"]),
        (r#""exclude\u0054ools":["p\u0075sh"]"#, &["pull", "status", "git_push"]),
        (r#""excludedTools":["push"]"#, &["pull", "status", "git_push"]),
        (r#""include_tools":["push"]"#, &["push"]),
        // All that is said holds.
        (r#""excludeTools":["push"],"exclude_tools":["pull"],"disabledTools":["status"]"#, &["git_push"]),
        (r#""includeTools":["push","pull"],"include_tools":["pull","status"],"tools":["*"]"#, &["pull"]),
        (r#""includeTools":["push"],"tools":{"push":{"enabled":true}},"disabledTools":["push"]"#, &[]),
        // Nothing is said.
        (r#""includeTools":null,"excludeTools":null,"tools":null,"disabled":null,"enabled":null"#, all),
        // Names are compared as they are.
        (r#""excludeTools":["Push","pus","PULL","push/x"]"#, all),
        (r#""includeTools":["${NONE:-push}"]"#, &["push"]),
    ];
    for (keys, expected) in cases {
        assert_eq!(leaves(keys), expected, "{keys}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let names = "names are compared as they are here: write patterns in the `sessile` object of the server (allowTools, denyTools)";
    let instead = "name what is offered in the `sessile` object of the server (allowTools, denyTools and the like)";
    let unknown = format!("this key seems to restrict what is offered, in a way that sessile does not know: {instead}");
    let tags = format!("filtering by tags is not supported yet: {instead}");
    let rewritten = "rewriting tools is not supported yet: leave this key out, or hide the whole tool".to_owned();
    let own = "this is a setting of sessile: put it into the `sessile` object of this server".to_owned();
    let cases = [
        (r#""include_tags":["a"]"#, "3:16", "include_tags", tags.clone()),
        (r#""include_tags":[]"#, "3:16", "include_tags", tags.clone()),
        (r#""exclude_tags":["a"]"#, "3:16", "exclude_tags", tags.clone()),
        (r#""excludeTags":"a""#, "3:15", "excludeTags", tags),
        (r#""tools":{"push":{"name":"p"}}"#, "3:25", "tools.push.name", rewritten.clone()),
        (r#""tools":{"push":{"enabled":false,"name":"p"}}"#, "3:41", "tools.push.name", rewritten.clone()),
        (r#""tools":{"push":{"arguments":{"a":{"hide":true}}}}"#, "3:30", "tools.push.arguments", rewritten.clone()),
        (r#""tools":{"push":{"description":"x"}}"#, "3:32", "tools.push.description", rewritten),
        (
            r#""tools":{"push":{"enabled":"no"}}"#,
            "3:28",
            "tools.push.enabled",
            "expected true or false, found a string".into(),
        ),
        (
            r#""tools":{"push":{"enabled":null}}"#,
            "3:28",
            "tools.push.enabled",
            "expected true or false, found null".into(),
        ),
        (r#""tools":{"push":false}"#, "3:17", "tools.push", "expected an object with enabled, found false".into()),
        (r#""tools":{"push":null}"#, "3:17", "tools.push", "expected an object with enabled, found null".into()),
        (
            r#""tools":{"pu*":{"enabled":false}}"#,
            "3:16",
            r#"tools["pu*"]"#,
            format!("expected the name of a tool: {names}"),
        ),
        (
            r#""tools":{"push":{},"push":{"enabled":false}}"#,
            "3:20",
            "tools.push",
            "this key stands here twice: keep one of them".into(),
        ),
        (
            r#""tools":"push""#,
            "3:9",
            "tools",
            "expected a list of the tools to offer, or an object of tools, found a string".into(),
        ),
        (r#""tools":["pu*"]"#, "3:10", "tools[0]", format!("expected the name of a tool: {names}")),
        (r#""tools":["*","pu*"]"#, "3:14", "tools[1]", format!("expected the name of a tool: {names}")),
        (r#""excludeTools":["push(ls)"]"#, "3:17", "excludeTools[0]", format!("expected the name of a tool: {names}")),
        (r#""excludeTools":["*"]"#, "3:17", "excludeTools[0]", format!("expected the name of a tool: {names}")),
        (r#""includeTools":["*"]"#, "3:17", "includeTools[0]", format!("expected the name of a tool: {names}")),
        (r#""excludeTools":["a,b"]"#, "3:17", "excludeTools[0]", format!("expected the name of a tool: {names}")),
        (r#""excludeTools":["@git/push"]"#, "3:17", "excludeTools[0]", format!("expected the name of a tool: {names}")),
        (
            r#""excludeTools":[" push"]"#,
            "3:17",
            "excludeTools[0]",
            "expected the name of a tool: there is white space around it".into(),
        ),
        (r#""excludeTools":[""]"#, "3:17", "excludeTools[0]", "expected the name of a tool: it is empty".into()),
        (
            r#""disabledTools":["mcp__git__push"]"#,
            "3:18",
            "disabledTools[0]",
            "expected the name of a tool: it begins with the name of a server: write the server's own name of the tool"
                .into(),
        ),
        (r#""excludeTools":[null]"#, "3:17", "excludeTools[0]", "expected the name of a tool, found null".into()),
        (r#""excludeTools":"push""#, "3:16", "excludeTools", "expected a list, found a string".into()),
        (r#""excludeTools":{"push":true}"#, "3:16", "excludeTools", "expected a list, found an object".into()),
        (r#""disabledTools":true"#, "3:17", "disabledTools", "expected a list, found true".into()),
        (
            r#""excludeTools":[],"excludeTools":["push"]"#,
            "3:19",
            "excludeTools",
            "this key stands here twice: keep one of them".into(),
        ),
        (r#""denyTools":["push"]"#, "3:13", "denyTools", own.clone()),
        (r#""allow_tool":["push"]"#, "3:14", "allow_tool", own),
        (r#""hiddenTools":["push"]"#, "3:15", "hiddenTools", unknown.clone()),
        (r#""toolFilter":{"mode":"block","list":["push"]}"#, "3:14", "toolFilter", unknown.clone()),
        (r#""options":{"toolFilter":{"mode":"block"}}"#, "3:25", "options.toolFilter", unknown.clone()),
        (r#""anythingllm":{"suppressedTools":["push"]}"#, "3:34", "anythingllm.suppressedTools", unknown.clone()),
        (r#""tool_configuration":{"enabled":false}"#, "3:33", "tool_configuration.enabled", unknown.clone()),
        (r#""prompts":{"hello":{"enabled":false}}"#, "3:11", "prompts", unknown.clone()),
        (r#""disabled_prompts":["hello"]"#, "3:20", "disabled_prompts", unknown.clone()),
        (r#""allowed":["push"]"#, "3:11", "allowed", unknown.clone()),
        (r#""permissions":{"deny":["push"]}"#, "3:15", "permissions", unknown.clone()),
        (r#""toolsets":["repos"]"#, "3:12", "toolsets", unknown.clone()),
        (r#""readOnly":true"#, "3:12", "readOnly", unknown),
        (r#""disabled":"true""#, "3:12", "disabled", "expected true or false, found a string".into()),
        (r#""enabled":0"#, "3:11", "enabled", "expected true or false, found a number".into()),
    ];
    for (keys, place, key, reason) in cases {
        assert_eq!(refused(keys), format!("mcp.json:{place}: mcpServers.git.{key}: {reason}"), "{keys}");
    }
}

#[test]
fn a_server_is_taken_away_in_many_words() {
    let names = |keys: &str| {
        let config = good(&format!(r#"{{"mcpServers":{{"a":{{"command":"x",{keys}}},"b":{{"command":"y"}}}}}}"#));
        config.servers.into_iter().map(|server| server.name).collect::<Vec<_>>()
    };
    for keys in [
        r#""disabled":true"#,
        r#""enabled":false"#,
        r#""isActive":false"#,
        r#""active":false"#,
        r#""Disabled":true"#,
        r#""is_disabled":true"#,
        r#""disabled":true,"enabled":true"#,
        r#""disabled":false,"enabled":false"#,
        // Nothing else of what is not used is looked at.
        r#""disabled":true,"include_tags":["a"],"url":1"#,
    ] {
        assert_eq!(names(keys), ["b"], "{keys}");
    }
    for keys in [r#""disabled":false"#, r#""enabled":true"#, r#""isActive":true"#, r#""disabled":null"#, r#""x":1"#] {
        assert_eq!(names(keys), ["a", "b"], "{keys}");
    }
}

/// A file with the servers `Git` and `b`, and these keys beside them.
fn file(keys: &str) -> Result<Vec<String>, String> {
    let text = format!("{{\"mcpServers\":{{\"Git\":{{\"command\":\"x\"}},\"b\":{{\"command\":\"y\"}}}},\n{keys}}}");
    let config = parse(&text).map_err(|error| error.to_string())?;
    assert!(config.servers.iter().all(|server| server.filters.is_empty()));
    Ok(config.servers.into_iter().map(|server| server.name).collect())
}

#[test]
fn keys_beside_the_servers_choose_servers() {
    for (keys, expected) in [
        (r#""mcp":{"allowed":["git"]}"#, &["Git"][..]),
        (r#""mcp":{"excluded":[" GIT "],"serverCommand":"x"}"#, &["b"]),
        (r#""mcp":{"allowed":["Git","b"],"excluded":["b"]}"#, &["Git"]),
        (r#""mcp":{"allowed":null,"excluded":[]}"#, &["Git", "b"]),
        (r#""allowMCPServers":["b"]"#, &["b"]),
        (r#""excludeMCPServers":["b"]"#, &["Git"]),
        (r#""disabledMcpServers":["b"],"enabledMcpjsonServers":["b"]"#, &["Git"]),
    ] {
        assert_eq!(file(keys).unwrap(), expected, "{keys}");
    }
    let error = file(r#""mcp":{"allowed":[]}"#).unwrap_err();
    assert!(error.ends_with("mcpServers: expected a server at least, and all of them are disabled"), "{error}");
    let error = file(r#""deniedMcpServers":[{"serverName":"b"}]"#).unwrap_err();
    assert_eq!(error, "mcp.json:2:21: deniedMcpServers[0]: expected the name of a server, found an object");
}

#[test]
fn keys_beside_the_servers_restrict_no_tools_in_silence() {
    for keys in [
        r#""allowedTools":["@git/push"]"#,
        r#""tools":["*"]"#,
        r#""tools":["@builtin","*"],"resources":["file://README.md"],"toolAliases":{"@a/b":"c"}"#,
        r#""tools":{"core":["read_file"],"allowed":["run(git)"],"exclude":[],"sandbox":false,"useRipgrep":false,"shell":{"pager":"cat"}}"#,
        r#""permissions":{"allow":["mcp__git__push"],"deny":["Bash(rm:*)","Read(./.env)"]}"#,
        r#""chat.tools.edits.disabled":true,"files.exclude":{"x":true},"excludeTools":[]"#,
        r#""coreTools":["x"],"excludeTags":null,"disableTools":false"#,
    ] {
        assert_eq!(file(keys).unwrap(), ["Git", "b"], "{keys}");
    }
    for (keys, key) in [
        (r#""excludeTools":["push"]"#, "excludeTools"),
        (r#""exclude_tools":"push""#, "exclude_tools"),
        (r#""includeTools":[]"#, "includeTools"),
        (r#""disabledTools":["push"]"#, "disabledTools"),
        (r#""denyTools":["push"]"#, "denyTools"),
        (r#""availableTools":["push"]"#, "availableTools"),
        (r#""include_tags":["a"]"#, "include_tags"),
        (r#""tools":["push"]"#, "tools"),
        (r#""tools":[]"#, "tools"),
        (r#""tools":{"exclude":["push"]}"#, "tools.exclude"),
        (r#""tools":{"push":false}"#, "tools.push"),
        (r#""tools":{"push":{"enabled":false}}"#, "tools.push"),
        (r#""tools":{"push":{"name":"x"}}"#, "tools.push"),
        (r#""permissions":{"deny":["Bash(rm:*)","mcp__git__push"]}"#, "permissions.deny[1]"),
        (r#""permissions":{"deny":["Mcp(git:push)"]}"#, "permissions.deny[0]"),
    ] {
        let error = file(keys).unwrap_err();
        assert!(error.starts_with("mcp.json:2:"), "{keys}: {error}");
        assert!(error.contains(&format!(": {key}: this key seems to restrict what is offered")), "{keys}: {error}");
    }
    // In sessile's own objects they are settings that there are not.
    for key in ["excludeTools", "exclude_tools", "tools", "include_tags", "disabled", "disabledTools"] {
        let error = file(&format!(r#""sessile":{{"{key}":null}}"#)).unwrap_err();
        assert!(error.contains(&format!(": sessile.{key}: there is no such setting")), "{error}");
        let error = refused(&format!(r#""sessile":{{"{key}":["push"]}}"#));
        assert!(error.contains(&format!(": mcpServers.git.sessile.{key}: there is no such setting")), "{error}");
    }
}

#[test]
fn a_restriction_holds_whatever_sessile_itself_is_told() {
    let keys = r#""includeTools":["push","pull"],"disabledTools":["pull"]"#;
    let leaves_with = |own: &str, outer: &str| {
        let text = format!(r#"{{"mcpServers":{{"a":{{"command":"x",{keys},"sessile":{own}}}}},"sessile":{outer}}}"#);
        let ConfigFile { servers, settings } = good(&text);
        let mut upper = Settings::default();
        upper.filters.tools.allow = Some(vec!["*".to_owned()]);
        let applied = |upper: &Settings| {
            let servers = ServerSpec::apply(servers.clone(), upper, &settings).unwrap();
            offered(&servers[0])
        };
        (applied(&Settings::default()), applied(&upper))
    };
    let push = || vec!["push"];
    assert_eq!(leaves_with("{}", "{}"), (push(), push()));
    assert_eq!(leaves_with(r#"{"allowTools":["*"]}"#, r#"{"allowTools":["pull"]}"#), (push(), push()));
    assert_eq!(leaves_with(r#"{"allowTools":["pull","status"]}"#, "{}"), (vec![], push()));
    assert_eq!(leaves_with(r#"{"denyTools":["pu*"]}"#, "{}"), (vec![], vec![]));
    assert_eq!(leaves_with("{}", r#"{"denyTools":["push"]}"#), (vec![], vec![]));
}

/// The key in another spelling: the letters that are set in `upper` are capitals, and `between` stands before them.
fn spelled(words: &[&str], upper: &[bool], between: &str) -> String {
    let mut key = words.join(between);
    for (at, _) in upper.iter().enumerate().filter(|(_, upper)| **upper) {
        if let Some(letter) = key.get_mut(at..=at) {
            letter.make_ascii_uppercase();
        }
    }
    key
}

proptest! {
    #[test]
    fn no_tool_passes_that_was_taken_away(
        taken in prop::sample::select(TOOLS.to_vec()),
        words in prop::sample::select(vec![
            ["exclude", "tools"],
            ["excluded", "tools"],
            ["disabled", "tools"],
            ["disallowed", "tools"],
            // Not known by name.
            ["hidden", "tools"],
            ["tool", "blocklist"],
            ["blocked", "tool"],
        ]),
        upper in prop::collection::vec(any::<bool>(), 0..16),
        between in prop::sample::select(vec!["", "_", "-", " "]),
        others in prop::collection::vec(prop::sample::select(vec![
            r#""includeTools":["push","pull","status","git_push"]"#,
            r#""tools":["*"]"#,
            r#""enabled_tools":["push"]"#,
            r#""alwaysAllow":["push","pull"]"#,
            r#""trust":true"#,
            r#""sessile":{"allowTools":["*"]}"#,
            r#""disabled":false"#,
        ]), 0..4),
        value in prop::sample::select(vec![r#"["T"]"#, r#"["x","T","T"]"#, r#""T""#, r#"{"T":true}"#, r#"[["T"]]"#, r#"["T",null]"#, r#"["T*"]"#]),
        outside in any::<bool>(),
        first in any::<bool>(),
    ) {
        let restriction = format!("{:?}:{}", spelled(&words, &upper, between), value.replace('T', taken));
        let mut keys: Vec<String> = others.iter().map(|key| (*key).to_owned()).collect();
        let beside = if outside { format!(",{restriction}") } else { String::new() };
        if !outside {
            keys.insert(if first { 0 } else { keys.len() }, restriction);
        }
        keys.insert(0, r#""command":"x""#.to_owned());
        let text = format!(r#"{{"mcpServers":{{"a":{{{}}}}}{beside}}}"#, keys.join(","));
        // An error offers nothing.
        if let Ok(config) = parse(&text) {
            prop_assert!(!offered(&config.servers[0]).contains(&taken), "{text}");
        }
    }

    #[test]
    fn a_list_of_names_is_obeyed_to_the_letter(
        keep in prop::option::of(prop::collection::vec(prop::sample::select(TOOLS.to_vec()), 0..5)),
        away in prop::collection::vec(prop::sample::select(TOOLS.to_vec()), 0..5),
        hidden in prop::option::of(prop::sample::select(TOOLS.to_vec())),
    ) {
        let mut keys = vec![format!(r#""excludeTools":{away:?}"#)];
        keys.extend(keep.iter().map(|keep| format!(r#""includeTools":{keep:?}"#)));
        keys.extend(hidden.map(|hidden| format!(r#""tools":{{{hidden:?}:{{"enabled":false}}}}"#)));
        let expected: Vec<_> = TOOLS
            .into_iter()
            .filter(|tool| keep.as_ref().is_none_or(|keep| keep.contains(tool)))
            .filter(|tool| !away.contains(tool) && hidden != Some(*tool))
            .collect();
        prop_assert_eq!(leaves(&keys.join(",")), expected);
    }
}
