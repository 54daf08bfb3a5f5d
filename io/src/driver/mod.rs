//! Runs a [`Session`] over a network and a disk.
//!
//! The driver's rule: one input; drain the actions; pull the bytes; read the deadline; wait. Each connection, socket and
//! job is a task of its own on one thread; whichever has an input for the session gives it in one turn, which ends
//! before anything waits.

mod calls;
mod conn;
mod datagrams;
mod hub;
mod listen;
mod surroundings;
#[cfg(test)]
mod tests;
mod wakeup;

pub use crate::scatter::Counters;
pub use listen::Sockets;

use crate::disk::{Disk, StorageSpec};
use crate::http;
use crate::net::Net;
use calls::{Calls, Channel};
use datagrams::Datagrams;
use fast_peer_core::dht::Task;
use fast_peer_core::id::{LookupId, TorrentId};
use fast_peer_core::session::{Event, NewContent, NewTorrent, Notice, STOP_LIMIT, Session};
use hub::Hub;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// A session with its network and its disk. It has to be made and run on a [`LocalSet`](tokio::task::LocalSet);
/// several can share one.
///
/// Dropping it ends everything at once: connections are cut, and jobs under way are forgotten.
pub struct Driver<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
}

/// What the rest of the program does with a running session. Its calls are for the thread of the driver, and not for
/// use within each other.
pub struct Handle<N: Net, D: Disk> {
    hub: Rc<Hub<N, D>>,
}

/// How [`Driver::run`] came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The session has stored and said everything.
    Clean,
    /// The session was told to stop, and took longer than it may.
    TooLate,
}

impl<N: Net, D: Disk> Driver<N, D> {
    /// Drives `session`, whose time begins now.
    pub fn new(net: N, disk: D, tls: http::Tls, session: Session) -> Self {
        let http = http::Client::new(net.clone(), tls);
        let hub = Rc::new(Hub::new(net, disk, http, session));
        let mut calls = Calls::new(Rc::clone(&hub));
        hub.spawn(poll_fn(move |cx| calls.poll(cx)));
        Self { hub }
    }

    /// What others use the session with.
    pub fn handle(&self) -> Handle<N, D> {
        Handle { hub: Rc::clone(&self.hub) }
    }

    /// Opens one port on all of `addrs` (unspecified ones for every interface), for streams and datagrams: the first of
    /// `ports` that is free, where zero lets the system choose. Datagrams are lost before this. Addresses of a family
    /// that the host lacks are left out, unless all are. There is no port where nobody can connect to this host, as behind
    /// a proxy.
    pub async fn listen(&self, addrs: &[IpAddr], ports: RangeInclusive<u16>) -> io::Result<Option<u16>> {
        let streams = self.hub.state().session.transports().tcp;
        Ok(self.listen_on(Sockets::open(&self.hub.net, addrs, ports, streams).await?))
    }

    /// The same with sockets that are open; returns their port.
    pub fn listen_on(&self, sockets: Sockets<N>) -> Option<u16> {
        let port = sockets.lets_in.then_some(sockets.port);
        self.hub.take_sockets(sockets, true);
        let mut datagrams = Datagrams::new(Rc::clone(&self.hub));
        self.hub.spawn(poll_fn(move |cx| datagrams.poll(cx)));
        if let Some(port) = port {
            self.hub.event(Event::Listening { port });
        }
        port
    }

    /// Joins the groups where local peers call each other (BEP 14), on the interfaces of the addresses where it listens;
    /// before this, the session's calls are lost. The error is that of the last group, if none could be joined.
    pub async fn join_local(&self) -> io::Result<()> {
        self.hub.channels.borrow_mut().extend(Channel::LOCAL);
        let result = calls::join(&self.hub).await;
        self.hub.state().calls.get_or_insert_default();
        result
    }

    /// From now on the session is told of the host's addresses and router, as far as they matter to those who listen on
    /// `listening`, and of the time that the host sleeps. Until then no router is asked to let peers in.
    pub fn watch_network(&self, listening: &[IpAddr]) {
        if listening.iter().any(|ip| !ip.is_loopback()) {
            self.hub.spawn(surroundings::watch(Rc::clone(&self.hub), listening.to_vec()));
        }
    }

