//! A network per case: a switch with hosts on it, apart from the machine's own network and from all other cases.
//!
//! Every host is a Linux network namespace of its own, with one IPv4 and one IPv6 address, so clients need no
//! options about addresses and see each other as they would on a real local network. The namespaces have no names:
//! the kernel removes them with the last process and descriptor in them, however the tests end.
//!
//! All IPv4 addresses lie on one link, but no two in the same /24: nodes of the DHT know few others of one /24.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The version of the Internet Protocol that a case uses between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Runs `case` on a thread that has been put on the switch of a new network.
pub fn in_new_network<T: Send>(case: impl FnOnce(&Network) -> Result<T> + Send) -> Result<T> {
    let run = || {
        let network = Network::new().context("no network for the test: this needs root and iproute2")?;
        case(&network)
    };
    thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A switch, on which the test itself sits. Belongs to one thread.
#[derive(Debug)]
pub struct Network {
    namespace: File,
    hosts: Cell<u8>,
}

impl Network {
    /// The test's own address on this network.
    pub fn address(&self, family: Family) -> IpAddr {
        address(SWITCHED, SWITCH, family)
    }

    /// A new host on the switch.
    pub fn host(&self) -> Result<Host> {
        self.host_with(1)
    }

    /// A new host with so many addresses of each family.
    pub fn host_with(&self, addresses: u8) -> Result<Host> {
        let number = self.hosts.get() + 1;
        self.hosts.set(self.hosts.get() + addresses);
        let namespace = new_namespace()?;
        let prepared = fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
        enter(&self.namespace)?;
        prepared.context("cannot turn off the wait for duplicate addresses")?;

        let switch = self.namespace.try_clone()?;
        let host = Host { namespace, switch, number, addresses, link: SWITCHED };
        self.plug(&host)?;
        Ok(host)
    }

    /// Gives a host on the switch its first interface, anew if it was taken away.
    pub fn plug(&self, host: &Host) -> Result<()> {
        let number = host.number;
        let path = format!("/proc/{}/fd/{}", process::id(), host.namespace.as_raw_fd());
        ip(
            &[],
            &format!(
                "link add name port{number} type veth peer name eth0 netns {path}\n\
             link set port{number} master switch up\n"
            ),
        )?;
        let mut own = String::new();
        for (v4, v6) in host.addresses(Family::V4).zip(host.addresses(Family::V6)) {
            own += &format!("addr add {v4}/16 dev eth0\naddr add {v6}/64 dev eth0 nodad\n");
        }
        let (gateway4, gateway6) = (self.address(Family::V4), self.address(Family::V6));
        host.within(|| {
            ip(
                &[],
                &format!(
                    "link set lo up\n\
                 {own}\
                 link set eth0 up\n\
                 route add default via {gateway4}\n\
                 route add default via {gateway6}\n"
                ),
            )
        })?
    }

    /// A new host behind `router`, which is on the switch: on a link of its own, of IPv4 alone, called `inside` by the
    /// router. What the router lets through is its own affair.
    pub fn host_behind(&self, router: &Host) -> Result<Host> {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        let namespace = new_namespace()?;
        enter(&self.namespace)?;
        let path = format!("/proc/{}/fd/{}", process::id(), namespace.as_raw_fd());
        let gateway = address(BEHIND, SWITCH, Family::V4);
        router.within(|| {
            ip(
                &[],
                &format!(
                    "link add name inside type veth peer name eth0 netns {path}\n\
                     addr add {gateway}/16 dev inside\n\
                     link set inside up\n"
                ),
            )?;
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot make the host a router")
        })??;
        let switch = self.namespace.try_clone()?;
        let host = Host { namespace, switch, number, addresses: 1, link: BEHIND };
        let own = host.address(Family::V4);
        host.within(|| {
            ip(
                &[],
                &format!(
                    "link set lo up\n\
                     addr add {own}/16 dev eth0\n\
                     link set eth0 up\n\
                     route add default via {gateway}\n"
                ),
            )
        })??;
        Ok(host)
    }

    fn new() -> Result<Self> {
        let namespace = new_namespace()?;
        // Whoever asks for the rest of the world learns at once that there is none, and need not wait for nothing.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot make the switch a router")?;
        let (v4, v6) = (address(SWITCHED, SWITCH, Family::V4), address(SWITCHED, SWITCH, Family::V6));
        ip(
            &[],
            &format!(
                "link set lo up\n\
             link add name switch type bridge mcast_snooping 0\n\
             addr add {v4}/16 dev switch\n\
             addr add {v6}/64 dev switch nodad\n\
             link set switch up\n"
            ),
        )?;
        Ok(Self { namespace, hosts: Cell::new(SWITCH) })
    }
}

/// A machine on a [`Network`].
#[derive(Debug)]
pub struct Host {
    namespace: File,
    switch: File,
    number: u8,
    addresses: u8,
    /// Where it is: on the switch, or behind a router.
    link: u8,
}

impl Host {
    /// Its address, or the first of them.
    pub fn address(&self, family: Family) -> IpAddr {
        address(self.link, self.number, family)
    }

    /// All its addresses.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> + use<> {
        let link = self.link;
        (self.number..self.number + self.addresses).map(move |number| address(link, number, family))
    }

    /// One of its ports.
    pub fn port(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }

    /// Takes the address of IPv4 of a host behind a router away, and gives it another.
    pub fn change_address(&mut self) -> Result<()> {
        self.number += 100;
        let (own, gateway) = (self.address(Family::V4), address(self.link, SWITCH, Family::V4));
        let commands = format!(
            "addr flush dev eth0 scope global\n\
             addr add {own}/16 dev eth0\n\
             route add default via {gateway}\n"
        );
        self.within(|| ip(&["-4"], &commands))?
    }

    /// Refuses it every TCP connection, except to the test itself.
    pub fn forbid_tcp(&self) -> Result<()> {
        for (family, option) in [(Family::V4, "-4"), (Family::V6, "-6")] {
            let switch = address(SWITCHED, SWITCH, family);
            let rules = format!(
                "rule add to {switch} lookup main pref 10\n\
                 rule add ipproto tcp prohibit pref 20\n"
            );
            self.within(|| ip(&[option], &rules))??;
        }
        Ok(())
    }

    /// Leaves it nothing but IPv6, except with the test itself.
    pub fn forbid_ipv4(&self) -> Result<()> {
        let switch = address(SWITCHED, SWITCH, Family::V4);
        let rules = format!(
            "rule add to {switch} lookup main pref 10\n\
             rule add prohibit pref 20\n"
        );
        self.within(|| ip(&["-4"], &rules))?
    }

    /// Gives it a second interface, `eth1`, that leads nowhere and is the better way to all others.
    pub fn tempt(&self) -> Result<()> {
        let (network, other) = (Ipv4Addr::new(10, 77, 0, 0), Ipv4Addr::new(10, 78, self.number, 1));
        let commands = format!(
            "link add name eth1 type veth peer name hole\n\
             addr add {other}/16 dev eth1\n\
             link set eth1 arp off up\n\
             link set hole up\n\
             route add {network}/17 dev eth1 src {other}\n"
        );
        self.within(|| {
            // What comes by the first interface is not dropped because it would be answered by the second.
            for interface in ["all", "eth0"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0")?;
            }
            ip(&[], &commands)
        })?
    }

    /// Takes its first interface away.
    pub fn unplug(&self) -> Result<()> {
        self.within(|| ip(&[], "link del eth0\n"))?
    }

    /// Does `work` on this host: what it starts, and the sockets it opens, stay here.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        enter(&self.namespace)?;
        let result = work();
        enter(&self.switch)?;
        Ok(result)
    }
}

/// Moves this thread into a new namespace.
fn new_namespace() -> Result<File> {
    // SAFETY: NEWNET leaves the table of file descriptors alone; only this thread's view of the network changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
}

fn enter(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter a network namespace")
}

/// Feeds commands, one a line, to `ip`.
fn ip(options: &[&str], commands: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: run tests/peers/install")?;
    child.stdin.take().ok_or_else(|| anyhow!("ip has no standard input"))?.write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn address(link: u8, number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, link, number, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00 + u16::from(link), 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// The part of addresses that tells the switch from what is behind a router.
const SWITCHED: u8 = 77;
const BEHIND: u8 = 78;

/// The number of the switch's own address; hosts count on from it.
const SWITCH: u8 = 1;
