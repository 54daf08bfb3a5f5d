//! Streams and datagrams on their way: who is connected to whom, and when bytes arrive.

use super::links::{Datagram, Direction, End, PACKET_LEN, Phase, Reader, Side, Socket, Stream, StreamId};
use super::trace::{Topic, Way};
use super::world::{HostId, Reach, Role, What, World};
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::id::ConnId;
use fast_peer_core::lsd::Group;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::{Event, NetError, Segment};

impl World {
    /// Breaks every stream of a host, at both ends.
    pub fn reset_streams(&mut self, host: HostId) {
        for stream in 0..self.streams.len() {
            let ends = &self.streams[stream].ends;
            if ends.iter().any(|end| end.host == host) && ends.iter().any(|end| end.phase == Phase::Open) {
                for side in [Side::Dialler, Side::Acceptor] {
                    self.on_reset(Socket { stream: StreamId(stream as u32), side });
                }
            }
        }
    }

    /// Starts to open a stream from `host`, which calls it `conn`.
    pub(super) fn dial(&mut self, host: HostId, conn: ConnId, remote: SocketAddr) -> Socket {
        let stream = StreamId(self.streams.len() as u32);
        let socket = Socket { stream, side: Side::Dialler };
        let target = self.host_at(remote.ip());
        let end = |host, conn| End { host, conn, phase: Phase::Opening, reader: Reader::default() };
        self.streams.push(Stream {
            ends: [end(host, conn), end(target.unwrap_or(host), ConnId(u64::MAX))],
            directions: [Direction::new(&self.sockets), Direction::new(&self.sockets)],
            severed: false,
        });
        let reachable =
            target.filter(|target| !self.is_dark(host, *target) && self.host(*target).nat.is_none());
        match reachable {
            None => {
                let is_down = self.host(host).reach == Reach::Down;
                let (error, after) = if is_down {
                    (NetError::Unreachable, Duration::ZERO)
                } else {
                    (NetError::TimedOut, CONNECT_LIMIT)
                };
                self.queue.push(self.now + after, What::ConnectFailed { socket, error });
            }
            Some(target) => {
                let at = self.now + self.path_delay(host, target);
                self.queue.push(at, What::Syn(stream));
            }
        }
        socket
    }

    /// The application at `socket` is done with its stream. What it wrote still goes out.
    pub(super) fn close(&mut self, socket: Socket) {
        let now = self.now;
        let stream = self.stream(socket.stream);
        let was = core::mem::replace(&mut stream.end_mut(socket.side).phase, Phase::Closed);
        if was == Phase::Closed {
            return;
        }
        let (here, there) = (stream.end(socket.side).host, stream.end(socket.side.other()).host);
        stream.end_mut(socket.side).reader = Reader::default();
        let unread = stream.direction_mut(socket.side.other()).readable() > 0;
        let ours = stream.direction_mut(socket.side);
        ours.finished = true;
        ours.wants = false;
        let flushed = ours.delivered == ours.pulled;
        let last_arrival = ours.last_arrival;
        if stream.end(socket.side.other()).phase == Phase::Closed {
            stream.directions.iter_mut().for_each(Direction::discard);
            return;
        }
        // What a dialler gives up before it was answered, the answer finds closed.
        if was == Phase::Opening || stream.severed {
            return;
        }
        let at = last_arrival.max(now + self.path_delay(here, there));
        if unread {
            // RFC 1122, 4.2.2.13: who closes with bytes unread resets.
            self.queue.push(at, What::Reset(socket.other()));
        } else if flushed {
            self.queue.push(at, What::Arrive { from: socket, len: 0 });
        }
    }

    /// Puts bytes behind those that `socket` has sent, and gives it its turn.
    pub(super) fn send(&mut self, socket: Socket, segment: Segment) {
        let stream = self.stream(socket.stream);
        if stream.end(socket.side).phase != Phase::Closed {
            stream.direction_mut(socket.side).push(segment);
        }
    }

    /// Has whoever sits on the way of a stream look at its first bytes, which are about to be sent: if they are not how
    /// BitTorrent begins, both ends are told that the other one broke it.
    pub(super) fn meddle(&mut self, socket: Socket, bytes: &[u8]) {
        let stream = self.stream(socket.stream);
        let hosts = [socket.side, socket.side.other()].map(|side| stream.end(side).host);
        let begins = stream.direction_mut(socket.side).pulled == 0;
        if begins && bytes.first() != Some(&19) && hosts.iter().any(|host| self.host(*host).meddled) {
            for (end, host) in [socket, socket.other()].into_iter().zip(hosts) {
                let at = self.now + self.path_delay(hosts[0], host);
                self.queue.push(at, What::Reset(end));
            }
        }
    }

