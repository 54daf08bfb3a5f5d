//! One interface of this host, on which everything stays.

use super::real::Kind;
use socket2::Socket;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(any(target_os = "linux", target_os = "android"))]
use tracing::warn;

/// An interface: every socket is bound to it, by the kernel where that can be had, and by its addresses where not.
///
/// When it is gone there is no socket any more, so that nothing leaves by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    /// The addresses to use alone; all that it has if there are none.
    only: Vec<IpAddr>,
    is_loopback: bool,
}

impl Interface {
    /// The interface of a name or an address, or of several addresses that it has. None where nothing is named, or only
    /// unspecified addresses, which are those of every interface.
    pub fn find(named: &[String]) -> io::Result<Option<Self>> {
        let is_unspecified = |text: &&String| text.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        if let Some(any) = named.iter().find(is_unspecified) {
            if named.iter().all(|text| is_unspecified(&text)) {
                return Ok(None);
            }
            let why = format!("{any} stands for every interface, and others are named beside it");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        let all = if_addrs::get_if_addrs()?;
        let mut found: Option<Self> = None;
        for text in named {
            let ip: Option<IpAddr> = text.parse().ok();
            let on = all.iter().find(|on| ip.map_or(on.name == *text, |ip| on.ip() == ip));
            // All of 127.0.0.0/8 is here, and one address of it is listed.
            let on = on
                .or_else(|| all.iter().find(|on| on.is_loopback() && ip.is_some_and(|ip| ip.is_loopback())));
            let Some(on) = on else {
                let what = if ip.is_some() {
                    "no interface has the address"
                } else {
                    "there is no interface with an address called"
                };
                return Err(io::Error::new(ErrorKind::AddrNotAvailable, format!("{what} {text}")));
            };
            let (name, is_loopback) = (on.name.clone(), on.is_loopback());
            let interface = found.get_or_insert_with(|| Self { name, only: vec![], is_loopback });
            if interface.name != on.name {
                let both = format!("{} and {} are two interfaces", interface.name, on.name);
                return Err(io::Error::new(ErrorKind::InvalidInput, both));
            }
            interface.only.extend(ip);
        }
        Ok(found)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where to listen on it: the addresses that were chosen, or anything that comes by it.
    pub fn listens(&self) -> Vec<IpAddr> {
        if self.only.is_empty() {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        } else {
            self.only.clone()
        }
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// A socket that is bound to it. `local` may name one of its addresses, or any.
    pub(super) fn socket(&self, local: SocketAddr, kind: Kind) -> io::Result<Socket> {
        let socket = kind.socket(local)?;
        let by_kernel = bind_device(&socket, &self.name, local.is_ipv6())?;
        let ip =
            if local.ip().is_unspecified() { self.source(local.is_ipv6(), by_kernel)? } else { local.ip() };
        let scope = match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => self.index()?,
            _ => 0,
        };
        let local = match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, local.port()),
            IpAddr::V6(ip) => std::net::SocketAddrV6::new(ip, local.port(), 0, scope).into(),
        };
        kind.bind(&socket, local)?;
        Ok(socket)
    }

    /// The address to send from. Where the kernel holds the socket on the interface it may choose among all of them.
    fn source(&self, is_ipv6: bool, by_kernel: bool) -> io::Result<IpAddr> {
        if let Some(chosen) = self.only.iter().find(|ip| ip.is_ipv6() == is_ipv6) {
            return Ok(*chosen);
        }
        let here = if_addrs::get_if_addrs()?.into_iter().filter(|on| on.name == self.name);
        let mut ips: Vec<_> = here.map(|on| on.ip()).filter(|ip| ip.is_ipv6() == is_ipv6).collect();
        // What reaches farthest first.
        ips.sort_by_key(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        let gone =
            || io::Error::new(ErrorKind::AddrNotAvailable, format!("{} has no such address", self.name));
        let first = ips.first().copied().filter(|_| self.only.is_empty()).ok_or_else(gone)?;
        let any = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Ok(if by_kernel { any } else { first })
    }

    /// Its number, which is another one when it was made anew.
    pub(super) fn index(&self) -> io::Result<u32> {
        let found = if_addrs::get_if_addrs()?.into_iter().find(|on| on.name == self.name);
        found.and_then(|on| on.index).ok_or_else(|| ErrorKind::AddrNotAvailable.into())
    }
}

/// Has the kernel hold a socket on an interface, whatever its routes say; false if it is not for us to ask for that.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(socket: &Socket, name: &str, _is_ipv6: bool) -> io::Result<bool> {
    match socket.bind_device(Some(name.as_bytes())) {
        Ok(()) => Ok(true),
        // Before Linux 5.7 it takes a privilege.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            TOLD.call_once(|| {
                warn!(
                    "the kernel holds no socket on {name} for us: only its addresses keep what is sent there"
                );
            });
            Ok(false)
        }
        // Whoever reads this knows of addresses, not of devices.
        Err(error) if error.raw_os_error() == Some(ENODEV) => {
            Err(io::Error::new(ErrorKind::AddrNotAvailable, format!("there is no interface {name}")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
static TOLD: std::sync::Once = std::sync::Once::new();

/// The same by the number of the interface.
#[cfg(target_vendor = "apple")]
fn bind_device(socket: &Socket, name: &str, is_ipv6: bool) -> io::Result<bool> {
    let found = if_addrs::get_if_addrs()?.into_iter().find(|on| on.name == name);
    let index =
        found.and_then(|on| std::num::NonZeroU32::new(on.index?)).ok_or(ErrorKind::AddrNotAvailable)?;
    if is_ipv6 {
        socket.bind_device_by_index_v6(Some(index))
    } else {
        socket.bind_device_by_index_v4(Some(index))
    }?;
    Ok(true)
}

/// Elsewhere its addresses have to do.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn bind_device(_: &Socket, _: &str, _: bool) -> io::Result<bool> {
    Ok(false)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const ENODEV: i32 = 19;

#[cfg(test)]
mod tests {
    use super::Interface;

    fn find(named: &[&str]) -> Result<Option<Interface>, String> {
        let named: Vec<_> = named.iter().map(|text| (*text).to_owned()).collect();
        Interface::find(&named).map_err(|error| error.to_string())
    }

    #[test]
    fn an_interface_is_found_by_any_of_its_names() {
        let lo = find(&["127.0.0.1"]).unwrap().unwrap();
        assert_eq!((lo.listens(), lo.is_loopback()), (vec!["127.0.0.1".parse().unwrap()], true));
        let by_name = find(&[lo.name()]).unwrap().unwrap();
        assert_eq!((by_name.name(), by_name.listens().len()), (lo.name(), 2));
        assert_eq!(find(&["127.0.0.1", "127.9.9.9"]).unwrap().unwrap().listens().len(), 2);
        assert_eq!(find(&["0.0.0.0"]), Ok(None));
        assert!(find(&["::", lo.name()]).unwrap_err().starts_with(":: stands for every interface"));
        assert_eq!(find(&[]), Ok(None));
        assert_eq!(find(&["192.0.2.254"]), Err("no interface has the address 192.0.2.254".to_owned()));
        assert_eq!(find(&["tun99"]), Err("there is no interface with an address called tun99".to_owned()));
    }
}
