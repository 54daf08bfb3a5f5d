//! Where all tasks of a driver meet: the session and what its actions need. Everything here lives on one thread and is
//! borrowed for the length of one turn, never across a wait.

use super::calls::Channel;
use super::conn::{self, Line};
use super::listen::{self, Sockets};
use super::wakeup::Wakeup;
use crate::disk::{Disk, StorageSpec};
use crate::http::{Author, Client, Fetch, MAX_BODY};
use crate::net::{Net, resolve_error};
use crate::pool::Pool;
use crate::scatter::Landing;
use bytes::Bytes;
use fast_peer_core::id::{ConnId, JobId, TorrentId};
use fast_peer_core::lsd::Group;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::portmap::{Router, UpnpError, UpnpRequest};
use fast_peer_core::session::{Action, Event, NetError, NewContent, NewTorrent, Notice, Session};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::trace;

pub(super) struct Hub<N: Net, D: Disk> {
    pub(super) net: N,
    http: Client<N>,
    /// The moment of [`Timestamp::ZERO`].
    start: Instant,
    /// How long the host has slept since, while its clock stood still: time has passed for everybody else.
    slept: Cell<Duration>,
    /// What is listened to besides the session's own port.
    pub(super) channels: RefCell<BTreeSet<Channel>>,
    /// Where remotes are let in.
    pub(super) bound: RefCell<Vec<IpAddr>>,
    /// At which port.
    pub(super) port: Cell<u16>,
    /// The tasks that let them in.
    accepting: RefCell<Vec<AbortHandle>>,
    /// Sockets for datagrams that were just opened, and whether they take the place of all others.
    pub(super) opened: Cell<Option<(Vec<N::Udp>, bool)>>,
    /// Sockets that take the place of those on these channels.
    pub(super) joined: Cell<Option<Joined<N>>>,
    state: RefCell<State<D>>,
    pub(super) landing: RefCell<Landing>,
    /// None once the driver is gone: then nothing is started any more.
    tasks: RefCell<Option<JoinSet<()>>>,
    /// The deadline that the timer task sleeps for.
    pub(super) armed: Cell<Option<Instant>>,
    pub(super) timer: Wakeup,
    /// Whether the session has datagrams.
    pub(super) want_send: Cell<bool>,
    pub(super) datagrams: Wakeup,
    /// Whether there is something for multicast groups.
    pub(super) calls: Wakeup,
    /// When the user stopped the session.
    pub(super) told_to_stop: Cell<Option<Instant>>,
    /// Wakes who is at something that has no meaning when the session stops.
    pub(super) stopping: Notify,
    pub(super) stopped: Cell<bool>,
    pub(super) end: Wakeup,
}

/// Sockets, and what each is for.
pub(super) type Joined<N> = Vec<(Channel, <N as Net>::Udp)>;

pub(super) struct State<D> {
    pub(super) session: Session,
    pub(super) disk: D,
    conns: BTreeMap<ConnId, Rc<Line>>,
    /// Torrents that were told to leave, as long as the session has work for their files.
    pub(super) leaving: Vec<TorrentId>,
    pub(super) listeners: Vec<mpsc::UnboundedSender<Notice>>,
    /// What is to be sent to multicast groups, once some were joined.
    pub(super) calls: Option<VecDeque<(Group, Bytes)>>,
}

/// Inputs to the session at one moment. After each the actions that it led to are carried out, before the next.
pub(super) struct Turn<'h, N: Net, D: Disk> {
    hub: &'h Rc<Hub<N, D>>,
    pub(super) state: RefMut<'h, State<D>>,
    now: Timestamp,
}

impl<N: Net, D: Disk> Hub<N, D> {
    pub(super) fn new(net: N, disk: D, http: Client<N>, session: Session) -> Self {
        Self {
            net,
            http,
            start: Instant::now(),
            slept: Cell::new(Duration::ZERO),
            channels: RefCell::new(BTreeSet::new()),
            bound: RefCell::default(),
            port: Cell::new(0),
            accepting: RefCell::default(),
            opened: Cell::new(None),
            joined: Cell::new(None),
            state: RefCell::new(State {
                session,
                disk,
                conns: BTreeMap::new(),
                leaving: vec![],
                listeners: vec![],
                calls: None,
            }),
            landing: RefCell::new(Landing::new(Pool::new(POOL_KEEP))),
            tasks: RefCell::new(Some(JoinSet::new())),
            armed: Cell::new(None),
            timer: Wakeup::default(),
            want_send: Cell::new(false),
            datagrams: Wakeup::default(),
            calls: Wakeup::default(),
            told_to_stop: Cell::new(None),
            stopping: Notify::new(),
            stopped: Cell::new(false),
            end: Wakeup::default(),
        }
    }

