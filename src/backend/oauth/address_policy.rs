//! Which addresses a login may talk to. Pure: names are resolved by the caller.
//!
//! A backend says itself where its login is. If it could name any address, it could make this process send requests
//! into the operator's own network (MCP 2025-11-25, "Security Best Practices", server-side request forgery). So a login
//! talks https to public addresses, and to other addresses only if the backend itself is on an address of the same
//! kind. The kinds are listed here because `IpAddr::is_global` of std is not stable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The kind of an address, as far as this policy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressKind {
    Public,
    Loopback,
    /// Private, unique local, or shared between a provider's customers.
    Private,
    /// Link-local, multicast or reserved: no authorization server is there, but metadata services of clouds are.
    Other,
}

impl AddressKind {
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
            // Unspecified, Teredo, documentation, NAT64 of local use, discard-only.
            [0, 0, 0, 0, 0, 0, 0, 0] | [0x2001, 0 | 0xdb8, ..] | [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] => {
                Self::Other
            }
            // Link-local, site-local and multicast.
            [first, ..] if first >= 0xfe80 => Self::Other,
            _ => Self::Public,
        }
    }
}

/// Returns the IPv4 address that an IPv6 address stands for, if that is a mapped or compatible one, NAT64 or 6to4.
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

/// The URLs and addresses that a login to one backend may talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressPolicy {
    /// Whether plain http is permitted: only if the backend's own URL is plain http, and its address is not public.
    plain: bool,
    /// The kind of the backend's addresses.
    kind: AddressKind,
    /// The backend's own address, where its URL has one in place of a name.
    own: Option<IpAddr>,
}

/// Why a login may not talk to a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlRefusal {
    NotHttps,
    NoHost,
    Userinfo,
    Address,
}

impl UrlRefusal {
    /// The reason in words, as the end of a sentence.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotHttps => "it is not https",
            Self::NoHost => "it has no host",
            Self::Userinfo => "it has a user name or a password in it",
            Self::Address => "its address is not public, and the backend is not on such an address itself",
        }
    }
}

impl AddressPolicy {
    /// The policy for logins to `backend`, whose name stands for the addresses `resolved`. If these are not all of one
    /// kind, they count as public: such a name is likely to be an attack.
    pub(super) fn of(backend: &Url, resolved: &[IpAddr]) -> Self {
        let own = literal(backend);
        let kind = match (own, backend.host()) {
            (Some(address), _) => AddressKind::of(address),
            (None, Some(Host::Domain(name))) if is_localhost(name) => AddressKind::Loopback,
            _ => match resolved.split_first() {
                Some((first, rest)) if rest.iter().all(|other| AddressKind::of(*other) == AddressKind::of(*first)) => {
                    AddressKind::of(*first)
                }
                _ => AddressKind::Public,
            },
        };
        Self { plain: backend.scheme() == "http" && kind != AddressKind::Public, kind, own }
    }

    /// Whether the backend is on this machine, which no HTTP proxy can reach.
    pub(super) fn is_loopback(&self) -> bool {
        self.kind == AddressKind::Loopback
    }

    /// Whether an address may be connected to. Plain http is not permitted to public addresses, because everybody on
    /// the way would see the tokens.
    pub(super) fn permits(&self, address: IpAddr, plain: bool) -> bool {
        match AddressKind::of(address) {
            AddressKind::Public => !plain,
            kind @ (AddressKind::Loopback | AddressKind::Private) => kind == self.kind || self.own == Some(address),
            AddressKind::Other => self.own == Some(address),
        }
    }