    /// Gives `socket` its turn on the uplink, if it has something that may be sent.
    pub(super) fn flush(&mut self, socket: Socket) {
        let stream = self.stream(socket.stream);
        let host = stream.end(socket.side).host;
        let direction = stream.direction_mut(socket.side);
        if !direction.in_turn && direction.next_chunk() > 0 {
            direction.in_turn = true;
            self.host_mut(host).turns.push_back(socket);
            self.transmit(host);
        }
    }

    pub(super) fn send_datagram(&mut self, host: HostId, to: SocketAddr, data: Bytes) {
        let now = self.now;
        let sender = self.host_mut(host);
        let from = sender.nat.as_mut().map_or(sender.addr, |nat| nat.let_out(now, sender.addr, to));
        let Some(target) = self.host_at(to.ip()) else { return };
        let access = self.host(target).access;
        let copies = 1 + usize::from(self.happens(access.duplicate_ppm));
        for _ in 0..copies {
            let lost = self.happens(access.loss_ppm);
            if lost || self.is_dark(host, target) {
                continue;
            }
            let sent = self.host(host).access.up_time(data.len() as u64);
            let received = access.down_time(data.len() as u64);
            let at = self.now + sent + self.path_delay(host, target) + received;
            self.queue.push(at, What::Datagram(Box::new(Datagram { from, to, data: data.clone() })));
        }
    }

    /// Somebody sends `host` a datagram and says that it is from elsewhere.
    pub(super) fn forge(&mut self, from: SocketAddr, host: HostId, data: Bytes) {
        let to = self.host(host).addr;
        self.queue.push(self.now, What::Datagram(Box::new(Datagram { from, to, data })));
    }

    /// Sends a datagram to everybody in the local network of `host`.
    pub(super) fn multicast(&mut self, host: HostId, group: Group, data: &Bytes) {
        let from = SocketAddr::new(self.host(host).addr.ip(), group.addr().port());
        let Some(lan) = self.host(host).lan.filter(|_| from.is_ipv4() == (group == Group::V4)) else {
            return;
        };
        for there in (0..self.hosts.len() as u32).map(HostId) {
            let life = self.host(there).life;
            if self.host(there).lan == Some(lan) && !self.is_dark(host, there) {
                let event = Box::new(Event::Multicast { from, data: data.clone() });
                self.queue.push(self.now + LAN_TIME, What::Event { host: there, life, event });
            }
        }
    }

    pub(super) fn on_datagram(&mut self, datagram: Datagram) {
        let Some(host) = self.host_at(datagram.to.ip()) else { return };
        let (now, from, port) = (self.now, datagram.from, datagram.to.port());
        if self.host(host).nat.as_ref().is_some_and(|nat| !nat.lets_in(now, from, port)) {
            return;
        }
        match &self.host(host).role {
            Role::Client(_) => {
                self.tell(host, Event::Datagram { from: datagram.from, data: datagram.data });
            }
            Role::Tracker(_) => self.on_tracker_datagram(host, &datagram),
            Role::Fake(_) | Role::Off => {}
        }
    }

    pub(super) fn on_syn(&mut self, stream: StreamId) {
        if self.streams[stream.0 as usize].severed {
            return;
        }
        let [dialler, acceptor] = &self.streams[stream.0 as usize].ends;
        let (from, host, given_up) = (dialler.host, acceptor.host, dialler.phase == Phase::Closed);
        if given_up {
            return;
        }
        let socket = Socket { stream, side: Side::Acceptor };
        let answer_at = self.now + self.path_delay(host, from);
        let listens = match &self.host(host).role {
            Role::Client(client) => client.listens,
            Role::Fake(_) => true,
            Role::Off | Role::Tracker(_) => false,
        };
        if !listens || self.host(host).reach != Reach::Normal {
            let (socket, error) = (socket.other(), NetError::Refused);
            self.queue.push(answer_at, What::ConnectFailed { socket, error });
            return;
        }
        let dialler = self.host_mut(from);
        let remote = SocketAddr::new(dialler.addr.ip(), dialler.next_port);
        dialler.next_port = dialler.next_port.checked_add(1).unwrap_or(1024);
        self.stream(stream).direction_mut(Side::Acceptor).last_arrival = answer_at;
        self.queue.push(answer_at, What::SynAck(stream));
        let end = self.stream(stream).end_mut(Side::Acceptor);
        end.phase = Phase::Open;
        match &self.host(host).role {
            Role::Client(_) => self.accept(socket, host, remote),
            _ => self.fake_opened(socket, host),
        }
    }

