//! One connection to a peer: its bytes in and out.

use super::hub::{Hub, Turn};
use super::wakeup::Wakeup;
use crate::disk::Disk;
use crate::net::{Net, Stream as _, net_error};
use crate::scatter::{Scatter, Sink, Standing};
use bytes::{Bytes, BytesMut};
use fast_peer_core::id::ConnId;
use fast_peer_core::session::{Event, Intake, Segment, WriteBatch};
use fast_peer_core::store::payload::Payload;
use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite as _;

/// What the session says to the task of a connection.
#[derive(Default)]
pub(super) struct Line {
    closed: Cell<bool>,
    want_write: Cell<bool>,
    /// What the session lets the connection have beyond what it has taken in.
    credit: Cell<usize>,
    /// Bytes that were read and that the session has not taken in.
    in_hand: Cell<usize>,
    /// The address of this host that it goes over, once it is open.
    local_ip: Cell<Option<IpAddr>>,
    task: Wakeup,
}

impl Line {
    /// The session has done with the connection.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.task.wake();
    }

    pub(super) fn want_write(&self) {
        self.want_write.set(true);
        self.task.wake();
    }

    pub(super) fn grant(&self, bytes: u32) {
        self.credit.set(bytes as usize);
        self.task.wake();
    }

    /// The address of this host that the connection depends on; nothing for one that leads to this host itself.
    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        self.local_ip.get().filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
    }

    /// How much may be read now.
    fn room(&self) -> usize {
        self.credit.get().saturating_sub(self.in_hand.get())
    }

    fn has_read(&self, bytes: usize) {
        self.in_hand.set(self.in_hand.get() + bytes);
    }

    /// The session has taken in so much of what was read.
    fn has_used(&self, bytes: usize) {
        self.in_hand.set(self.in_hand.get() - bytes);
        self.credit.set(self.credit.get().saturating_sub(bytes));
    }
}

/// Opens a connection, and serves it.
pub(super) async fn dial<N: Net, D: Disk>(
    hub: Rc<Hub<N, D>>,
    conn: ConnId,
    line: Rc<Line>,
    remote: SocketAddr,
) {
    let opened = {
        let mut connect = pin!(hub.net.connect(remote));
        poll_fn(|cx| {
            line.task.wait(cx);
            if line.closed.get() { Poll::Ready(None) } else { connect.as_mut().poll(cx).map(Some) }
        })
        .await
    };
    match opened {
        None => {}
        Some(Ok(stream)) => {
            hub.event(Event::Connected { conn });
            serve(hub, conn, line, stream).await;
        }
        Some(Err(error)) => {
            hub.turn(|turn| turn.lost(conn, Event::ConnectFailed { conn, error: net_error(&error) }));
        }
    }
}

/// Reads and writes until either side has enough.
pub(super) async fn serve<N: Net, D: Disk>(
    hub: Rc<Hub<N, D>>,
    conn: ConnId,
    line: Rc<Line>,
    stream: N::Stream,
) {
    line.local_ip.set(stream.local_ip());
    let mut served = Served {
        hub,
        conn,
        line,
        stream,
        scatter: Scatter::default(),
        again: false,
        batch: WriteBatch::default(),
    };
    let ended = poll_fn(|cx| served.poll(cx)).await;
    let error = ended.err().as_ref().map(net_error);
    served.hub.turn(|turn| turn.lost(conn, Event::Closed { conn, error }));
}

struct Served<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
    conn: ConnId,
    line: Rc<Line>,
    stream: N::Stream,
    scatter: Scatter,
    /// Whether the session is to see what is there again before anything else is read.
    again: bool,
    batch: WriteBatch,
}

/// What came of trying.
enum Tried {
    /// More can be done, after others had their turn.
    Enough,
    /// The connection is over.
    Over,
    /// Something was done.
    Progress,
    /// Nothing can be done before the task is woken.
    Stuck,
}