    /// Checks a URL as far as that is possible without resolving its name.
    pub(super) fn check(&self, url: &Url) -> Result<(), UrlRefusal> {
        let plain = match url.scheme() {
            "https" => false,
            "http" if self.plain => true,
            _ => return Err(UrlRefusal::NotHttps),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefusal::Userinfo);
        }
        match (url.host(), literal(url)) {
            (None, _) => Err(UrlRefusal::NoHost),
            (_, Some(address)) if self.permits(address, plain) => Ok(()),
            (_, Some(address)) if self.permits(address, false) => Err(UrlRefusal::NotHttps),
            (_, Some(_)) => Err(UrlRefusal::Address),
            (Some(Host::Domain(name)), _) if is_localhost(name) && self.kind != AddressKind::Loopback => {
                Err(UrlRefusal::Address)
            }
            _ => Ok(()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Returns the address that stands in a URL in place of a name.
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

    fn policy(backend: &str, resolved: &[&str]) -> AddressPolicy {
        let resolved: Vec<IpAddr> = resolved.iter().map(|address| address.parse().unwrap()).collect();
        AddressPolicy::of(&Url::parse(backend).unwrap(), &resolved)
    }

    #[test]
    fn kinds_of_addresses() {
        let table = [
            ("93.184.216.34", AddressKind::Public),
            ("100.63.255.255", AddressKind::Public),
            ("172.15.0.1", AddressKind::Public),
            ("2606:4700::1111", AddressKind::Public),
            ("64:ff9b::5db8:d822", AddressKind::Public),
            ("127.8.9.1", AddressKind::Loopback),
            ("::1", AddressKind::Loopback),
            ("::ffff:127.0.0.1", AddressKind::Loopback),
            ("2002:7f00:1::", AddressKind::Loopback),
            ("10.0.0.9", AddressKind::Private),
            ("172.16.0.1", AddressKind::Private),
            ("172.31.255.255", AddressKind::Private),
            ("192.168.1.1", AddressKind::Private),
            ("100.64.0.1", AddressKind::Private),
            ("fd00::1", AddressKind::Private),
            ("fc00::1", AddressKind::Private),
            ("64:ff9b::a00:9", AddressKind::Private),
            ("::10.0.0.1", AddressKind::Private),
            ("169.254.169.254", AddressKind::Other),
            ("::ffff:169.254.169.254", AddressKind::Other),
            ("fe80::1", AddressKind::Other),
            ("fec0::1", AddressKind::Other),
            ("ff02::1", AddressKind::Other),
            ("0.0.0.0", AddressKind::Other),
            ("::", AddressKind::Other),
            ("255.255.255.255", AddressKind::Other),
            ("240.0.0.1", AddressKind::Other),
            ("198.18.0.1", AddressKind::Other),
            ("2001:0:4136:e378::1", AddressKind::Other),
            ("2001:db8::1", AddressKind::Other),
            ("64:ff9b:1::1", AddressKind::Other),
        ];
        for (address, kind) in table {
            assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
        }
    }

    #[test]
    fn which_urls_may_be_talked_to() {
        let public = policy("https://mcp.example.com/mcp", &["93.184.216.34"]);
        let plain = policy("http://mcp.example.com/mcp", &["93.184.216.34"]);
        let office = policy("https://mcp.corp/mcp", &["10.0.0.4", "10.0.0.5"]);
        let office_plain = policy("http://10.0.0.4/mcp", &[]);
        let local = policy("http://localhost:3000/mcp", &[]);
        let two_faced = policy("https://mcp.example.com/mcp", &["93.184.216.34", "127.0.0.1"]);
        let table = [
            (&public, "https://auth.example.com/token", Ok(())),
            (&public, "http://auth.example.com/token", Err(UrlRefusal::NotHttps)),
            (&public, "ftp://auth.example.com/", Err(UrlRefusal::NotHttps)),
            (&public, "javascript:alert(1)", Err(UrlRefusal::NotHttps)),
            (&public, "https://user:word@auth.example.com/", Err(UrlRefusal::Userinfo)),
            (&public, "https://localhost/token", Err(UrlRefusal::Address)),
            (&public, "https://a.localhost./token", Err(UrlRefusal::Address)),
            (&public, "https://127.0.0.1/token", Err(UrlRefusal::Address)),
            (&public, "https://[::1]/token", Err(UrlRefusal::Address)),
            (&public, "https://0x7f.1/token", Err(UrlRefusal::Address)),
            (&public, "https://2130706433/token", Err(UrlRefusal::Address)),
            (&public, "https://10.0.0.1/token", Err(UrlRefusal::Address)),
            (&public, "https://169.254.169.254/latest", Err(UrlRefusal::Address)),
            (&plain, "http://auth.example.com/token", Err(UrlRefusal::NotHttps)),
            (&plain, "https://auth.example.com/token", Ok(())),
            (&two_faced, "https://127.0.0.1/token", Err(UrlRefusal::Address)),
            (&office, "https://10.9.9.9/token", Ok(())),
            (&office, "http://10.9.9.9/token", Err(UrlRefusal::NotHttps)),
            (&office, "https://127.0.0.1/token", Err(UrlRefusal::Address)),
            (&office_plain, "http://10.0.0.4/token", Ok(())),
            (&office_plain, "http://93.184.216.34/token", Err(UrlRefusal::NotHttps)),
            (&office_plain, "http://169.254.169.254/", Err(UrlRefusal::Address)),
            (&local, "http://127.0.0.1:9/token", Ok(())),
            (&local, "http://localhost:9/token", Ok(())),
            (&local, "https://auth.example.com/token", Ok(())),
            (&local, "https://10.0.0.1/token", Err(UrlRefusal::Address)),
        ];
        for (policy, url, expected) in table {
            assert_eq!(policy.check(&Url::parse(url).unwrap()), expected, "{url} from {policy:?}");
        }
    }

    #[test]
    fn a_backend_may_always_be_reached_where_it_is() {
        for backend in ["http://169.254.1.1/mcp", "http://0.0.0.0:3000/mcp", "http://[fe80::1]/mcp"] {
            let policy = policy(backend, &[]);
            assert_eq!(policy.check(&Url::parse(backend).unwrap()), Ok(()), "{backend}");
            assert!(!policy.permits("169.254.169.254".parse().unwrap(), false), "{backend}");
        }
    }
}
