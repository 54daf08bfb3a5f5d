use super::{Exempt, Proxy, ProxyDown, Via};
use crate::net::{Net, Real, RecvMeta, Udp, net_error};
use fast_peer_core::address::stands_for_name;
use fast_peer_core::session::NetError;
use fast_peer_core::socks5::{Destination, Login, Name, Relayed};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A proxy of which each client is told what to expect, word by word.
async fn proxy(looks_up: bool, login: Option<Login>) -> (TcpListener, Via<Real>) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Proxy { host: HERE.to_string(), port, login, looks_up, exempt: Exempt::parse("web.example") };
    (listener, Via::proxy(Real::default(), proxy))
}

/// Hears these words, and answers each with those.
async fn converse(stream: &mut TcpStream, words: &[(&[u8], &[u8])]) {
    for (hears, says) in words {
        let mut heard = vec![0; hears.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, *hears);
        stream.write_all(says).await.unwrap();
    }
}

#[tokio::test]
async fn streams_go_by_the_proxy_and_names_stay_names() {
    let (listener, net) = proxy(true, Login::new("me", "secret")).await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = b"\x05\x01\x00\x03\x0ftracker.example\x1b\x39";
        let reply = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hello";
        let words: [(&[u8], &[u8]); 3] =
            [(b"\x05\x02\x00\x02", b"\x05\x02"), (b"\x01\x02me\x06secret", b"\x01\x00"), (request, reply)];
        converse(&mut stream, &words).await;
        stream
    };
    let client = async {
        let ips = net.resolve("Tracker.Example.").await.unwrap();
        assert!(ips.len() == 1 && stands_for_name(ips[0]));
        let mut stream = net.connect(SocketAddr::new(ips[0], 6969)).await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn what_the_proxy_cannot_do_is_not_done() {
    let (_listener, net) = proxy(true, None).await;
    let any = SocketAddr::new(HERE, 0);
    assert_eq!(net.listen(any).await.err().unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(
        net.join("239.192.152.143:6771".parse().unwrap(), &[]).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    let unknown = net.connect("198.18.7.7:80".parse().unwrap()).await.unwrap_err();
    assert_eq!(net_error(&unknown), NetError::Unreachable, "no name was given this address");
    assert_eq!(net.resolve("127.1").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(net.resolve("localhost").await.unwrap()[0], HERE);
    assert!(net.is_proxied() && net.for_web("a.example").is_proxied());
    assert!(!net.for_web("www.web.example").is_proxied());
}

#[tokio::test]
async fn a_refusal_is_the_remotes_and_silence_is_the_proxys() {
    let (listener, net) = proxy(false, None).await;
    let remote: SocketAddr = "192.0.2.1:80".parse().unwrap();
    for (code, error) in [(5, NetError::Refused), (4, NetError::Unreachable), (6, NetError::TimedOut)] {
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            let request = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50";
            converse(&mut stream, &[(b"\x05\x01\x00", b"\x05\x00"), (request, &reply)]).await;
        };
        let (connected, ()) = tokio::join!(net.connect(remote), server);
        assert_eq!(net_error(&connected.unwrap_err()), error);
    }
    let server = async { drop(listener.accept().await.unwrap()) };
    let (connected, ()) = tokio::join!(net.connect(remote), server);
    let error = connected.unwrap_err();
    assert_eq!(net_error(&error), NetError::Proxy);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<ProxyDown>()));
    // For a moment nobody knocks again.
    assert_eq!(net_error(&net.connect(remote).await.unwrap_err()), NetError::Proxy);
    let knock = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(knock.is_err());
}

/// What comes next, and whom from.
async fn receive(udp: &mut super::ViaUdp<Real>) -> (SocketAddr, Vec<u8>) {
    let (mut buffer, mut meta) = (vec![0; 2000], [RecvMeta::UNUSED]);
    poll_fn(|cx| udp.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await.unwrap();
    (meta[0].from, buffer[..meta[0].len].to_vec())
}

#[tokio::test]
async fn datagrams_take_the_relay_and_a_new_one_when_it_is_gone() {
    let (listener, net) = proxy(true, None).await;
    let relay = tokio::net::UdpSocket::bind((HERE, 0)).await.unwrap();
    let port = relay.local_addr().unwrap().port().to_be_bytes();
    // It is at the proxy's address, which need not be said.
    let reply = [&[5, 0, 0, 1, 0, 0, 0, 0][..], &port].concat();
    let words: [(&[u8], &[u8]); 2] =
        [(b"\x05\x01\x00", b"\x05\x00"), (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", &reply)];
    let mut udp = net.udp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)).await.unwrap();
    assert!(udp.carries("[::1]:1".parse().unwrap()));
    assert!(net.udp("[::]:0".parse().unwrap()).await.is_err(), "one carries both families");
    let name = net.resolve("router.example").await.unwrap()[0];
    for _ in 0..2 {
        let server = async {
            let (mut control, _) = listener.accept().await.unwrap();
            converse(&mut control, &words).await;
            // What was sent by the relay before may still come.
            loop {
                let mut buffer = [0; 2000];
                let (len, from) = relay.recv_from(&mut buffer).await.unwrap();
                let sent = Relayed::parse(&buffer[..len]).unwrap();
                let wanted = Destination::Name(Name::new("router.example").unwrap(), 6881);
                assert_eq!(sent, Relayed { peer: wanted, data: b"ping" });
                let remote: SocketAddr = "192.0.2.9:6881".parse().unwrap();
                let mut fragment = vec![];
                Relayed { peer: remote.into(), data: b"part" }.encode(&mut fragment);
                fragment[2] = 1;
                let mut whole = vec![];
                Relayed { peer: remote.into(), data: b"pong" }.encode(&mut whole);
                let stranger = tokio::net::UdpSocket::bind((HERE, 0)).await.unwrap();
                stranger.send_to(&whole[..whole.len() - 1], from).await.unwrap();
                relay.send_to(&fragment, from).await.unwrap();
                relay.send_to(&whole, from).await.unwrap();
            }
        };
        let client = async {
            // Lost while there is no relay, as in any network.
            loop {
                let data = b"ping";
                poll_fn(|cx| udp.poll_send(cx, SocketAddr::new(name, 6881), data)).await.unwrap();
                let pause = std::time::Duration::from_millis(300);
                if let Ok(heard) = tokio::time::timeout(pause, receive(&mut udp)).await {
                    break heard;
                }
            }
        };
        // The stream that keeps the relay up ends with the server.
        let heard = tokio::select! {
            biased;
            heard = client => heard,
            () = server => unreachable!("it serves for ever"),
        };
        assert_eq!(heard, ("192.0.2.9:6881".parse().unwrap(), b"pong".to_vec()));
    }
}

/// A network of which the sockets for datagrams only fail.
#[derive(Clone)]
struct Broken(Rc<Cell<u32>>);

impl Net for Broken {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Udp = Self;

    async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        Real::default().connect(remote).await
    }

    async fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        Real::default().listen(local).await
    }

    async fn udp(&self, _: SocketAddr) -> io::Result<Self> {
        Ok(self.clone())
    }

    async fn join(&self, _: SocketAddr, _: &[IpAddr]) -> io::Result<Vec<Self>> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Real::default().resolve(host).await
    }
}