impl<N: Net, D: Disk> Served<N, D> {
    /// Ready when the connection is over: with an error, if the network ended it with one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.task.awake();
        // A block that arrives may lead to a request and the other way round, so each is tried until neither gets on.
        for _ in 0..ROUNDS {
            if self.line.closed.get() {
                return Poll::Ready(Ok(()));
            }
            match (self.write(cx)?, self.read(cx)?) {
                (Tried::Over, _) | (_, Tried::Over) => return Poll::Ready(Ok(())),
                (Tried::Enough, _) | (_, Tried::Enough) => break,
                (Tried::Stuck, Tried::Stuck) => {
                    self.line.task.wait(cx);
                    return Poll::Pending;
                }
                (Tried::Progress, _) | (_, Tried::Progress) => {}
            }
        }
        self.line.task.wait(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Tried> {
        if self.batch.is_empty() {
            if !self.line.want_write.take() {
                return Ok(Tried::Stuck);
            }
            let Self { hub, conn, batch, .. } = self;
            hub.turn(|turn| turn.input(|session, now| session.poll_stream(now, *conn, WRITE_BUDGET, batch)));
            if self.line.closed.get() {
                return Ok(Tried::Over);
            }
            if self.batch.is_empty() {
                // What came of the pull can be a reason for another one.
                return Ok(if self.line.want_write.get() { Tried::Progress } else { Tried::Stuck });
            }
            // There is more to pull until a pull brings nothing.
            self.line.want_write.set(true);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_SEGMENTS];
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.batch.segments) {
            *slice = IoSlice::new(match segment {
                Segment::Inline(bytes) => bytes,
                Segment::Payload(payload) => payload.content().expect("what was read here has content"),
            });
            count += 1;
        }
        match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])? {
            Poll::Pending => Ok(Tried::Stuck),
            Poll::Ready(0) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => {
                self.batch.advance(written);
                Ok(Tried::Progress)
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Tried> {
        let Self { hub, conn, line, stream, scatter, again, .. } = self;
        let landing = &mut *hub.landing.borrow_mut();
        let mut read = None;
        if !*again {
            let room = line.room();
            if room == 0 {
                return Ok(Tried::Stuck);
            }
            hub.state().session.read_plan(*conn, landing.plan());
            let mut slices = scatter.slices(landing, room);
            match Pin::new(stream).poll_read_vectored(cx, &mut slices)? {
                Poll::Pending => return Ok(Tried::Stuck),
                Poll::Ready(0) => return Ok(Tried::Over),
                Poll::Ready(count) => {
                    hub.state().session.decipher(*conn, first(&mut slices, count));
                    line.has_read(count);
                    read = Some(count);
                }
            }
        }
        let standing = hub.turn(|turn| {
            let mut feed = Feed { turn, conn: *conn, line };
            match read {
                Some(count) => scatter.take_in(landing, count, &mut feed),
                None => scatter.resume(landing, &mut feed),
            }
        });
        *again = standing == Standing::Again;
        Ok(match standing {
            Standing::Again => Tried::Enough,
            Standing::Closed => Tried::Over,
            Standing::Open => Tried::Progress,
        })
    }
}

/// The first `count` bytes of buffers.
fn first<'a>(slices: &'a mut [IoSliceMut<'_>], mut count: usize) -> impl Iterator<Item = &'a mut [u8]> {
    slices.iter_mut().map_while(move |slice| {
        let len = slice.len().min(count);
        count -= len;
        (len > 0).then(|| &mut slice[..len])
    })
}

/// The session, as the bytes of one connection see it.
struct Feed<'t, 'h, N: Net, D: Disk> {
    turn: &'t mut Turn<'h, N, D>,
    conn: ConnId,
    line: &'t Line,
}

impl<N: Net, D: Disk> Sink for Feed<'_, '_, N, D> {
    fn bytes(&mut self, bytes: &mut BytesMut) -> Intake {
        let Self { turn, conn, line } = self;
        let intake = turn.input(|session, now| {
            let before = bytes.len();
            let intake = session.handle_bytes(now, *conn, bytes);
            line.has_used(before - bytes.len());
            intake
        });
        if line.closed.get() { Intake::Closed } else { intake }
    }

    fn payload(&mut self, block: Bytes) -> bool {
        let Self { turn, conn, line } = self;
        turn.input(|session, now| {
            line.has_used(block.len());
            session.handle_payload(now, *conn, Payload::Content(block));
        });
        !line.closed.get()
    }
}

/// Rounds of reading and writing before other tasks have their turn.
const ROUNDS: usize = 4;

/// What one pull may bring.
const WRITE_BUDGET: usize = 256 << 10;

/// Segments in one write: heads and blocks of a whole budget.
const WRITE_SEGMENTS: usize = 64;
