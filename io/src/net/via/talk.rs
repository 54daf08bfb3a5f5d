//! Asking the proxy for something, and remembering whether it is there.

use super::Way;
use crate::net::Net;
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::socks5::{Action, Command, Destination, Event, Failure, Negotiation, Reply};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

/// What the proxy did.
pub(super) struct Done<S> {
    pub(super) stream: S,
    /// Where the proxy is.
    pub(super) proxy: SocketAddr,
    /// Where it sends from, or where its relay is.
    pub(super) bound: Destination,
}

/// The proxy itself is of no use, whatever it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyDown(String);

impl fmt::Display for ProxyDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProxyDown {}

/// Whether the proxy is there.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Why it was not there the last time, and when to try again.
    down: Option<(String, Instant)>,
    /// Failures in a row.
    failures: u32,
}

/// Opens a stream to the proxy and has it do something.
pub(super) async fn ask<N: Net>(net: &N, way: &Way, command: Command) -> io::Result<Done<N::Stream>> {
    way.may_try()?;
    let (stream, proxy) = match timeout(CONNECT_LIMIT, reach(net, way)).await {
        Ok(Ok(reached)) => reached,
        Ok(Err(error)) => return Err(way.is_down(&error.to_string())),
        Err(_) => return Err(way.is_down("no connection in time")),
    };
    negotiate(stream, proxy, way, command).await
}

/// Every address of the proxy in turn.
async fn reach<N: Net>(net: &N, way: &Way) -> io::Result<(N::Stream, SocketAddr)> {
    let ips = match way.proxy.host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => net.resolve(&way.proxy.host).await?,
    };
    let mut last = io::Error::from(ErrorKind::NotFound);
    for ip in ips {
        let addr = SocketAddr::new(ip, way.proxy.port);
        match net.connect(addr).await {
            Ok(stream) => return Ok((stream, addr)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn negotiate<S: crate::net::Stream>(
    mut stream: S,
    proxy: SocketAddr,
    way: &Way,
    command: Command,
) -> io::Result<Done<S>> {
    let start = Instant::now();
    let now = || Timestamp::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    let (mut talk, mut out) = (Negotiation::new(command, way.proxy.login.clone()), Outbox::new());
    let (mut next, mut buffer) = (Some(Event::Opened), [0; 512]);
    loop {
        let has_asked = talk.has_asked();
        match next.take() {
            Some(event) => talk.handle_event(now(), event, &mut out),
            None => talk.handle_timeout(now(), &mut out),
        }
        while let Some(action) = out.pop_front() {
            match action {
                Action::Done(bound) => {
                    way.is_up();
                    return Ok(Done { stream, proxy, bound });
                }
                Action::Failed(failure) => return Err(way.failed(failure, has_asked)),
                Action::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        next = Some(Event::Ended);
                    }
                }
            }
        }
        if next.is_some() {
            continue;
        }
        let due = talk.poll_timeout().expect("a talk that is not over has an end");
        let due = start + Duration::from_micros(due.at.as_micros());
        let wanted = talk.wanted().min(buffer.len());
        tokio::select! {
            biased;
            read = stream.read(&mut buffer[..wanted]) => next = Some(match read {
                Ok(0) | Err(_) => Event::Ended,
                Ok(count) => Event::Bytes(bytes::Bytes::copy_from_slice(&buffer[..count])),
            }),
            () = sleep_until(due) => {}
        }
    }
}

impl Way {
    /// Nobody tries a proxy that was not there a moment ago.
    fn may_try(&self) -> io::Result<()> {
        match &self.health.borrow().down {
            Some((why, until)) if Instant::now() < *until => Err(down(why.clone())),
            _ => Ok(()),
        }
    }

    fn is_up(&self) {
        let health = std::mem::take(&mut *self.health.borrow_mut());
        if health.down.is_some() {
            warn!("the proxy {} answers again", self.name());
        }
    }

    /// The proxy is not there, or will have nothing to do with us. The user is told once.
    fn is_down(&self, why: &str) -> io::Error {
        let mut health = self.health.borrow_mut();
        let why = format!("the proxy {} can't be used: {why}", self.name());
        if health.down.is_none() {
            warn!("{why}; nothing is sent until it answers");
        }
        let pause = PAUSES[(health.failures as usize).min(PAUSES.len() - 1)];
        health.failures = health.failures.saturating_add(1);
        health.down = Some((why.clone(), Instant::now() + pause));
        down(why)
    }

    /// What a failure says of the proxy, if it is its own, or else of the remote.
    fn failed(&self, failure: Failure, has_asked: bool) -> io::Error {
        let kind = match failure {
            Failure::Ended if has_asked => ErrorKind::ConnectionReset,
            Failure::TimedOut if has_asked => ErrorKind::TimedOut,
            Failure::Refused(reply) => match reply {
                Reply::ConnectionRefused => ErrorKind::ConnectionRefused,
                Reply::TtlExpired => ErrorKind::TimedOut,
                Reply::NetworkUnreachable => ErrorKind::NetworkUnreachable,
                Reply::Command => ErrorKind::Unsupported,
                _ => ErrorKind::HostUnreachable,
            },
            _ => return self.is_down(&failure.to_string()),
        };
        if matches!(failure, Failure::Refused(_)) {
            self.is_up();
        }
        debug!("{}: {failure}", self.name());
        io::Error::new(kind, failure.to_string())
    }

    fn name(&self) -> String {
        match self.proxy.host.contains(':') {
            true => format!("[{}]:{}", self.proxy.host, self.proxy.port),
            false => format!("{}:{}", self.proxy.host, self.proxy.port),
        }
    }
}

fn down(why: String) -> io::Error {
    io::Error::other(ProxyDown(why))
}

/// How long a connection to the proxy may take to be opened.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long nobody tries a proxy that was not there, after each failure in a row.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
