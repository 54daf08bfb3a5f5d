//! One stream of uTP, for a command that talks to a peer by itself.

use crate::way::Outside;
use bytes::{Bytes, BytesMut};
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::rng::Rng;
use fast_peer_core::utp::{Action, Config, End, StreamId, Utp};
use fast_peer_io::net::{Net, Real, RecvMeta, Udp as _, Via};
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

/// Opens a stream to `peer` from a port of its own; its numbers are drawn from `seed`. What is written is sent as long as
/// the current thread's tasks run.
pub(crate) async fn connect(outside: &Outside, peer: SocketAddr, seed: [u8; 32]) -> io::Result<DuplexStream> {
    let socket = socket(outside, peer).await?;
    let (ours, theirs) = duplex(BUFFER);
    let (opened, answer) = oneshot::channel();
    let mut utp = Utp::new(Config::default(), Rng::new(seed));
    let mut out = Outbox::new();
    let stream = utp.connect(Timestamp::ZERO, peer, &mut out).expect("the first stream has a place");
    let carrier = Carrier { utp, stream, out, socket, peer, start: Instant::now(), opened: Some(opened) };
    spawn_local(carrier.carry(theirs));
    answer.await.map_err(|_| io::ErrorKind::ConnectionAborted)??;
    Ok(ours)
}

struct Carrier {
    utp: Utp,
    stream: StreamId,
    out: Outbox<Action>,
    socket: <Via<Real> as Net>::Udp,
    peer: SocketAddr,
    start: Instant,
    /// Until it has been told whether the stream is open.
    opened: Option<oneshot::Sender<io::Result<()>>>,
}

impl Carrier {
    async fn carry(mut self, near: DuplexStream) {
        let (mut said, mut heard) = split(near);
        let (mut packet, mut words) = (vec![0; 1 << 16], BytesMut::new());
        let (mut meta, mut errors) = ([RecvMeta::UNUSED], 0);
        loop {
            while let Some(action) = self.out.pop_front() {
                match action {
                    Action::Closed { end, .. } => return self.tell(Err(error_of(end).into())),
                    Action::Connected { .. } => self.tell(Ok(())),
                    Action::Received { data, .. } => {
                        if heard.write_all(&data).await.is_err() {
                            return;
                        }
                        self.utp.set_credit(self.stream, BUFFER as u32, &mut self.out);
                    }
                    Action::Incoming { .. } | Action::WantSend | Action::Writable { .. } => {}
                }
            }
            self.send().await;
            let due = self.utp.poll_timeout().map_or(FAR.as_micros() as u64, |due| due.at.as_micros());
            let due = self.start + Duration::from_micros(due).min(FAR);
            let room = self.utp.room(self.stream);
            tokio::select! {
                biased;
                received = poll_fn(|cx| {
                    self.socket.poll_recv(cx, &mut [IoSliceMut::new(&mut packet)], &mut meta)
                }) => {
                    if let Err(error) = received {
                        // One says nothing about the socket.
                        errors += 1;
                        if errors == MAX_ERRORS {
                            return self.tell(Err(error));
                        }
                        continue;
                    }
                    errors = 0;
                    let run = &packet[..meta[0].len];
                    for data in run.chunks(meta[0].stride).filter(|_| meta[0].from == self.peer) {
                        let now = self.now();
                        self.utp.handle_datagram(now, self.peer, Bytes::copy_from_slice(data), &mut self.out);
                    }
                }
                read = said.read_buf(&mut words), if room > 0 => {
                    let now = self.now();
                    if !matches!(read, Ok(1..)) {
                        self.utp.close(now, self.stream, &mut self.out);
                        return self.send().await;
                    }
                    self.utp.write(now, self.stream, [words.split().freeze()], &mut self.out);
                }
                () = sleep_until(due) => self.utp.handle_timeout(self.now(), &mut self.out),
            }
        }
    }

    async fn send(&mut self) {
        let mut buffer = BytesMut::new();
        while self.utp.poll_transmit(self.now(), &mut buffer, 1).is_some() {
            // As if the network had lost it.
            let _ = poll_fn(|cx| self.socket.poll_send(cx, self.peer, &buffer)).await;
            buffer.clear();
        }
    }

    fn tell(&mut self, result: io::Result<()>) {
        if let Some(opened) = self.opened.take() {
            // Nobody listens if the other transport was faster.
            let _ = opened.send(result);
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// A socket by which datagrams get to `peer`.
async fn socket(outside: &Outside, peer: SocketAddr) -> io::Result<<Via<Real> as Net>::Udp> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for addr in &outside.addrs {
        match outside.net.udp(SocketAddr::new(*addr, 0)).await {
            Ok(socket) if socket.carries(peer) => return Ok(socket),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

const fn error_of(end: End) -> io::ErrorKind {
    match end {
        End::Finished => io::ErrorKind::UnexpectedEof,
        End::Reset => io::ErrorKind::ConnectionRefused,
        End::TimedOut => io::ErrorKind::TimedOut,
    }
}

/// Errors in a row after which the socket is given up.
const MAX_ERRORS: u32 = 100;

/// What either side may be ahead of the other.
const BUFFER: usize = 256 << 10;

const FAR: Duration = Duration::from_secs(86_400);
