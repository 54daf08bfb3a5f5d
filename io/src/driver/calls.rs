//! Calls to multicast groups: those of local peers, in and out, and those of the router, which we only hear.

use super::hub::Hub;
use crate::disk::Disk;
use crate::net::{Net, RecvMeta, Udp};
use bytes::{Bytes, BytesMut};
use fast_peer_core::lsd::{self, Group};
use fast_peer_core::portmap;
use fast_peer_core::session::Event;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use tracing::debug;

/// What is listened to besides the session's own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    /// Where local peers call (BEP 14).
    Local(Group),
    /// Where routers call that have started (RFC 6886, 3.2.1).
    Router,
}

impl Channel {
    /// Those of local peers.
    pub(super) const LOCAL: [Self; 2] = [Self::Local(Group::V4), Self::Local(Group::V6)];

    fn addr(self) -> SocketAddr {
        match self {
            Self::Local(group) => group.addr(),
            Self::Router => portmap::CALLS,
        }
    }
}

/// Joins all channels of the driver anew, on the interfaces that there are now. An error is that of the last one, if none
/// could be joined.
pub(super) async fn join<N: Net, D: Disk>(hub: &Hub<N, D>) -> io::Result<()> {
    let (channels, bound) = (hub.channels.borrow().clone(), hub.bound.borrow().clone());
    let (mut joined, mut result) = (vec![], Ok(()));
    for channel in channels {
        match hub.net.join(channel.addr(), &bound).await {
            Ok(sockets) => joined.extend(sockets.into_iter().map(|socket| (channel, socket))),
            Err(error) => result = Err(error),
        }
    }
    if !joined.is_empty() {
        result = Ok(());
    }
    hub.joined.set(Some(joined));
    hub.calls.wake();
    result
}

pub(super) struct Calls<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
    sockets: Vec<Socket<N::Udp>>,
    buffer: BytesMut,
}

struct Socket<U> {
    channel: Channel,
    udp: U,
    /// Errors since something was heard.
    errors: u32,
}

impl<N: Net, D: Disk> Calls<N, D> {
    /// Hears nothing before channels are [joined](join).
    pub(super) fn new(hub: Rc<Hub<N, D>>) -> Self {
        // One byte more than the longest call shows that one is longer.
        let longest = lsd::MAX_LEN.max(portmap::MAX_LEN);
        Self { hub, sockets: vec![], buffer: BytesMut::zeroed(longest + 1) }
    }

    /// Never ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.calls.wait(cx);
        if let Some(joined) = self.hub.joined.take() {
            let sockets = joined.into_iter().map(|(channel, udp)| Socket { channel, udp, errors: 0 });
            self.sockets = sockets.collect();
        }
        for _ in 0..ROUNDS {
            if !self.hear(cx) {
                self.say(cx);
                return Poll::Pending;
            }
        }
        self.say(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks each socket once; false if none has anything.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { hub, sockets, buffer } = self;
        let mut any = false;
        sockets.retain_mut(|socket| {
            let mut meta = [RecvMeta::UNUSED];
            match socket.udp.poll_recv(cx, &mut [IoSliceMut::new(buffer)], &mut meta) {
                Poll::Pending => true,
                Poll::Ready(Ok(_)) => {
                    (any, socket.errors) = (true, 0);
                    let [meta] = meta;
                    let (from, data) = (meta.from, Bytes::copy_from_slice(&buffer[..meta.len]));
                    hub.event(match socket.channel {
                        Channel::Local(_) => Event::Multicast { from, data },
                        Channel::Router => Event::Datagram { from, data },
                    });
                    true
                }
                Poll::Ready(Err(error)) => {
                    any = true;
                    socket.errors += 1;
                    debug!("hearing calls: {error}");
                    socket.errors < MAX_ERRORS
                }
            }
        });
        any
    }

    /// Sends what waits by every interface. What a socket does not take is lost, as in the network: there will be other
    /// calls.
    fn say(&mut self, cx: &mut Context<'_>) {
        let calls = self.hub.state().calls.as_mut().map(core::mem::take).unwrap_or_default();
        for (group, data) in calls {
            let to: SocketAddr = group.addr();
            let channel = Channel::Local(group);
            for socket in self.sockets.iter_mut().filter(|socket| socket.channel == channel) {
                if let Poll::Ready(Err(error)) = socket.udp.poll_send(cx, to, &data) {
                    debug!("calling {group}: {error}");
                }
            }
        }
    }
}

/// Errors in a row after which a socket is given up.
const MAX_ERRORS: u32 = 100;

/// Rounds of hearing before other tasks have their turn.
const ROUNDS: usize = 4;
