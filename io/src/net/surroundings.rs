//! The host's addresses, its router, and how long it has slept.

use super::interface::Interface;
use super::real::leads_out;
use fast_peer_core::portmap::Router;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

/// What there is around a host, which a driver looks at now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The addresses of interfaces that are up, but for loopback and link-local ones; in order, each once.
    pub addresses: Vec<IpAddr>,
    /// The router on the way out, if there is one for IPv4.
    pub router: Option<Router>,
    /// The number of the one interface that is used, if it is only one and there: made anew it has another.
    pub interface: Option<u32>,
    /// How long the host has been asleep in all, while the clock of the driver stood still.
    pub slept: Duration,
}

impl Surroundings {
    /// What of it matters to those who listen on `listening`: what comes in by other addresses finds nobody.
    pub(crate) fn seen_from(self, listening: &[IpAddr]) -> Self {
        let hears = |ip: IpAddr| {
            listening.iter().any(|it| *it == ip || it.is_unspecified() && it.is_ipv4() == ip.is_ipv4())
        };
        Self {
            addresses: self.addresses.into_iter().filter(|ip| hears(*ip)).collect(),
            router: self.router.filter(|router| hears(router.local.into())),
            ..self
        }
    }
}

/// What there is, or what there is of it by one interface. By that of the host alone nobody else is reached, and nothing
/// changes.
pub(super) fn look(only: Option<&Interface>) -> io::Result<Surroundings> {
    if only.is_some_and(Interface::is_loopback) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let found = if_addrs::get_if_addrs()?.into_iter();
    let found = found.filter(|found| only.is_none_or(|only| found.name == only.name()));
    let mut addresses: Vec<IpAddr> =
        found.filter(|found| found.is_oper_up() && leads_out(found)).map(|found| found.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // The way to it leads by another interface, if the address there is not among these.
    let is_near = |router: &Router| only.is_none() || addresses.contains(&router.local.into());
    let router = router(&addresses).filter(is_near);
    let interface = only.and_then(|only| only.index().ok());
    Ok(Surroundings { addresses, router, interface, slept: slept() })
}

/// UPnP finds routers by itself, so an address in a private network is enough to begin with.
fn router(addresses: &[IpAddr]) -> Option<Router> {
    let gateway = default_gateway();
    let local = gateway.and_then(way_to).or_else(|| {
        addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) if ip.is_private() => Some(*ip),
            _ => None,
        })
    });
    Some(Router { local: local?, gateway })
}

/// The address from which datagrams to `gateway` leave. Nothing is sent.
fn way_to(gateway: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((gateway, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn default_gateway() -> Option<Ipv4Addr> {
    parse_routes(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// Elsewhere the routing table takes much code to read, and UPnP does without.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn default_gateway() -> Option<Ipv4Addr> {
    None
}

/// The gateway of the default route with the lowest metric in a table like `/proc/net/route`: columns `Iface Destination
/// Gateway Flags RefCnt Use Metric Mask`, with addresses in hexadecimal as they lie in memory.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn parse_routes(table: &str) -> Option<Ipv4Addr> {
    let defaults = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = columns[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let goes_out = destination == "00000000" && mask == "00000000";
        if !goes_out || flags & (RTF_UP | RTF_GATEWAY) != RTF_UP | RTF_GATEWAY {
            return None;
        }
        let gateway = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        Some((metric.parse::<u32>().ok()?, Ipv4Addr::from(gateway)))
    });
    defaults.min().map(|(_, gateway)| gateway)
}

/// The clock of a driver stands still while the host sleeps; another one of Linux does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn slept() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // In this order it is never less than it was before because of the time between the two.
    let awake = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(awake)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn slept() -> Duration {
    Duration::ZERO
}

#[cfg(any(target_os = "linux", target_os = "android", test))]
const RTF_UP: u32 = 1;
#[cfg(any(target_os = "linux", target_os = "android", test))]
const RTF_GATEWAY: u32 = 2;

#[cfg(test)]
mod tests {
    use super::{Surroundings, look, parse_routes};
    use fast_peer_core::portmap::Router;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_lowest_metric_counts() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let route = |destination: &str, gateway: &str, flags: &str, metric: u32, mask: &str| {
            format!("eth0\t{destination}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
        };
        let lan = route("0001A8C0", "00000000", "0001", 0, "00FFFFFF");
        let slow = route("00000000", "FE01A8C0", "0003", 600, "00000000");
        let fast = route("00000000", "0101A8C0", "0003", 100, "00000000");
        let tunnel = route("00000000", "00000000", "0001", 50, "00000000");
        let table = [head, &lan, &slow, &fast, &tunnel].concat();
        assert_eq!(parse_routes(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(parse_routes(&[head, &lan, "odd line\n"].concat()), None);
        assert_eq!(parse_routes(""), None);
    }

    #[test]
    fn only_what_somebody_listens_on_matters() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let router = Router { local: Ipv4Addr::new(192, 168, 1, 7), gateway: None };
        let addresses = vec![ip("10.0.0.2"), ip("192.168.1.7"), ip("2001:db8::1")];
        let all = Surroundings { addresses, router: Some(router), ..Surroundings::default() };
        let seen = |listening: &[&str]| {
            let listening: Vec<IpAddr> = listening.iter().map(|text| ip(text)).collect();
            let seen = all.clone().seen_from(&listening);
            (seen.addresses.len(), seen.router.is_some())
        };
        assert_eq!(seen(&["0.0.0.0", "::"]), (3, true));
        assert_eq!(seen(&["192.168.1.7"]), (1, true));
        assert_eq!(seen(&["10.0.0.2", "::"]), (2, false));
        assert_eq!(seen(&["127.0.0.1", "::1"]), (0, false));
    }

    #[test]
    fn a_look_around_finds_no_loopback() {
        let around = look(None).unwrap();
        assert!(around.addresses.iter().all(|ip| !ip.is_loopback()), "{around:?}");
        assert!(around.addresses.is_sorted());
    }
}
