//! Hosts that sleep, move, or lose their network for a while.

use super::client::Client;
use super::links::{Phase, Side, Socket, StreamId};
use super::trace::{Topic, Way};
use super::world::{HostId, Reach, Role, What, World};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::{Event, NetError};

impl World {
    /// Lets a host sleep: nothing reaches it, nothing runs on it, and then all that was due is late.
    pub fn sleep(&mut self, host: HostId, time: Duration) {
        let until = self.now + time;
        self.line(host, Way::Within, Topic::Command, "sleep");
        let it = self.host_mut(host);
        (it.reach, it.sleeps_until) = (Reach::Dark, Some(until));
        self.queue.push(until, What::Wake(host));
    }

    /// Gives a host another address. Its client is told; whoever was connected to it is not.
    pub fn move_to(&mut self, host: HostId, ip: IpAddr) {
        let addr = SocketAddr::new(ip, self.addr(host).port());
        self.line(host, Way::Within, Topic::Command, format_args!("move to {ip}"));
        self.by_ip.remove(&self.addr(host).ip());
        let twin = self.by_ip.insert(ip, host);
        assert!(twin.is_none(), "each host has an address of its own");
        self.host_mut(host).addr = addr;
        self.sever(host);
        self.tell_addresses(host, vec![ip]);
    }

    /// Takes a host's interface down, or up again. Its client is told; whoever was connected to it is not.
    pub fn set_interface(&mut self, host: HostId, is_up: bool) {
        let ip = self.addr(host).ip();
        self.set_reach(host, if is_up { Reach::Normal } else { Reach::Down });
        if !is_up {
            self.sever(host);
        }
        self.tell_addresses(host, if is_up { vec![ip] } else { vec![] });
    }

    /// Tells a client which addresses its host has, as its driver does at the start.
    pub fn tell_addresses(&mut self, host: HostId, addresses: Vec<IpAddr>) {
        self.tell(host, Event::NetworkChanged { addresses, router: None });
    }

    /// Ends all streams of a host, of which its client is told and nobody else.
    fn sever(&mut self, host: HostId) {
        for number in 0..self.streams.len() {
            let stream = &mut self.streams[number];
            let Some(side) =
                [Side::Dialler, Side::Acceptor].into_iter().find(|side| stream.end(*side).host == host)
            else {
                continue;
            };
            if stream.severed {
                continue;
            }
            stream.severed = true;
            let end = stream.end_mut(side);
            let conn = end.conn;
            let was = core::mem::replace(&mut end.phase, Phase::Closed);
            match was {
                Phase::Closed => {}
                Phase::Opening => {
                    let error = NetError::Unreachable;
                    self.gone(host, conn, Event::ConnectFailed { conn, error });
                }
                Phase::Open => {
                    let error = Some(NetError::Moved);
                    self.gone(host, conn, Event::Closed { conn, error });
                }
            }
        }
    }

    /// When something happens that waits for a host to wake.
    pub(super) fn put_off(&self, what: &What) -> Option<Timestamp> {
        let end = |socket: &Socket| self.streams[socket.stream.0 as usize].end(socket.side).host;
        let other = |socket: &Socket| end(&socket.other());
        let acceptor = |stream: &StreamId| self.streams[stream.0 as usize].end(Side::Acceptor).host;
        let host = match what {
            What::Choose { host, .. } | What::Disk { host, .. } | What::Event { host, .. } => *host,
            What::Tick(host) | What::Timer(host) | What::UplinkFree(host) => *host,
            What::ConnectFailed { socket, .. } | What::Read(socket) | What::Reset(socket) => end(socket),
            What::Arrive { from, .. } | What::Deliver { from, .. } => other(from),
            What::Freed { from, .. } => end(from),
            What::Syn(stream) => acceptor(stream),
            What::SynAck(stream) => end(&Socket { stream: *stream, side: Side::Dialler }),
            What::Datagram(datagram) => self.host_at(datagram.to.ip())?,
            What::Http { .. } | What::Wake(_) => return None,
        };
        self.host(host).sleeps_until
    }

    pub(super) fn on_wake(&mut self, host: HostId) {
        let now = self.now;
        self.line(host, Way::Within, Topic::Command, "wake");
        let it = self.host_mut(host);
        (it.reach, it.sleeps_until) = (Reach::Normal, None);
        if let Role::Client(client) = &mut it.role {
            let Client { session, .. } = &**client;
            if session.poll_timeout().is_some() {
                client.arm(now);
                self.queue.push(now, What::Timer(host));
            }
        }
    }
}
