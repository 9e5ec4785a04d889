//! A program that may have few file descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::program::Serving;

#[test]
fn idle_connections_do_not_keep_new_clients_out() {
    let serving = Serving::demo_with_descriptors(64);
    let address = serving.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let connect = || {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    };
    // More than the program can have, and none of them ever says a word.
    let mut idle: Vec<_> = (0..100).map(|_| connect()).collect();
    let mut client = connect();
    write!(client, "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("ok\n"), "{response}");
    // Those that came first were closed for it.
    assert_eq!(idle[0].read(&mut [0; 8]).unwrap_or(0), 0);
}