    /// Runs until the session has stopped.
    pub async fn run(self) -> Ended {
        self.hub.spawn(deadlines(Rc::clone(&self.hub)));
        self.hub.spawn(disk_answers(Rc::clone(&self.hub)));
        let mut limit = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            // Each wakes this task; a task that panicked comes up here.
            let _ = self.hub.poll_reap(cx);
            self.hub.end.wait(cx);
            if self.hub.stopped.get() {
                return Poll::Ready(Ended::Clean);
            }
            let Some(told) = self.hub.told_to_stop.get() else { return Poll::Pending };
            let end = told + STOP_LIMIT + STOP_GRACE;
            if limit.deadline() != end {
                limit.as_mut().reset(end);
            }
            limit.as_mut().poll(cx).map(|()| Ended::TooLate)
        })
        .await
    }
}

impl<N: Net, D: Disk> Handle<N, D> {
    /// Adds a torrent whose files lie where `storage` says.
    pub fn add_torrent(&self, torrent: NewTorrent, storage: StorageSpec) -> TorrentId {
        self.hub.turn(|turn| turn.add_torrent(torrent, storage))
    }

    /// Adds a torrent of which only the hash is known. When peers have told what it holds there is a
    /// [`Notice::Metadata`], to be answered by [`set_content`](Self::set_content).
    pub fn add_link(&self, torrent: NewTorrent) -> TorrentId {
        self.hub.turn(|turn| turn.input(|session, now| session.add_torrent(now, torrent)))
    }

    /// Says what is wanted of a torrent of which only the hash was known, and where its files lie.
    pub fn set_content(&self, torrent: TorrentId, content: NewContent, storage: StorageSpec) {
        self.hub.turn(|turn| turn.set_content(torrent, content, storage));
    }

    /// Looks for something in the DHT. What is found comes as [`Notice::Lookup`]. Nothing without a DHT.
    pub fn start_lookup(&self, task: Task) -> Option<LookupId> {
        self.hub.turn(|turn| turn.input(|session, now| session.start_lookup(now, task)))
    }

    /// Tells the session of something that the user did.
    pub fn event(&self, event: Event) {
        match event {
            Event::RemoveTorrent { torrent } => self.hub.state().leaving.push(torrent),
            Event::Stop if self.hub.told_to_stop.get().is_none() => {
                self.hub.told_to_stop.set(Some(Instant::now()));
                self.hub.stopping.notify_waiters();
                self.hub.end.wake();
            }
            _ => {}
        }
        self.hub.event(event);
    }

    /// Looks at the session, which must not be used in another way meanwhile.
    pub fn with_session<R>(&self, look: impl FnOnce(&Session) -> R) -> R {
        look(&self.hub.state().session)
    }

    /// The notices from now on.
    pub fn notices(&self) -> mpsc::UnboundedReceiver<Notice> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.hub.state().listeners.push(sender);
        receiver
    }

    /// What came through all connections so far.
    pub fn counters(&self) -> Counters {
        self.hub.landing.borrow().counted
    }
}

impl<N: Net, D: Disk> Drop for Driver<N, D> {
    fn drop(&mut self) {
        // The tasks hold the hub, which holds the tasks.
        self.hub.abandon();
    }
}

impl<N: Net, D: Disk> Clone for Handle<N, D> {
    fn clone(&self) -> Self {
        Self { hub: Rc::clone(&self.hub) }
    }
}

impl<N: Net, D: Disk> fmt::Debug for Driver<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<N: Net, D: Disk> fmt::Debug for Handle<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Tells the session when something is due.
async fn deadlines<N: Net, D: Disk>(hub: Rc<Hub<N, D>>) {
    let mut sleep = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        loop {
            hub.timer.wait(cx);
            let due = hub.due(&hub.state().session);
            hub.armed.set(due);
            let Some(due) = due else { return Poll::<()>::Pending };
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
            hub.turn(|turn| turn.input(|session, now| session.handle_timeout(now)));
        }
    })
    .await;
}

/// Passes on what the disk answers.
async fn disk_answers<N: Net, D: Disk>(hub: Rc<Hub<N, D>>) {
    poll_fn(|cx| {
        for _ in 0..DISK_ANSWERS {
            let (job, result) = ready!(hub.state().disk.poll_done(cx));
            hub.event(Event::DiskDone { job, result });
        }
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    })
    .await;
}

/// Answers of the disk that are passed on before other tasks have their turn.
const DISK_ANSWERS: usize = 64;

/// What is added to the session's own limit: it is to notice first.
const STOP_GRACE: Duration = Duration::from_secs(1);
