//! Calls to multicast groups, in and out.

use super::hub::Hub;
use crate::disk::Disk;
use crate::net::{Net, RecvMeta, Udp};
use bytes::{Bytes, BytesMut};
use fast_peer_core::lsd::{Group, MAX_LEN};
use fast_peer_core::session::Event;
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use tracing::debug;

pub(super) struct Calls<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
    sockets: Vec<Socket<N::Udp>>,
    buffer: BytesMut,
}

struct Socket<U> {
    group: Group,
    udp: U,
    /// Errors since something was heard.
    errors: u32,
}

impl<N: Net, D: Disk> Calls<N, D> {
    pub(super) fn new(hub: Rc<Hub<N, D>>, joined: Vec<(Group, N::Udp)>) -> Self {
        hub.state().calls = Some(VecDeque::new());
        let sockets = joined.into_iter().map(|(group, udp)| Socket { group, udp, errors: 0 }).collect();
        // One byte more than the longest call shows that one is longer.
        Self { hub, sockets, buffer: BytesMut::zeroed(MAX_LEN + 1) }
    }

    /// Never ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.calls.wait(cx);
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
                    let data = Bytes::copy_from_slice(&buffer[..meta.len]);
                    hub.event(Event::Multicast { from: meta.from, data });
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
            for socket in self.sockets.iter_mut().filter(|socket| socket.group == group) {
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