    /// Gives the session one or more inputs.
    pub(super) fn turn<R>(self: &Rc<Self>, inputs: impl FnOnce(&mut Turn<'_, N, D>) -> R) -> R {
        let mut turn = Turn { hub: self, state: self.state.borrow_mut(), now: self.now() };
        let result = inputs(&mut turn);
        turn.state.let_go();
        let due = self.due(&turn.state.session);
        drop(turn);
        if due.is_some_and(|due| self.armed.get().is_none_or(|armed| due < armed)) {
            self.timer.wake();
        }
        result
    }

    /// One event.
    pub(super) fn event(self: &Rc<Self>, event: Event) {
        self.turn(|turn| turn.event(event));
    }

    /// Looks at what the session and its surroundings are now.
    pub(super) fn state(&self) -> RefMut<'_, State<D>> {
        self.state.borrow_mut()
    }

    /// When the session next wants to be woken; not at all if that is beyond the clock.
    pub(super) fn due(&self, session: &Session) -> Option<Instant> {
        let at = Duration::from_micros(session.poll_timeout()?.at.as_micros());
        self.start.checked_add(at.saturating_sub(self.slept.get()))
    }

    /// Notes that the host was asleep for so long.
    pub(super) fn add_sleep(self: &Rc<Self>, slept: Duration) {
        self.slept.set(self.slept.get() + slept);
        // What became due meanwhile is seen to at the end of the turn.
        self.turn(|_| {});
    }

    /// Starts a task that ends with the driver at the latest.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.start(task);
    }

    /// Starts one that may be ended before.
    fn start(&self, task: impl Future<Output = ()> + 'static) -> Option<AbortHandle> {
        Some(self.tasks.borrow_mut().as_mut()?.spawn_local(task))
    }

    /// Lets remotes in by these sockets, and by those before unless these take the place of `all`.
    pub(super) fn take_sockets(self: &Rc<Self>, sockets: Sockets<N>, all: bool) {
        let (mut bound, mut accepting) = (self.bound.borrow_mut(), self.accepting.borrow_mut());
        if all {
            bound.clear();
            accepting.drain(..).for_each(|task| task.abort());
        }
        bound.extend(sockets.addrs());
        self.port.set(sockets.port);
        for listener in sockets.listeners {
            accepting.extend(self.start(listen::accept(Rc::clone(self), listener)));
        }
        self.opened.set(Some((sockets.udp, all)));
        self.datagrams.wake();
    }

    /// Forgets tasks that ended; a panic goes on in here.
    pub(super) fn poll_reap(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tasks = self.tasks.borrow_mut();
        let Some(tasks) = &mut *tasks else { return Poll::Ready(()) };
        while let Some(ended) = ready!(tasks.poll_join_next(cx)) {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        Poll::Ready(())
    }

    /// Ends all tasks.
    pub(super) fn abandon(&self) {
        self.tasks.take();
    }

    /// A connection that a remote opened, unless the session does not want it.
    pub(super) fn incoming(self: &Rc<Self>, remote: std::net::SocketAddr, stream: N::Stream) {
        let accepted = self.turn(|turn| {
            let now = turn.now;
            let conn = turn.state.session.handle_incoming(now, remote)?;
            // Its actions speak of the connection already.
            let line = turn.state.open(conn);
            turn.drain();
            Some((conn, line))
        });
        if let Some((conn, line)) = accepted {
            self.spawn(conn::serve(Rc::clone(self), conn, line, stream));
        }
    }

    fn now(&self) -> Timestamp {
        let passed = self.start.elapsed() + self.slept.get();
        // A clock that ran for half a million years is the only one that does not fit.
        Timestamp::from_micros(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
    }
}

impl<D: Disk> State<D> {
    /// Tells the disk of torrents that have left.
    fn let_go(&mut self) {
        let Self { session, disk, leaving, .. } = self;
        leaving.retain(|torrent| {
            let here = session.torrent(*torrent).is_some();
            if !here {
                disk.remove_torrent(*torrent);
            }
            here
        });
    }

    fn open(&mut self, conn: ConnId) -> Rc<Line> {
        let line = Rc::new(Line::default());
        let old = self.conns.insert(conn, Rc::clone(&line));
        assert!(old.is_none(), "the session never uses a connection's name twice");
        line
    }
}

impl<N: Net, D: Disk> Turn<'_, N, D> {
    /// The storage is known before the first job can need it.
    pub(super) fn add_torrent(&mut self, torrent: NewTorrent, storage: StorageSpec) -> TorrentId {
        let State { session, disk, .. } = &mut *self.state;
        let id = session.add_torrent(self.now, torrent);
        disk.add_torrent(id, storage);
        self.drain();
        id
    }

    pub(super) fn set_content(&mut self, torrent: TorrentId, content: NewContent, storage: StorageSpec) {
        self.state.disk.add_torrent(torrent, storage);
        self.input(|session, now| session.set_content(now, torrent, content));
    }

    pub(super) fn event(&mut self, event: Event) {
        trace!("{} < {event}", self.now);
        self.input(|session, now| session.handle_event(now, event));
    }

    /// One input, and what follows from it.
    pub(super) fn input<R>(&mut self, input: impl FnOnce(&mut Session, Timestamp) -> R) -> R {
        let result = input(&mut self.state.session, self.now);
        self.drain();
        result
    }

    fn drain(&mut self) {
        while let Some(action) = self.state.session.poll_action() {
            trace!("{} > {action}", self.now);
            self.perform(action);
        }
    }

    /// The host has these addresses now: connections over others have ended, and all if the interface on which they were
    /// is another one.
    pub(super) fn network_changed(&mut self, addresses: Vec<IpAddr>, router: Option<Router>, is_anew: bool) {
        let is_over = |line: &Rc<Line>| line.local_ip().is_some_and(|ip| is_anew || !addresses.contains(&ip));
        let over: Vec<ConnId> =
            self.state.conns.iter().filter(|(_, line)| is_over(line)).map(|(conn, _)| *conn).collect();
        for conn in over {
            if let Some(line) = self.state.conns.get(&conn) {
                line.close();
            }
            self.lost(conn, Event::Closed { conn, error: Some(NetError::Moved) });
        }
        self.event(Event::NetworkChanged { addresses, router });
    }

    /// A connection that ended by itself, or never came to be.
    pub(super) fn lost(&mut self, conn: ConnId, event: Event) {
        if self.state.conns.remove(&conn).is_some() {
            self.event(event);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect { conn, remote } => {
                let line = self.state.open(conn);
                self.hub.spawn(conn::dial(Rc::clone(self.hub), conn, line, remote));
            }
            Action::Disconnect { conn, .. } => {
                if let Some(line) = self.state.conns.remove(&conn) {
                    line.close();
                }
            }
            Action::Disk { job, torrent, op } => self.state.disk.submit(job, torrent, op),
            Action::Http { job, url } => self.hub.spawn(fetch(Rc::clone(self.hub), job, url)),
            Action::Multicast { group, data } => {
                if let Some(calls) = self.state.calls.as_mut().filter(|calls| calls.len() < MAX_CALLS) {
                    calls.push_back((group, data));
                    self.hub.calls.wake();
                }
            }
            Action::Notice(notice) => {
                if notice == Notice::Stopped {
                    self.hub.stopped.set(true);
                    self.hub.end.wake();
                }
                self.state.listeners.retain(|listener| listener.send(notice.clone()).is_ok());
            }
            Action::ReadCredit { conn, bytes } => {
                if let Some(line) = self.state.conns.get(&conn) {
                    line.grant(bytes);
                }
            }
            Action::Resolve { job, host } => self.hub.spawn(resolve(Rc::clone(self.hub), job, host)),
            Action::Upnp { job, request } => self.hub.spawn(ask_router(Rc::clone(self.hub), job, request)),
            Action::WantSend => {
                self.hub.want_send.set(true);
                self.hub.datagrams.wake();
            }
            Action::WantWrite { conn } => {
                if let Some(line) = self.state.conns.get(&conn) {
                    line.want_write();
                }
            }
        }
    }
}

