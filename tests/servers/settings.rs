//! What is said of names and filters when a proxy is built.

use sessile::{ConfigError, Filter, Offered, Proxy, ProxyBuilder};

use crate::demo;

fn named(names: &[&str]) -> ProxyBuilder {
    names.iter().fold(Proxy::builder(), |builder, name| builder.server(*name, demo()))
}

#[test]
fn servers_need_names_of_their_own() {
    for names in [&["a", "a"][..], &["my server", "my_server"], &["a", ""]] {
        let error = named(names).build().unwrap_err();
        assert!(matches!(&error, ConfigError::ServerName { name } if name == names[1]), "{error}");
        assert!(error.to_string().contains("a name of its own"), "{error}");
    }
    assert!(named(&["a", "A", "a_b", "a-b", "a.b"]).build().is_ok());
    let error = named(&["a", "A"]).prefix_uris(true).build().unwrap_err();
    assert!(matches!(&error, ConfigError::ServerName { name } if name == "A"), "{error}");
    assert!(error.to_string().contains("upper and lower case count as the same"), "{error}");
    assert_eq!(Proxy::builder().build().unwrap_err(), ConfigError::NoBackend);
    assert!(named(&["a"]).backend(demo()).build().is_ok());
    assert!(matches!(named(&["backend"]).backend(demo()).build(), Err(ConfigError::ServerName { .. })));
}

#[test]
fn a_filter_needs_its_server() {
    let filter = || Filter::new().deny(Offered::Tools, ["x"]).unwrap();
    let error = named(&["a"]).filter("b", filter()).build().unwrap_err();
    assert!(matches!(&error, ConfigError::UnknownServer { name } if name == "b"), "{error}");
    assert!(named(&["a"]).filter("a", filter()).build().is_ok());
    assert!(Proxy::builder().backend(demo()).filter("backend", filter()).build().is_ok());
}

#[test]
fn there_is_an_end_to_servers() {
    let names: Vec<_> = (0..257).map(|number| format!("s{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(named(&names).build().unwrap_err(), ConfigError::TooManyServers { limit: 256 });
    assert!(named(&names[1..]).build().is_ok());
}
