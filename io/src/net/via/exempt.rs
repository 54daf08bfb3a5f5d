//! Web servers that are asked without the proxy (`NO_PROXY`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A list of hosts, as curl reads it: names, which cover what lies below them; addresses; networks like `10.0.0.0/8`; or
/// `*` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    All,
    /// In lower case, without dots around it.
    Name(String),
    Network(IpAddr, u32),
}

impl Exempt {
    /// Reads a list with commas or blanks between its entries. One that makes no sense covers nothing.
    pub fn parse(list: &str) -> Self {
        if list.trim() == "*" {
            return Self { entries: vec![Entry::All] };
        }
        let parts = list.split([',', ' ', '\t']).map(str::trim).filter(|part| !part.is_empty());
        Self { entries: parts.filter_map(Entry::parse).collect() }
    }

    /// Whether `host`, a name or an address without brackets, is in the list.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let addr: Option<IpAddr> = host.parse().ok();
        self.entries.iter().any(|entry| match (entry, addr) {
            (Entry::All, _) => true,
            (Entry::Network(network, bits), Some(addr)) => is_within(addr, *network, *bits),
            (Entry::Name(name), None) => {
                host.strip_suffix(&name[..]).is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Entry::Network(..), None) | (Entry::Name(_), Some(_)) => false,
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(addr) = bare.parse::<IpAddr>() {
            return Some(Self::Network(addr, u32::MAX));
        }
        if let Some((network, bits)) = text.split_once('/') {
            let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            return (bits <= if network.is_ipv4() { 32 } else { 128 })
                .then_some(Self::Network(network, bits));
        }
        let name = text.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Name(name))
    }
}

fn is_within(addr: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (addr, network) {
        (IpAddr::V4(addr), IpAddr::V4(network)) => {
            let differ: Ipv4Addr = (addr.to_bits() ^ network.to_bits()).into();
            differ.to_bits().leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(addr), IpAddr::V6(network)) => {
            let differ: Ipv6Addr = (addr.to_bits() ^ network.to_bits()).into();
            differ.to_bits().leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Exempt;

    #[test]
    fn hosts_are_covered_as_by_curl() {
        let list = Exempt::parse(
            "localhost, .example.com,Sub.Example.NET. 192.0.2.7,10.0.0.0/8 [2001:db8::1],fd00::/8,x/y",
        );
        for (host, covered) in [
            ("localhost", true),
            ("notlocalhost", false),
            ("example.com", true),
            ("a.example.com", true),
            ("EXAMPLE.com.", true),
            ("badexample.com", false),
            ("example.net", false),
            ("sub.example.net", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("fd12::1", true),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(list.covers(host), covered, "{host}");
        }
        assert!(Exempt::parse(" * ").covers("a.example"));
        assert!(!Exempt::parse("").covers("a.example"));
        assert!(!Exempt::parse("1.2.3.0/33").covers("1.2.3.0"));
    }
}
