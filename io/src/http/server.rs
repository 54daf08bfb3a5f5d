//! Serving small answers, as a tracker does.

use crate::net::{Listener, RecvMeta, Udp};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Answers every request that comes to `listener` with the status and body that `answer` gives for its path, query
/// included, and its sender. Ends when it is dropped; has to run on a [`LocalSet`](tokio::task::LocalSet).
pub async fn serve_http<L: Listener>(
    listener: L,
    answer: impl Fn(&str, SocketAddr) -> (u16, Vec<u8>) + 'static,
) {
    let answer = Rc::new(answer);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!("accepting: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let answer = Rc::clone(&answer);
        let respond = service_fn(move |request: Request<Incoming>| {
            let (status, body) = match request.uri().path_and_query() {
                Some(path) => answer(path.as_str(), remote),
                None => (StatusCode::BAD_REQUEST.as_u16(), vec![]),
            };
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = StatusCode::from_u16(status).expect("an answer has a status");
            std::future::ready(Ok::<_, Infallible>(response))
        });
        connections.spawn_local(async move {
            let connection = http1::Builder::new()
                // It would bring the time of day into simulations.
                .auto_date_header(false)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), respond);
            match timeout(CONNECTION_LIMIT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("serving {remote}: {error}"),
                Err(_) => debug!("serving {remote}: too slow"),
            }
        });
    }
}

/// Answers every datagram that comes to `socket` with what `answer` gives for it and its sender, if anything. Ends when
/// it is dropped, or when the socket fails.
pub async fn serve_udp<U: Udp>(
    mut socket: U,
    mut answer: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>>,
) -> io::Error {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut meta = [RecvMeta::UNUSED];
        let received =
            poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await;
        if let Err(error) = received {
            return error;
        }
        for datagram in buffer[..meta[0].len].chunks(meta[0].stride) {
            if let Some(reply) = answer(datagram, meta[0].from) {
                let sent = poll_fn(|cx| socket.poll_send(cx, meta[0].from, &reply)).await;
                // As if the network had lost it.
                sent.unwrap_or_else(|error| debug!("answering {}: {error}", meta[0].from));
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

const MAX_CONNECTIONS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::{serve_http, serve_udp};
    use crate::http::{Author, Client, Fetch, Tls};
    use crate::net::{Net as _, Real, RecvMeta, Udp as _};
    use std::future::poll_fn;
    use std::io::IoSliceMut;
    use std::net::{Ipv4Addr, SocketAddr};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::{LocalSet, spawn_local};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn every_request_is_answered_without_the_time_of_day() {
        LocalSet::new()
            .run_until(async {
                let listener = Real::default().listen(ANY).await.unwrap();
                let addr = crate::net::Listener::local_addr(&listener).unwrap();
                spawn_local(serve_http(listener, |path, _| {
                    (if path == "/" { 404 } else { 200 }, path.into())
                }));

                let client = Client::new(Real::default(), Tls::from_env().unwrap());
                let url = format!("http://{addr}/announce?info_hash=%FF");
                let fetch = Fetch { url: &url, author: Author::Torrent, max_body: 100 };
                let answer = client.get(fetch).await.unwrap();
                assert_eq!((answer.status, &answer.body[..]), (200, &b"/announce?info_hash=%FF"[..]));

                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                let mut heard = String::new();
                stream.read_to_string(&mut heard).await.unwrap();
                assert_eq!(
                    heard,
                    "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 1\r\n\r\n/"
                );
            })
            .await;
    }

    #[tokio::test]
    async fn datagrams_are_answered_one_by_one() {
        LocalSet::new()
            .run_until(async {
                let server = Real::default().udp(ANY).await.unwrap();
                let to = server.local_addr().unwrap();
                spawn_local(serve_udp(server, |datagram, _| {
                    datagram.strip_prefix(b"say ").map(<[u8]>::to_vec)
                }));
                let mut socket = Real::default().udp(ANY).await.unwrap();
                for datagram in [b"nothing".as_slice(), b"", b"say this"] {
                    poll_fn(|cx| socket.poll_send(cx, to, datagram)).await.unwrap();
                }
                let (mut buffer, mut meta) = ([0; 100], [RecvMeta::UNUSED]);
                let mut bufs = [IoSliceMut::new(&mut buffer)];
                poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap();
                assert_eq!((meta[0].from, &buffer[..meta[0].len]), (to, &b"this"[..]));
            })
            .await;
    }
}
