//! Which addresses a login may talk to. Pure: names have been resolved by whoever asks.
//!
//! What a backend says about its login is only what it says. If it could name any address, it could have this program
//! knock on doors of the operator's own network. So: https, and public addresses; and what is not public only where the
//! backend itself is on an address of the same kind (MCP 2025-11-25, "Security Best Practices", server-side request
//! forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Public,
    Loopback,
    /// Private, unique local, or shared between a provider's customers.
    Private,
    /// Link-local, multicast, reserved: nothing that a login needs is there, but metadata services of clouds are.
    Other,
}

impl Kind {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(address) => Self::of_v4(address),
                None => Self::of_v6(address),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [10, ..] | [192, 168, ..] => Self::Private,
            [172, second, ..] if (16..32).contains(&second) => Self::Private,
            [100, second, ..] if (64..128).contains(&second) => Self::Private,
            [0 | 224..=255, ..]
            | [169, 254, ..]
            | [192, 0, 0 | 2, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => Self::Other,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            return Self::Loopback;
        }
        match address.segments() {
            [first, ..] if first & 0xfe00 == 0xfc00 => Self::Private,
            // What is unspecified, Teredo, documentation, NAT64 of local use, discarded.
            [0, 0, 0, 0, 0, 0, 0, 0] | [0x2001, 0 | 0xdb8, ..] | [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] => {
                Self::Other
            }
            // Link-local, site-local and multicast.
            [first, ..] if first >= 0xfe80 => Self::Other,
            _ => Self::Public,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, where it is a mapped or compatible one, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let two = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(two(high, low))
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(two(high, low)),
        _ => None,
    }
}

/// Where a login to one backend may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    /// Whether plain http will do: only where the backend itself is spoken to so, and is not public.
    plain: bool,
    /// The kind of the backend's addresses.
    kind: Kind,
    /// The backend's own address, where its URL has one in place of a name.
    own: Option<IpAddr>,
}

/// Why a URL is not to be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    NotHttps,
    NoHost,
    Userinfo,
    Address,
}

impl Barred {
    /// In words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotHttps => "it is not https",
            Self::NoHost => "it has no host",
            Self::Userinfo => "it has a user name or a password in it",
            Self::Address => "its address is not public, and the backend is not on such an address itself",
        }
    }
}

impl Reach {
    /// `resolved` is what the backend's name stands for; it counts only if all of it is of one kind, because a name that
    /// is here and there at once is made to be.
    pub(super) fn of(backend: &Url, resolved: &[IpAddr]) -> Self {
        let own = literal(backend);
        let kind = match (own, backend.host()) {
            (Some(address), _) => Kind::of(address),
            (None, Some(Host::Domain(name))) if is_localhost(name) => Kind::Loopback,
            _ => match resolved.split_first() {
                Some((first, rest)) if rest.iter().all(|other| Kind::of(*other) == Kind::of(*first)) => {
                    Kind::of(*first)
                }
                _ => Kind::Public,
            },
        };
        Self { plain: backend.scheme() == "http" && kind != Kind::Public, kind, own }
    }

    /// Whether the backend is on this machine, which no proxy can know.
    pub(super) fn is_here(&self) -> bool {
        self.kind == Kind::Loopback
    }

    /// Whether an address may be connected to. Plain http does not leave the backend's own kind of addresses, because
    /// everybody on the way would see the tokens.
    pub(super) fn permits(&self, address: IpAddr, plain: bool) -> bool {
        match Kind::of(address) {
            Kind::Public => !plain,
            kind @ (Kind::Loopback | Kind::Private) => kind == self.kind || self.own == Some(address),
            Kind::Other => self.own == Some(address),
        }
    }

