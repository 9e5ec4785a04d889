//! Which headers may be sent to a server, and which of a client's may be passed on to it.

use http::{HeaderName, HeaderValue};

use crate::headers::{why_not_forwarded, why_not_sent};

/// Checks a header that is sent with every request. `Ok(false)` if it is one that sessile sends by itself: files of
/// other programs have those, and they do no harm.
pub fn check_static(name: &str, value: &str) -> Result<bool, String> {
    let name = parse_name(name)?;
    let value = HeaderValue::from_str(value.trim());
    value.map_err(|_| format!("the value of {name} has characters that a header cannot have"))?;
    if let "accept" | "accept-encoding" | "content-type" = name.as_str() {
        return Ok(false);
    }
    why_not_sent(&name).map_or(Ok(true), |why_not| Err(format!("{name} {why_not}: leave it out")))
}

/// Checks the name of a header that is passed on from clients to the server.
pub fn check_forwarded(name: &str) -> Result<String, String> {
    let name = parse_name(name)?;
    match why_not_forwarded(&name) {
        Some(why_not) => Err(format!("{name} cannot be forwarded: {why_not}")),
        None => Ok(name.as_str().to_owned()),
    }
}

/// Takes `Name: value` apart.
pub fn split(header: &str) -> Result<(&str, &str), String> {
    let (name, value) = header.split_once(':').ok_or("a header is written as 'Name: value'")?;
    Ok((name.trim(), value.trim()))
}

fn parse_name(name: &str) -> Result<HeaderName, String> {
    let shown: String = name.chars().take(80).collect();
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{shown:?} cannot be the name of a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_not_ours_to_send_are_refused() {
        assert_eq!(check_static("Authorization", "Bearer x"), Ok(true));
        assert_eq!(check_static("Content-Type", "application/json"), Ok(false));
        assert_eq!(check_static("Accept-Encoding", "gzip"), Ok(false));
        for name in [
            "Connection",
            "TE",
            "Host",
            "Expect",
            "Content-Length",
            "Content-Encoding",
            "Mcp-Session-Id",
            "a b",
            "",
            "é",
        ] {
            assert!(check_static(name, "x").is_err(), "{name}");
        }
        let error = check_static("X-Key", "sec\nret").unwrap_err();
        assert!(error.contains("x-key") && !error.contains("sec"), "{error}");
    }

    #[test]
    fn headers_that_must_not_be_forwarded_are_refused_with_a_reason() {
        assert_eq!(check_forwarded("X-User-Id").as_deref(), Ok("x-user-id"));
        assert_eq!(check_forwarded("Authorization").as_deref(), Ok("authorization"));
        for name in ["Host", "Keep-Alive", "Content-Type", "MCP-Protocol-Version", "Accept", "Sec-Fetch-Mode"] {
            let error = check_forwarded(name).unwrap_err();
            assert!(error.contains("cannot be forwarded: it") || error.contains("sessile speaks"), "{error}");
        }
    }

    #[test]
    fn a_header_is_split_at_its_first_colon() {
        assert_eq!(split("X-Url: http://x"), Ok(("X-Url", "http://x")));
        assert!(split("secret").is_err_and(|error| !error.contains("secret")));
    }
}