impl Udp for Broken {
    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.set(self.0.get() + 1);
        Poll::Ready(Err(ErrorKind::ConnectionRefused.into()))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, _: SocketAddr, _: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(HERE, 9))
    }
}

#[tokio::test]
async fn a_socket_that_only_fails_is_given_a_rest() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy =
        Proxy { host: HERE.to_string(), port, login: None, looks_up: true, exempt: Exempt::default() };
    let asked = Rc::new(Cell::new(0));
    let net = Via::proxy(Broken(Rc::clone(&asked)), proxy);
    let mut udp = net.udp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)).await.unwrap();
    let relays = Cell::new(0);
    let server = async {
        let words: [(&[u8], &[u8]); 2] = [
            (b"\x05\x01\x00", b"\x05\x00"),
            (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x09"),
        ];
        let mut open = vec![];
        loop {
            let (mut control, _) = listener.accept().await.unwrap();
            converse(&mut control, &words).await;
            relays.set(relays.get() + 1);
            open.push(control);
        }
    };
    let client = async {
        let (mut buffer, mut meta) = (vec![0; 2000], [RecvMeta::UNUSED]);
        poll_fn(|cx| udp.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await.unwrap();
    };
    tokio::select! {
        () = client => unreachable!("nothing comes"),
        () = server => unreachable!("it serves for ever"),
        () = tokio::time::sleep(std::time::Duration::from_millis(600)) => {}
    }
    // The second is asked for after 200 ms, and the third after a second more.
    assert!((1..=2).contains(&relays.get()), "{} relays", relays.get());
    assert!(asked.get() <= 8 * relays.get(), "it was asked {} times", asked.get());
}
