//! A network for tests: every address behaves as it was told, in virtual time.

use super::{Listener, Net, RecvMeta, Stream, Udp};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// What an address does with those who connect to it.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Says each of these after a pause, once it has heard a request; then closes.
    Answers(Vec<(Duration, Vec<u8>)>),
    /// Takes them in and says nothing.
    Open,
    Refuses,
    /// Lets them wait for ever.
    Silent,
}

/// Addresses and names that are not there do not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    manners: BTreeMap<IpAddr, Manner>,
    names: BTreeMap<String, Vec<IpAddr>>,
    heard: Arc<Mutex<Vec<(SocketAddr, String)>>>,
}

impl Fake {
    pub(crate) fn with(mut self, addr: IpAddr, manner: Manner) -> Self {
        self.manners.insert(addr, manner);
        self
    }

    pub(crate) fn named(mut self, name: &str, addrs: &[&str]) -> Self {
        self.names.insert(name.to_owned(), addrs.iter().map(|addr| addr.parse().unwrap()).collect());
        self
    }

    /// The heads of the requests so far, and who was asked.
    pub(crate) fn heard(&self) -> Vec<(SocketAddr, String)> {
        self.heard.lock().unwrap().clone()
    }
}

/// A listener or socket that does not exist.
#[derive(Debug)]
pub(crate) enum Never {}

impl Stream for DuplexStream {}

impl Net for Fake {
    type Stream = DuplexStream;
    type Listener = Never;
    type Udp = Never;

    async fn connect(&self, remote: SocketAddr) -> io::Result<DuplexStream> {
        let (near, mut far) = duplex(1 << 16);
        let parts = match self.manners.get(&remote.ip()) {
            None => return Err(ErrorKind::HostUnreachable.into()),
            Some(Manner::Refuses) => return Err(ErrorKind::ConnectionRefused.into()),
            Some(Manner::Silent) => std::future::pending().await,
            Some(Manner::Open) => None,
            Some(Manner::Answers(parts)) => Some(parts.clone()),
        };
        let heard = Arc::clone(&self.heard);
        tokio::spawn(async move {
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") && far.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
            }
            heard.lock().unwrap().push((remote, String::from_utf8_lossy(&head).into_owned()));
            let Some(parts) = parts else { return std::future::pending().await };
            for (pause, bytes) in parts {
                tokio::time::sleep(pause).await;
                if far.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        Ok(near)
    }

    async fn listen(&self, _: SocketAddr) -> io::Result<Never> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn udp(&self, _: SocketAddr) -> io::Result<Never> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn join(&self, _: SocketAddr, _: &[IpAddr]) -> io::Result<Vec<Never>> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.names.get(host).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Listener for Never {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match *self {}
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match *self {}
    }
}

impl Udp for Never {
    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_send(&mut self, _: &mut Context<'_>, _: SocketAddr, _: &[u8]) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match *self {}
    }
}
