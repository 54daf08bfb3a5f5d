//! The datagrams of all address families, in and out.

use super::hub::Hub;
use crate::disk::Disk;
use crate::net::{Net, RecvMeta, Udp as _};
use crate::pool::{Buf, Pool};
use bytes::{Bytes, BytesMut};
use fast_peer_core::session::{Event, Transmit};
use std::io::IoSliceMut;
use std::rc::Rc;
use std::task::{Context, Poll};
use tracing::{debug, warn};

pub(super) struct Datagrams<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
    sockets: Vec<Socket<N::Udp>>,
    pool: Pool<RUN_LEN>,
    /// To be filled next.
    buffers: Vec<Buf<RUN_LEN>>,
    /// What the session gave last, and where it goes, if no socket has taken it.
    waiting: Option<Transmit>,
    data: BytesMut,
}

struct Socket<U> {
    udp: U,
    /// Errors since something was received.
    errors: u32,
}

impl<N: Net, D: Disk> Datagrams<N, D> {
    /// With the sockets that the hub has for it.
    pub(super) fn new(hub: Rc<Hub<N, D>>) -> Self {
        let pool = Pool::new(POOL_KEEP);
        let buffers = (0..BATCH).map(|_| pool.take()).collect();
        Self { hub, sockets: vec![], pool, buffers, waiting: None, data: BytesMut::new() }
    }

    /// Never ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.datagrams.awake();
        if let Some((udp, all)) = self.hub.opened.take() {
            if all {
                self.sockets.clear();
            }
            self.sockets.extend(udp.into_iter().map(|udp| Socket { udp, errors: 0 }));
        }
        for _ in 0..ROUNDS {
            let received = self.receive(cx);
            let sent = self.send(cx);
            if !received && !sent {
                self.hub.datagrams.wait(cx);
                return Poll::Pending;
            }
        }
        self.hub.datagrams.wait(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks each socket once; false if none has anything.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { hub, sockets, pool, buffers, .. } = self;
        let mut any = false;
        sockets.retain_mut(|socket| {
            let mut slices: Vec<_> = buffers.iter_mut().map(|buf| IoSliceMut::new(buf.bytes_mut())).collect();
            let mut meta = [RecvMeta::UNUSED; BATCH];
            match socket.udp.poll_recv(cx, &mut slices, &mut meta) {
                Poll::Pending => true,
                Poll::Ready(Ok(runs)) => {
                    (any, socket.errors) = (true, 0);
                    hub.turn(|turn| {
                        for (meta, buf) in meta[..runs].iter().zip(&mut *buffers) {
                            let run = take(buf, meta.len, pool);
                            for at in (0..run.len()).step_by(meta.stride) {
                                let data = run.slice(at..run.len().min(at + meta.stride));
                                turn.event(Event::Datagram { from: meta.from, data });
                            }
                        }
                    });
                    true
                }
                Poll::Ready(Err(error)) => {
                    any = true;
                    socket.errors += 1;
                    debug!("receiving datagrams: {error}");
                    if socket.errors == MAX_ERRORS {
                        warn!("giving up a UDP socket that only fails: {error}");
                    }
                    socket.errors < MAX_ERRORS
                }
            }
        });
        any
    }

    /// Sends until the session has no more or a socket is full; false if nothing left.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        for sent in 0..SENDS {
            let transmit = match self.waiting.take() {
                Some(transmit) => transmit,
                // What comes of the pull can be a reason for another one, so the wish is taken back before it.
                None if !self.hub.want_send.take() => return sent > 0,
                None => {
                    let Self { hub, data, sockets, .. } = self;
                    // Where it goes is not known before it is there.
                    let run = sockets.iter().map(|socket| socket.udp.max_run()).min().unwrap_or(1);
                    data.clear();
                    let next =
                        hub.turn(|turn| turn.input(|session, now| session.poll_transmit(now, data, run)));
                    let Some(transmit) = next else { continue };
                    hub.want_send.set(true);
                    transmit
                }
            };
            let to = transmit.to;
            let Some(socket) = self.sockets.iter_mut().find(|socket| socket.udp.carries(to)) else {
                continue;
            };
            match socket.udp.poll_send_run(cx, to, &self.data, transmit.segment_len) {
                Poll::Pending => {
                    self.waiting = Some(transmit);
                    return sent > 0;
                }
                Poll::Ready(Ok(())) => {}
                // As if the network had lost it.
                Poll::Ready(Err(error)) => debug!("sending to {to}: {error}"),
            }
        }
        true
    }
}

/// The first `len` bytes of a buffer, which is replaced by another if they fill a good part of it: else what is kept of
/// them would hold much more memory than it counts for.
fn take(buf: &mut Buf<RUN_LEN>, len: usize, pool: &Pool<RUN_LEN>) -> Bytes {
    if len < RUN_LEN / 4 {
        return Bytes::copy_from_slice(&buf.bytes_mut()[..len]);
    }
    std::mem::replace(buf, pool.take()).freeze(len)
}

/// The kernel may join datagrams of one sender until they fill an IP packet.
const RUN_LEN: usize = 1 << 16;

/// Unused buffers that are kept: 4 MiB.
const POOL_KEEP: usize = 64;

/// Runs of datagrams in one call.
const BATCH: usize = 4;

/// Errors in a row after which a socket is given up.
const MAX_ERRORS: u32 = 100;

/// Rounds of receiving and sending before other tasks have their turn.
const ROUNDS: usize = 4;

/// Datagrams sent before others are received.
const SENDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::{Pool, RUN_LEN, take};

    #[test]
    fn a_buffer_goes_along_with_a_long_run_and_stays_behind_a_short_one() {
        let pool = Pool::new(2);
        let mut buf = pool.take();
        let at = buf.bytes_mut().as_ptr();
        buf.bytes_mut()[..3].copy_from_slice(b"abc");
        let short = take(&mut buf, 3, &pool);
        assert_eq!((&short[..], buf.bytes_mut().as_ptr()), (&b"abc"[..], at));
        let long = take(&mut buf, RUN_LEN / 4, &pool);
        assert_eq!((long.as_ptr(), long.len(), &long[..3]), (at, RUN_LEN / 4, &b"abc"[..]));
        assert_ne!(buf.bytes_mut().as_ptr(), at);
    }
}