    /// Whether a URL may be talked to, as far as can be told without resolving its name.
    pub(super) fn check(&self, url: &Url) -> Result<(), Barred> {
        let plain = match url.scheme() {
            "https" => false,
            "http" if self.plain => true,
            _ => return Err(Barred::NotHttps),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Barred::Userinfo);
        }
        match (url.host(), literal(url)) {
            (None, _) => Err(Barred::NoHost),
            (_, Some(address)) if self.permits(address, plain) => Ok(()),
            (_, Some(address)) if self.permits(address, false) => Err(Barred::NotHttps),
            (_, Some(_)) => Err(Barred::Address),
            (Some(Host::Domain(name)), _) if is_localhost(name) && self.kind != Kind::Loopback => Err(Barred::Address),
            _ => Ok(()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// The address that stands in a URL in place of a name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(backend: &str, resolved: &[&str]) -> Reach {
        let resolved: Vec<IpAddr> = resolved.iter().map(|address| address.parse().unwrap()).collect();
        Reach::of(&Url::parse(backend).unwrap(), &resolved)
    }

    #[test]
    fn kinds_of_addresses() {
        let table = [
            ("93.184.216.34", Kind::Public),
            ("100.63.255.255", Kind::Public),
            ("172.15.0.1", Kind::Public),
            ("2606:4700::1111", Kind::Public),
            ("64:ff9b::5db8:d822", Kind::Public),
            ("127.8.9.1", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("2002:7f00:1::", Kind::Loopback),
            ("10.0.0.9", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("100.64.0.1", Kind::Private),
            ("fd00::1", Kind::Private),
            ("fc00::1", Kind::Private),
            ("64:ff9b::a00:9", Kind::Private),
            ("::10.0.0.1", Kind::Private),
            ("169.254.169.254", Kind::Other),
            ("::ffff:169.254.169.254", Kind::Other),
            ("fe80::1", Kind::Other),
            ("fec0::1", Kind::Other),
            ("ff02::1", Kind::Other),
            ("0.0.0.0", Kind::Other),
            ("::", Kind::Other),
            ("255.255.255.255", Kind::Other),
            ("240.0.0.1", Kind::Other),
            ("198.18.0.1", Kind::Other),
            ("2001:0:4136:e378::1", Kind::Other),
            ("2001:db8::1", Kind::Other),
            ("64:ff9b:1::1", Kind::Other),
        ];
        for (address, kind) in table {
            assert_eq!(Kind::of(address.parse().unwrap()), kind, "{address}");
        }
    }

    #[test]
    fn which_urls_may_be_talked_to() {
        let public = reach("https://mcp.example.com/mcp", &["93.184.216.34"]);
        let plain = reach("http://mcp.example.com/mcp", &["93.184.216.34"]);
        let office = reach("https://mcp.corp/mcp", &["10.0.0.4", "10.0.0.5"]);
        let office_plain = reach("http://10.0.0.4/mcp", &[]);
        let local = reach("http://localhost:3000/mcp", &[]);
        let two_faced = reach("https://mcp.example.com/mcp", &["93.184.216.34", "127.0.0.1"]);
        let table = [
            (&public, "https://auth.example.com/token", Ok(())),
            (&public, "http://auth.example.com/token", Err(Barred::NotHttps)),
            (&public, "ftp://auth.example.com/", Err(Barred::NotHttps)),
            (&public, "javascript:alert(1)", Err(Barred::NotHttps)),
            (&public, "https://user:word@auth.example.com/", Err(Barred::Userinfo)),
            (&public, "https://localhost/token", Err(Barred::Address)),
            (&public, "https://a.localhost./token", Err(Barred::Address)),
            (&public, "https://127.0.0.1/token", Err(Barred::Address)),
            (&public, "https://[::1]/token", Err(Barred::Address)),
            (&public, "https://0x7f.1/token", Err(Barred::Address)),
            (&public, "https://2130706433/token", Err(Barred::Address)),
            (&public, "https://10.0.0.1/token", Err(Barred::Address)),
            (&public, "https://169.254.169.254/latest", Err(Barred::Address)),
            (&plain, "http://auth.example.com/token", Err(Barred::NotHttps)),
            (&plain, "https://auth.example.com/token", Ok(())),
            (&two_faced, "https://127.0.0.1/token", Err(Barred::Address)),
            (&office, "https://10.9.9.9/token", Ok(())),
            (&office, "http://10.9.9.9/token", Err(Barred::NotHttps)),
            (&office, "https://127.0.0.1/token", Err(Barred::Address)),
            (&office_plain, "http://10.0.0.4/token", Ok(())),
            (&office_plain, "http://93.184.216.34/token", Err(Barred::NotHttps)),
            (&office_plain, "http://169.254.169.254/", Err(Barred::Address)),
            (&local, "http://127.0.0.1:9/token", Ok(())),
            (&local, "http://localhost:9/token", Ok(())),
            (&local, "https://auth.example.com/token", Ok(())),
            (&local, "https://10.0.0.1/token", Err(Barred::Address)),
        ];
        for (reach, url, expected) in table {
            assert_eq!(reach.check(&Url::parse(url).unwrap()), expected, "{url} from {reach:?}");
        }
    }

    #[test]
    fn a_backend_may_always_be_reached_where_it_is() {
        for backend in ["http://169.254.1.1/mcp", "http://0.0.0.0:3000/mcp", "http://[fe80::1]/mcp"] {
            let reach = reach(backend, &[]);
            assert_eq!(reach.check(&Url::parse(backend).unwrap()), Ok(()), "{backend}");
            assert!(!reach.permits("169.254.169.254".parse().unwrap(), false), "{backend}");
        }
    }
}
