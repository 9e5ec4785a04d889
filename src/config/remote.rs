//! How a server at a URL is reached, and which headers and credentials it gets.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::headers;
use super::json::{FileError, Node, ObjectReader};
use super::oauth_options::{OAuthMode, OAuthOptions};
use super::{units, vars};

/// How one server at a URL is reached. A field that is `None` or empty has not been set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// The transport that the server speaks.
    pub transport: Option<Transport>,
    /// Headers that are sent with every request.
    pub headers: Vec<(String, Secret)>,
    /// Names of headers of clients that are passed on with their own requests.
    pub forward_headers: Vec<String>,
    /// Where the bearer token comes from.
    pub bearer: Option<Bearer>,
    /// How a token is fetched by OAuth.
    pub oauth: OAuthOptions,
    /// The unix socket that stands in for the URL's host and port.
    pub unix_socket: Option<PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
}

/// The transport that a server at a URL speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, or HTTP+SSE where the server turns out to be that old (2025-11-25, basic/transports, "Backwards
    /// compatibility").
    #[default]
    Auto,
    /// Streamable HTTP only.
    Http,
    /// HTTP+SSE of 2024-11-05 only.
    Sse,
}

/// Where a bearer token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// A file that holds nothing else.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The token itself.
    Token(Secret),
}

impl Transport {
    /// Parses the name of a transport, as it is written in files and on the command line.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "http" | "streamable-http" | "streamableHttp" | "streamable_http" => Ok(Self::Http),
            "sse" => Ok(Self::Sse),
            "stdio" => Err("stdio is for a server with a command, and this one has a url".to_owned()),
            _ => Err("it is none that is known here".to_owned()),
        }
    }
}

impl Remote {
    /// Puts these settings over `lower` ones. A credential that is set here replaces all credentials there: a server
    /// must never get two.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let credential = self.has_credential();
        let Self { transport, mut headers, forward_headers, bearer, mut oauth, unix_socket, connect_timeout } = self;
        let mut lower_forward = lower.forward_headers;
        let mut lower_headers = lower.headers;
        lower_headers.retain(|(name, _)| !headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        if credential {
            lower_headers.retain(|(name, _)| !is_authorization(name));
            lower_forward.retain(|name| !is_authorization(name));
            oauth.mode = oauth.mode.or(Some(OAuthMode::Off));
        }
        headers.extend(lower_headers);
        Self {
            transport: transport.or(lower.transport),
            headers,
            forward_headers: if forward_headers.is_empty() { lower_forward } else { forward_headers },
            bearer: if credential { bearer } else { lower.bearer },
            oauth: oauth.over(lower.oauth),
            unix_socket: unix_socket.or(lower.unix_socket),
            connect_timeout: connect_timeout.or(lower.connect_timeout),
        }
    }