    pub(super) fn on_syn_ack(&mut self, stream: StreamId) {
        if self.streams[stream.0 as usize].severed {
            return;
        }
        let socket = Socket { stream, side: Side::Dialler };
        let end = self.stream(stream).end_mut(Side::Dialler);
        let (host, conn) = (end.host, end.conn);
        if end.phase == Phase::Closed {
            let at = self.now + self.path_delay(host, self.streams[stream.0 as usize].ends[1].host);
            self.queue.push(at, What::Reset(socket.other()));
            return;
        }
        end.phase = Phase::Open;
        match &self.host(host).role {
            Role::Client(_) => self.connected(host, conn),
            Role::Fake(_) => self.fake_opened(socket, host),
            Role::Off | Role::Tracker(_) => {}
        }
        // The other side may have closed at once.
        self.on_read(socket);
    }

    pub(super) fn on_connect_failed(&mut self, socket: Socket, error: NetError) {
        let end = self.stream(socket.stream).end_mut(socket.side);
        let (host, conn) = (end.host, end.conn);
        if core::mem::replace(&mut end.phase, Phase::Closed) != Phase::Closed
            && matches!(self.host(host).role, Role::Client(_))
        {
            self.gone(host, conn, Event::ConnectFailed { conn, error });
        }
    }

    pub(super) fn on_uplink_free(&mut self, host: HostId) {
        self.host_mut(host).uplink_busy = false;
        self.transmit(host);
        self.pull_more(host);
    }

    pub(super) fn on_arrive(&mut self, from: Socket, len: u64) {
        let now = self.now;
        let stream = &self.streams[from.stream.0 as usize];
        if stream.severed {
            return;
        }
        let (sender, receiver) = (stream.end(from.side).host, stream.end(from.side.other()).host);
        let held_until = stream.directions[from.side as usize].held_until;
        if held_until > now {
            self.queue.push(held_until, What::Arrive { from, len });
            return;
        }
        let access = self.host(receiver).access;
        let free_at = self.host(receiver).downlink_free_at;
        let rate = u128::from(access.down_bytes_per_s);
        let waiting = (free_at.since(now).as_micros() * rate / 1_000_000) as u64;
        let dark = self.is_dark(sender, receiver);
        if dark || waiting.saturating_add(len) > access.queue_limit.max(len) {
            let again = if dark { DARK_RETRY } else { self.round_trip(sender, receiver) };
            let direction = self.stream(from.stream).direction_mut(from.side);
            direction.shrink_window();
            direction.held_until = now + again;
            self.queue.push(now + again, What::Arrive { from, len });
            return;
        }
        let done = now.max(free_at) + access.down_time(len);
        self.host_mut(receiver).downlink_free_at = done;
        if done == now {
            self.on_deliver(from, len);
        } else {
            self.queue.push(done, What::Deliver { from, len });
        }
    }

    pub(super) fn on_deliver(&mut self, from: Socket, len: u64) {
        let stream = self.stream(from.stream);
        if stream.severed {
            return;
        }
        stream.direction_mut(from.side).delivered += len;
        let (sender, receiver) = (stream.end(from.side), stream.end(from.side.other()));
        let (from_host, to_host) = (sender.host, receiver.host);
        if receiver.phase == Phase::Closed {
            // Bytes for a socket that is gone: its host answers with a reset.
            if sender.phase != Phase::Closed && len > 0 {
                let at = self.now + self.path_delay(to_host, from_host);
                self.queue.push(at, What::Reset(from));
            }
            return;
        }
        self.on_read(from.other());
    }

    pub(super) fn on_freed(&mut self, from: Socket, len: u64) {
        let stream = self.stream(from.stream);
        if stream.severed {
            return;
        }
        let host = stream.end(from.side).host;
        stream.direction_mut(from.side).free(len);
        self.flush(from);
        self.pull_more(host);
    }

    pub(super) fn on_reset(&mut self, socket: Socket) {
        let stream = self.stream(socket.stream);
        let end = stream.end_mut(socket.side);
        let (host, conn) = (end.host, end.conn);
        let was = core::mem::replace(&mut end.phase, Phase::Closed);
        end.reader = Reader::default();
        if was == Phase::Closed {
            return;
        }
        stream.directions.iter_mut().for_each(Direction::discard);
        match &self.host(host).role {
            Role::Client(_) => {
                self.gone(host, conn, Event::Closed { conn, error: Some(NetError::Reset) });
            }
            Role::Fake(_) => self.fake_closed(socket, host),
            Role::Off | Role::Tracker(_) => {}
        }
    }

    pub(super) fn on_read(&mut self, socket: Socket) {
        let end = self.stream(socket.stream).end_mut(socket.side);
        let host = end.host;
        end.reader.planned = false;
        if end.phase != Phase::Open {
            return;
        }
        match &self.host(host).role {
            Role::Client(_) => self.read(host, socket),
            Role::Fake(_) => self.fake_reads(host, socket),
            Role::Off | Role::Tracker(_) => return,
        }
        self.after_reading(socket, host);
    }

