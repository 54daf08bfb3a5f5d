//! A host that is a SOCKS5 proxy, and relays datagrams.

use super::net::{SimNet, SimStream};
use fast_peer_core::socks5::{Destination, Relayed};
use fast_peer_io::net::{Listener as _, Net as _, RecvMeta, Udp as _};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::task::spawn_local;
use tracing::{debug, trace};

/// The port of all proxies.
pub const SOCKS_PORT: u16 = 1080;

/// Lets everybody use it, for ever. Whoever comes need not say who it is.
pub(super) async fn serve(net: SimNet) -> turmoil::Result {
    let listener = net.listen(SocketAddr::new(any(net.ip()), SOCKS_PORT)).await?;
    loop {
        let (stream, from) = listener.accept().await?;
        let net = net.clone();
        spawn_local(async move {
            if let Err(error) = talk(&net, stream, from).await {
                debug!("for {from}: {error}");
            }
        });
    }
}

async fn talk(net: &SimNet, mut stream: SimStream, from: SocketAddr) -> io::Result<()> {
    let [_, methods] = read(&mut stream).await?;
    stream.read_exact(&mut vec![0; usize::from(methods)]).await?;
    stream.write_all(&[5, 0]).await?;
    let [_, command, _] = read(&mut stream).await?;
    let to = destination(&mut stream).await?;
    trace!("{from} asks for {command} to {to}");
    match command {
        1 => match connect(net, &to).await {
            Ok(mut remote) => {
                reply(&mut stream, 0, SocketAddr::new(net.ip(), 0)).await?;
                copy_bidirectional(&mut stream, &mut remote).await.map(drop)
            }
            Err(error) => {
                let code = if error.kind() == ErrorKind::ConnectionRefused { 5 } else { 4 };
                reply(&mut stream, code, SocketAddr::new(net.ip(), 0)).await
            }
        },
        3 => relay(net, stream, from.ip()).await,
        _ => reply(&mut stream, 7, SocketAddr::new(net.ip(), 0)).await,
    }
}

/// Relays datagrams between one client and all others, as long as the client's stream is open.
async fn relay(net: &SimNet, mut stream: SimStream, client: IpAddr) -> io::Result<()> {
    let mut udp = net.udp(SocketAddr::new(any(net.ip()), 0)).await?;
    reply(&mut stream, 0, SocketAddr::new(net.ip(), udp.local_addr()?.port())).await?;
    let (mut port, mut buffer, mut end) = (0, vec![0; 1 << 16], [0]);
    loop {
        let mut meta = [RecvMeta::UNUSED];
        tokio::select! {
            biased;
            _ = stream.read(&mut end) => return Ok(()),
            received = poll_fn(|cx| udp.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)) => {
                received?;
            }
        }
        let [RecvMeta { from, len, .. }] = meta;
        let (to, data) = if from.ip() == client {
            port = from.port();
            let Ok(Relayed { peer, data }) = Relayed::parse(&buffer[..len]) else { continue };
            let Ok(to) = resolve(net, &peer).await else { continue };
            (to, data.to_vec())
        } else {
            let mut head = vec![];
            Relayed { peer: from.into(), data: &buffer[..len] }.encode(&mut head);
            (SocketAddr::new(client, port), head)
        };
        poll_fn(|cx| udp.poll_send(cx, to, &data)).await?;
    }
}

async fn connect(net: &SimNet, to: &Destination) -> io::Result<SimStream> {
    net.connect(resolve(net, to).await?).await
}

async fn resolve(net: &SimNet, to: &Destination) -> io::Result<SocketAddr> {
    match to {
        Destination::Addr(addr) => Ok(*addr),
        Destination::Name(name, port) => Ok(SocketAddr::new(net.resolve(name.as_str()).await?[0], *port)),
    }
}

async fn reply(stream: &mut SimStream, code: u8, bound: SocketAddr) -> io::Result<()> {
    let mut out = vec![];
    Relayed { peer: bound.into(), data: &[] }.encode(&mut out);
    // VER, REP and RSV where a datagram has RSV and FRAG.
    (out[0], out[1]) = (5, code);
    stream.write_all(&out).await
}

/// ATYP, address and port.
async fn destination(stream: &mut SimStream) -> io::Result<Destination> {
    let mut head = vec![0, 0, 0];
    let [kind, first] = read(stream).await?;
    head.extend([kind, first]);
    let rest = match kind {
        1 => 3 + 2,
        4 => 15 + 2,
        _ => usize::from(first) + 2,
    };
    let mut tail = vec![0; rest];
    stream.read_exact(&mut tail).await?;
    head.extend(tail);
    Relayed::parse(&head).map(|read| read.peer).map_err(io::Error::other)
}

async fn read<const N: usize>(stream: &mut SimStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Every address of the family of `ip`.
fn any(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