    /// The key of the first setting that is set.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let others = [(self.transport.is_some(), "transport"), (self.connect_timeout.is_some(), "connectTimeout")];
        self.first_set_for_one_server().or_else(|| others.iter().find(|(set, _)| *set).map(|(_, key)| *key))
    }

    /// The key of the first setting that is set and makes sense for one server only: its address, or a credential.
    pub(super) fn first_set_for_one_server(&self) -> Option<&'static str> {
        let bearer = match self.bearer {
            Some(Bearer::File(_)) => Some("bearerFile"),
            Some(Bearer::Env(_)) => Some("bearerEnv"),
            Some(Bearer::Token(_)) => Some("auth"),
            None => None,
        };
        let others = [
            (!self.headers.is_empty(), "header"),
            (!self.forward_headers.is_empty(), "forwardHeader"),
            (self.unix_socket.is_some(), "unixSocket"),
            (self.oauth != OAuthOptions::default(), "oauth"),
        ];
        bearer.or_else(|| others.iter().find(|(set, _)| *set).map(|(_, key)| *key))
    }

    /// Checks that the settings go together.
    pub fn check(&self) -> Result<(), String> {
        let set: Vec<_> = self.credentials().into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        if set.len() > 1 {
            return Err(format!("{} cannot go together: keep one of them", set.join(" and ")));
        }
        self.oauth.check()
    }

    fn has_credential(&self) -> bool {
        self.credentials().iter().any(|(set, _)| *set)
    }

    /// The kinds of credentials, and whether each is set.
    fn credentials(&self) -> [(bool, &'static str); 4] {
        [
            (self.bearer.is_some(), "a bearer token"),
            (self.oauth.is_on(), "OAuth"),
            (self.headers.iter().any(|(name, _)| is_authorization(name)), "an Authorization header"),
            (self.forward_headers.iter().any(|name| is_authorization(name)), "the clients' own Authorization header"),
        ]
    }

    /// Reads the settings in a `sessile` object.
    pub(super) fn read(reader: &ObjectReader<'_>) -> Result<Self, FileError> {
        let path = |node: Option<Node<'_>>| node.map(|node| node.parsed("a path", units::path)).transpose();
        let bearer_file = reader.get("bearerFile");
        let bearer_env = reader.get("bearerEnv");
        if let (Some(_), Some(second)) = (&bearer_file, &bearer_env) {
            return Err(second.error("there is a bearerFile too: keep one of them"));
        }
        let bearer = match (path(bearer_file)?, bearer_env) {
            (Some(file), _) => Some(Bearer::File(file)),
            (None, Some(node)) => {
                Some(Bearer::Env(node.parsed("the name of an environment variable", units::variable_name)?))
            }
            (None, None) => None,
        };
        let forward_headers = match reader.get_either("forwardHeaders", "forwardHeader")? {
            Some(node) => {
                let names = node.list()?;
                let name = |node: &Node<'_>| node.parsed("the name of a header", headers::check_forwarded);
                names.iter().map(name).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };
        let headers = reader.get_either("headers", "header")?.map(|node| read_headers(&node)).transpose()?;
        let expected = "one of auto, http and sse";
        Ok(Self {
            transport: reader.get("transport").map(|node| node.parsed(expected, Transport::parse)).transpose()?,
            headers: headers.unwrap_or_default(),
            forward_headers,
            bearer,
            oauth: OAuthOptions::read(reader)?,
            unix_socket: path(reader.get("unixSocket"))?,
            connect_timeout: reader.get("connectTimeout").map(|node| node.parsed("a time", units::time)).transpose()?,
        })
    }
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization")
}

/// Headers as an object, or as a list of `Name: value` as the command line has them.
pub(super) fn read_headers(node: &Node<'_>) -> Result<Vec<(String, Secret)>, FileError> {
    let mut headers = Vec::new();
    if node.is_array() {
        for node in node.list()? {
            let text = node.text()?;
            let (name, value) = headers::split(text.expose()).map_err(|error| node.error(error))?;
            add_header(&mut headers, &node, name, value)?;
        }
    } else {
        for (name, node) in node.object_or("an object of headers")?.set_entries() {
            add_header(&mut headers, &node, name, node.text_or_scalar()?.expose())?;
        }
    }
    Ok(headers)
}

/// Parses a header `Name: value` of the command line, with its variables. Errors quote nothing of the value, which may
/// be a secret. `None` for a header that sessile sends by itself.
pub fn parse_header(
    header: &Secret,
    variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Option<(String, Secret)>, String> {
    let (name, value) = headers::split(header.expose())?;
    headers::check_static(name, "")?;
    let value = vars::expand(value, variable).map_err(|error| format!("{name}: {error}"))?.text;
    Ok(headers::check_static(name, &value)?.then(|| (name.to_owned(), value.into())))
}

fn add_header(headers: &mut Vec<(String, Secret)>, node: &Node<'_>, name: &str, value: &str) -> Result<(), FileError> {
    if headers::check_static(name, value).map_err(|error| node.error(error))? {
        if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(node.error("this header stands here twice: keep one of them"));
        }
        headers.push((name.to_owned(), value.trim().into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer() -> Remote {
        Remote { bearer: Some(Bearer::Env("TOKEN".into())), ..Remote::default() }
    }

    fn login() -> Remote {
        Remote { oauth: OAuthOptions { mode: Some(OAuthMode::Login), ..OAuthOptions::default() }, ..Remote::default() }
    }

    fn header(name: &str, value: &str) -> Remote {
        Remote { headers: vec![(name.to_owned(), value.into())], ..Remote::default() }
    }

    #[test]
    fn one_credential_takes_the_place_of_all_below_it() {
        for upper in [bearer(), login(), header("Authorization", "x")] {
            for lower in [bearer(), login(), header("authorization", "y")] {
                let merged = upper.clone().over(lower);
                assert_eq!(merged.check(), Ok(()), "{merged:?}");
                assert_eq!(merged.bearer, upper.bearer);
                assert_eq!(merged.headers, upper.headers);
                assert_eq!(merged.oauth.is_on(), upper.oauth.is_on());
            }
            assert_eq!(Remote::default().over(upper.clone()), upper);
        }
    }

    #[test]
    fn headers_are_merged_by_name() {
        let merged = header("X-A", "1").over(Remote {
            headers: vec![("x-a".into(), "2".into()), ("X-B".into(), "3".into())],
            ..Remote::default()
        });
        let shown: Vec<_> = merged.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(shown, [("X-A", "1"), ("X-B", "3")]);
    }

    #[test]
    fn two_credentials_do_not_go_together() {
        let both = Remote { bearer: bearer().bearer, ..login() };
        assert_eq!(both.check().unwrap_err(), "a bearer token and OAuth cannot go together: keep one of them");
        let both = Remote { forward_headers: vec!["authorization".into()], ..bearer() };
        assert!(both.check().is_err());
    }
}