    /// Tells the sender what was read, and the reader if nothing more will come.
    fn after_reading(&mut self, socket: Socket, host: HostId) {
        let stream = self.stream(socket.stream);
        let sender = stream.end(socket.side.other()).host;
        let (end, direction) =
            (&stream.ends[socket.side as usize], &mut stream.directions[socket.side.other() as usize]);
        let (open, conn) = (end.phase == Phase::Open, end.conn);
        let (told, over) = (direction.tell(), direction.is_over());
        if let Some(len) = told {
            let at = self.now + self.path_delay(host, sender);
            self.queue.push(at, What::Freed { from: socket.other(), len });
        }
        if over && open {
            let stream = self.stream(socket.stream);
            stream.end_mut(socket.side).phase = Phase::Closed;
            stream.directions.iter_mut().for_each(Direction::discard);
            match &self.host(host).role {
                Role::Client(_) => self.gone(host, conn, Event::Closed { conn, error: None }),
                _ => self.fake_closed(socket, host),
            }
        }
    }

    /// Sends the next chunk of whoever is in turn, as long as the uplink is free.
    fn transmit(&mut self, host: HostId) {
        while !self.host(host).uplink_busy {
            let Some(socket) = self.host_mut(host).turns.pop_front() else { return };
            let sockets = self.sockets;
            let stream = self.stream(socket.stream);
            let receiver = stream.end(socket.side.other()).host;
            let direction = stream.direction_mut(socket.side);
            let len = direction.next_chunk();
            if len == 0 {
                direction.in_turn = false;
                continue;
            }
            direction.sent += len;
            direction.in_turn = direction.next_chunk() > 0;
            let (again, wants) =
                (direction.in_turn, direction.wants && direction.room(&sockets) >= LOW_WATER);
            let sender = self.host_mut(host);
            if again {
                sender.turns.push_back(socket);
            }
            if wants && let Role::Client(client) = &mut sender.role {
                client.pulls.push_back(socket);
            }
            let busy = sender.access.up_time(len);
            if busy > Duration::ZERO {
                sender.uplink_busy = true;
                self.queue.push(self.now + busy, What::UplinkFree(host));
            }
            self.set_out(socket, host, receiver, len, self.now + busy);
        }
    }

    /// Puts a chunk that leaves at `departure` on its path.
    fn set_out(&mut self, from: Socket, sender: HostId, receiver: HostId, len: u64, departure: Timestamp) {
        let mut arrival = departure + self.path_delay(sender, receiver);
        let loss_ppm = self.host(receiver).access.loss_ppm;
        let lost = loss_ppm > 0 && self.happens(loss_ppm * len.div_ceil(PACKET_LEN));
        if lost {
            arrival = arrival + self.round_trip(sender, receiver);
        }
        let direction = self.stream(from.stream).direction_mut(from.side);
        if lost {
            direction.shrink_window();
        }
        direction.last_arrival = direction.last_arrival.max(arrival);
        self.queue.push(
            self.streams[from.stream.0 as usize].directions[from.side as usize].last_arrival,
            What::Arrive { from, len },
        );
    }

    /// Has the session of `host` fill the sockets that took less than it had.
    fn pull_more(&mut self, host: HostId) {
        if let Role::Client(client) = &self.host(host).role
            && !client.pulls.is_empty()
        {
            self.line(host, Way::In, Topic::Bytes, "writable");
            self.settle(host);
        }
    }

    pub(super) fn path_delay(&mut self, from: HostId, to: HostId) -> Duration {
        let (a, b) = (self.host(from).access, self.host(to).access);
        let jitter = (a.jitter + b.jitter).as_micros() as u64;
        let extra = if jitter > 0 { self.chance.below(jitter) } else { 0 };
        a.delay + b.delay + Duration::from_micros(extra)
    }

    fn round_trip(&self, a: HostId, b: HostId) -> Duration {
        2 * (self.host(a).access.delay + self.host(b).access.delay)
    }

    pub(super) fn is_dark(&self, a: HostId, b: HostId) -> bool {
        [a, b].iter().any(|host| matches!(self.host(*host).reach, Reach::Dark | Reach::Down))
    }

    fn happens(&mut self, ppm: u64) -> bool {
        ppm > 0 && self.chance.chance(ppm, 1_000_000)
    }
}

/// The way of a datagram in a local network.
const LAN_TIME: Duration = Duration::from_millis(1);

/// A socket is filled again when it has room for so many bytes.
pub(super) const LOW_WATER: u64 = 16 * 1024;

/// How long an operating system tries to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(127);

/// How often bytes are sent again into a cut cable.
const DARK_RETRY: Duration = Duration::from_millis(500);