async fn fetch<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, job: JobId, url: String) {
    let result = hub.http.get(Fetch { url: &url, author: Author::Torrent, max_body: MAX_BODY }).await;
    hub.event(Event::HttpDone { job, result });
}

async fn resolve<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, job: JobId, host: String) {
    let result = match tokio::time::timeout(RESOLVE_LIMIT, hub.net.resolve(&host)).await {
        Ok(found) => found.map_err(|error| resolve_error(&error)),
        Err(_) => Err(NetError::TimedOut),
    };
    hub.event(Event::Resolved { job, result });
}

async fn ask_router<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, job: JobId, request: UpnpRequest) {
    let asked = Cell::new(false);
    let result = tokio::select! {
        biased;
        result = hub.net.upnp(request, &asked) => result,
        () = given_up(&hub, &asked) => Err(UpnpError::NoRouter),
    };
    hub.event(Event::UpnpDone { job, result });
}

/// The session stops while nobody was asked yet.
async fn given_up<N: Net, D: Disk>(hub: &Hub<N, D>, asked: &Cell<bool>) {
    hub.stopping.notified().await;
    if asked.get() {
        std::future::pending::<()>().await;
    }
}

/// What waits for multicast groups. The session calls rarely.
const MAX_CALLS: usize = 64;

/// Unused block buffers that are kept: 8 MiB, as much as a download at full speed has under way.
const POOL_KEEP: usize = 512;

const RESOLVE_LIMIT: Duration = Duration::from_secs(20);
