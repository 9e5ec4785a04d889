//! What a server gets of the environment.

use crate::program::{File, SESSILE, run_with};

/// Runs `check` on a server that writes down its environment, which is returned.
fn seen(extra: &str, options: &[&str]) -> String {
    let folder = File::new("");
    let out = folder.beside("env");
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{ "a": {{ "command": "sh",
            "args": ["-c", "env > \"$OUT\"; exec \"$1\" demo", "sh", "${{PROGRAM}}"],
            "env": {{ "OUT": {:?}, "OWN": "${{FROM_OUTSIDE}}" }} {extra} }} }} }}"#,
        out.to_str().unwrap()
    ));
    let path = file.path();
    let words: Vec<&str> = ["check", "--config", &path].into_iter().chain(options.iter().copied()).collect();
    let variables =
        [("PROGRAM", SESSILE), ("FROM_OUTSIDE", "outside"), ("SESSILE_KEY", "ours"), ("LC_TIME", "C"), ("TZ", "UTC")];
    let ended = run_with(&words, &variables);
    assert_eq!(ended.code, 0, "{ended:?}");
    std::fs::read_to_string(out).unwrap()
}

fn has(env: &str, name: &str) -> bool {
    env.lines().any(|line| line.split_once('=').is_some_and(|(key, _)| key == name))
}

#[test]
fn a_server_of_a_file_gets_what_is_safe_and_its_own() {
    let env = seen("", &[]);
    for name in ["PATH", "OWN", "LC_TIME", "TZ", "TMPDIR"] {
        assert!(has(&env, name), "{name}: {env}");
    }
    assert!(env.lines().any(|line| line == "OWN=outside"), "{env}");
    for name in ["FROM_OUTSIDE", "SESSILE_KEY", "CARGO_MANIFEST_DIR", "PROGRAM"] {
        assert!(!has(&env, name), "{name}: {env}");
    }
}

#[test]
fn all_of_it_where_it_is_asked_for_but_what_is_ours() {
    for env in [seen("", &["--inherit-env"]), seen(r#", "sessile": { "inheritEnv": true }"#, &[])] {
        assert!(has(&env, "FROM_OUTSIDE") && has(&env, "OWN") && !has(&env, "SESSILE_KEY"), "{env}");
    }
    let env = seen(r#", "sessile": { "inheritEnv": true }"#, &["--inherit-env=false"]);
    assert!(!has(&env, "FROM_OUTSIDE"), "the command line comes first: {env}");
}

#[test]
fn a_program_of_the_command_line_gets_all_of_it() {
    let script = r#"[ "$FROM_OUTSIDE" = outside ] && [ -z "$SESSILE_KEY" ] && exec "$PROGRAM" demo"#;
    let variables = [("PROGRAM", SESSILE), ("FROM_OUTSIDE", "outside"), ("SESSILE_KEY", "ours")];
    let ended = run_with(&["check", "--", "sh", "-c", script], &variables);
    assert_eq!(ended.code, 0, "{ended:?}");
}
