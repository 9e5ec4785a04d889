//! Ranges of addresses, for the reverse proxies whose headers are believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of IP addresses in CIDR notation, such as `10.0.0.0/8`, or one address.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) counts as IPv4: a listener for both sees its
/// peers so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    /// How many bits all addresses of the range have in common.
    prefix: u32,
}

impl AddressRange {
    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let rest = u32::MAX.checked_shr(self.prefix).unwrap_or(0);
                first.to_bits() | rest == address.to_bits() | rest
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let rest = u128::MAX.checked_shr(self.prefix).unwrap_or(0);
                first.to_bits() | rest == address.to_bits() | rest
            }
            _ => false,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(80).collect();
            format!("{shown:?} is no range of addresses: write one such as 10.0.0.0/8 or fd00::/8")
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = match prefix {
            // Digits only: a number may also be parsed from `+8`.
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits(written)).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => bits(written),
        };
        let first = written.to_canonical();
        // The first 96 bits of an IPv4 address that is written as an IPv6 one are no part of it.
        let spare = bits(written) - bits(first);
        let Some(prefix) = prefix.checked_sub(spare) else {
            return Err(format!("{text} has IPv6 and IPv4 addresses in it: write two ranges"));
        };
        let is_first = match first {
            IpAddr::V4(first) => first.to_bits() & u32::MAX.checked_shr(prefix).unwrap_or(0) == 0,
            IpAddr::V6(first) => first.to_bits() & u128::MAX.checked_shr(prefix).unwrap_or(0) == 0,
        };
        if !is_first {
            // Somebody may have meant one address and trusted a whole network.
            return Err(format!(
                "{text} is not the first address of its range: write that, or {first} for this one alone"
            ));
        }
        Ok(Self { first, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_in_a_range() {
        for (range, inside, outside) in [
            ("127.0.0.1/32", &["127.0.0.1", "::ffff:127.0.0.1"][..], &["127.0.0.2", "::1", "128.0.0.1"][..]),
            ("127.0.0.1", &["127.0.0.1"], &["127.0.0.2"]),
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "9.255.255.255", "::"]),
            ("10.1.2.128/25", &["10.1.2.128", "10.1.2.255"], &["10.1.2.127", "10.1.3.128"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "::1"]),
            ("::/0", &["::", "ffff::1"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            ("fd00::/8", &["fd00::", "fdff:1::2"], &["fe00::", "fc00::"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("::ffff:10.0.0.0/104", &["10.2.3.4", "::ffff:10.2.3.4"], &["11.0.0.0"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]),
        ] {
            let parsed: AddressRange = range.parse().unwrap();
            for address in inside {
                assert!(parsed.contains(address.parse().unwrap()), "{range} {address}");
            }
            for address in outside {
                assert!(!parsed.contains(address.parse().unwrap()), "{range} {address}");
            }
        }
    }

    #[test]
    fn what_is_no_range() {
        for bad in
            ["", "x", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/-1", "::/129", "10.0.0/8", "10.0.0.0/8/8"]
        {
            let error = bad.parse::<AddressRange>().unwrap_err();
            assert!(error.contains("write one such as 10.0.0.0/8"), "{bad}: {error}");
        }
        for (bad, expected) in [
            ("10.0.0.1/8", "write that, or 10.0.0.1 for this one alone"),
            ("fd00::1/8", "write that, or fd00::1 for this one alone"),
            ("::ffff:0.0.0.0/64", "write two ranges"),
        ] {
            let error = bad.parse::<AddressRange>().unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        assert_eq!("::ffff:10.0.0.0/104".parse::<AddressRange>().unwrap().to_string(), "10.0.0.0/8");
    }
}
