//! Asking a web server, once.

use super::body::Body;
use super::dial::dial;
use super::policy::{Author, Reach, Refusal, may_ask};
use super::target::Target;
use super::tls::Tls;
use crate::net::{Net, net_error, resolve_error};
use fast_peer_core::session::{HttpAnswer, HttpError, NetError};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Asks web servers over a network.
#[derive(Clone, Debug)]
pub struct Client<N> {
    net: N,
    tls: Tls,
}

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'u> {
    /// An absolute http or https URL.
    pub url: &'u str,
    /// Who named it.
    pub author: Author,
    /// How long the body may be, decompressed.
    pub max_body: usize,
}

impl<N: Net> Client<N> {
    /// A client that trusts whom `tls` trusts.
    pub fn new(net: N, tls: Tls) -> Self {
        Self { net, tls }
    }

    /// The answer to a GET, whatever its status is, after redirects. Takes half a minute at most.
    pub async fn get(&self, fetch: Fetch<'_>) -> Result<HttpAnswer, HttpError> {
        timeout(LIMIT, self.follow(fetch)).await.unwrap_or(Err(HttpError::Net(NetError::TimedOut)))
    }

    async fn follow(&self, fetch: Fetch<'_>) -> Result<HttpAnswer, HttpError> {
        let mut target = Target::parse(fetch.url).map_err(forbidden)?;
        let mut from = None;
        for _ in 0..=MAX_REDIRECTS {
            match self.ask(fetch, &target, from).await? {
                Heard::Answer(answer) => return Ok(answer),
                Heard::Redirect { location, reach } => {
                    target = target.join(&location).map_err(forbidden)?;
                    from = Some(reach);
                }
            }
        }
        Err(HttpError::TooManyRedirects)
    }

    async fn ask(&self, fetch: Fetch<'_>, target: &Target, from: Option<Reach>) -> Result<Heard, HttpError> {
        let network = self.net.for_web(target.host());
        let found = match target.addr() {
            Some(addr) => vec![addr],
            None => network.resolve(target.host()).await.map_err(|e| HttpError::Net(resolve_error(&e)))?,
        };
        // What was checked is what is dialled: the name is not looked up again.
        let may = |addr: &IpAddr| may_ask(fetch.author, *addr, target.path().as_str(), from);
        let addrs: Vec<_> = found.iter().copied().filter(|addr| may(addr).is_ok()).collect();
        if let (true, Some(Err(refusal))) = (addrs.is_empty(), found.first().map(may)) {
            return Err(forbidden(refusal));
        }
        let (stream, addr) = dial(&network, &addrs, target.port).await.map_err(|e| net(&e))?;
        let reach = may(&addr).map_err(forbidden)?;
        if target.https {
            let name =
                ServerName::try_from(target.host().to_owned()).map_err(|_| forbidden(Refusal::NotAUrl))?;
            let stream =
                TlsConnector::from(self.tls.config()).connect(name, stream).await.map_err(tls_error)?;
            exchange(stream, fetch, target, reach).await
        } else {
            exchange(stream, fetch, target, reach).await
        }
    }
}

/// What a server said.
enum Heard {
    Answer(HttpAnswer),
    Redirect { location: String, reach: Reach },
}

/// One request and its answer over a fresh stream.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    fetch: Fetch<'_>,
    target: &Target,
    reach: Reach,
) -> Result<Heard, HttpError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // Some trackers know the fields by their usual spelling only.
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| hyper_error(&error))?;
    let request = Request::get(target.path().as_str())
        .header(HOST, target.authority())
        .header(USER_AGENT, concat!("fast-peer/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT_ENCODING, "gzip")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| forbidden(Refusal::NotAUrl))?;
    while_driving(connection, async {
        let response = sender.send_request(request).await.map_err(|error| hyper_error(&error))?;
        match location(&response) {
            Some(location) => Ok(Heard::Redirect { location, reach }),
            None => read(response, fetch.max_body).await.map(Heard::Answer),
        }
    })
    .await
}

/// Where a redirect leads. One that does not say so is an answer like others.
fn location(response: &Response<Incoming>) -> Option<String> {
    matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
    .then(|| response.headers().get(LOCATION)?.to_str().ok().map(str::to_owned))
    .flatten()
}

async fn read(response: Response<Incoming>, max: usize) -> Result<HttpAnswer, HttpError> {
    let status = response.status().as_u16();
    let coding =
        response.headers().get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase());
    let gzip = match coding.as_deref() {
        None | Some(b"" | b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return Err(HttpError::Malformed),
    };
    let mut body = Body::new(gzip, max);
    let mut incoming = response.into_body();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(|error| hyper_error(&error))?.into_data() {
            body.push(&data)?;
        }
    }
    Ok(HttpAnswer { status, body: body.finish()?.into() })
}

/// Waits for `wanted` while `connection` moves its bytes.
async fn while_driving<T, E>(
    connection: impl Future<Output = Result<(), E>>,
    wanted: impl Future<Output = T>,
) -> T {
    let (mut connection, mut wanted) = (pin!(connection), pin!(wanted));
    let mut over = false;
    poll_fn(|cx| {
        // Its error, if it has one, comes out of the request too.
        over = over || connection.as_mut().poll(cx).is_ready();
        match wanted.as_mut().poll(cx) {
            Poll::Pending if !over => {
                // The request may have given the connection something to do.
                over = connection.as_mut().poll(cx).is_ready();
                if over { wanted.as_mut().poll(cx) } else { Poll::Pending }
            }
            result => result,
        }
    })
    .await
}

fn forbidden(refusal: Refusal) -> HttpError {
    HttpError::Forbidden(refusal.to_string())
}

fn net(error: &io::Error) -> HttpError {
    HttpError::Net(net_error(error))
}

fn tls_error(error: io::Error) -> HttpError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => HttpError::Tls(inner.to_string()),
        None => net(&error),
    }
}

fn hyper_error(error: &hyper::Error) -> HttpError {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io {
        // So the decoder of chunks says that they are none.
        Some(io) if matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            HttpError::Malformed
        }
        Some(io) => net(io),
        None if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            HttpError::Net(NetError::Reset)
        }
        None => HttpError::Malformed,
    }
}

/// What one fetch may take, redirects and all.
const LIMIT: Duration = Duration::from_secs(30);

const MAX_HEAD: usize = 64 << 10;

const MAX_HEADERS: usize = 100;

const MAX_REDIRECTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::{Client, Fetch, LIMIT};
    use crate::http::{Author, MAX_BODY, Tls};
    use crate::net::fake::{Fake, Manner};
    use fast_peer_core::session::{HttpAnswer, HttpError, NetError};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;
    use std::net::IpAddr;
    use std::time::Duration;
    use tokio::time::Instant;

    const PUBLIC: &str = "192.0.2.1";
    const NOW: Duration = Duration::ZERO;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn answers(answer: &[u8]) -> Manner {
        Manner::Answers(vec![(NOW, answer.to_vec())])
    }

    async fn get(net: &Fake, url: &str) -> Result<HttpAnswer, HttpError> {
        let client = Client::new(net.clone(), Tls::from_env().unwrap());
        client.get(Fetch { url, author: Author::Torrent, max_body: MAX_BODY }).await
    }

    /// What comes of a server that answers this.
    async fn hear(answer: &[u8]) -> Result<(u16, Vec<u8>), HttpError> {
        let net = Fake::default().with(addr(PUBLIC), answers(answer));
        get(&net, "http://192.0.2.1/announce").await.map(|a| (a.status, a.body.to_vec()))
    }

    fn forbidden(why: &str) -> HttpError {
        HttpError::Forbidden(why.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn the_request_says_what_the_url_says() {
        let net = Fake::default()
            .named("tracker.example", &[PUBLIC])
            .with(addr(PUBLIC), answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde"));
        let url = "http://tracker.example:6969/announce?info_hash=%FF%00a~&port=1#top";
        assert_eq!(&get(&net, url).await.unwrap().body[..], b"de");
        let [(to, head)] = &net.heard()[..] else { panic!("one request") };
        assert_eq!(to.to_string(), "192.0.2.1:6969");
        let lines: Vec<_> = head.split("\r\n").collect();
        assert_eq!(lines[0], "GET /announce?info_hash=%FF%00a~&port=1 HTTP/1.1");
        assert!(lines.contains(&"Host: tracker.example:6969"), "{lines:?}");
        assert!(lines.contains(&"Accept-Encoding: gzip"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_many_forms() {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(b"d8:intervali1800ee").unwrap();
        let zipped = encoder.finish().unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", zipped.len());
        for (answer, status, body) in [
            (&b"HTTP/1.1 200 OK\r\n\r\nuntil the end"[..], 200, &b"until the end"[..]),
            (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                200,
                b"abcde",
            ),
            (&[head.as_bytes(), &zipped].concat(), 200, b"d8:intervali1800ee"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>", 404, b"<html>"),
            (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", 503, b""),
            (b"HTTP/1.1 302 Found\r\nContent-Length: 7\r\n\r\nnowhere", 302, b"nowhere"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ndeHTTP/1.1 200 OK\r\n\r\n", 200, b"de"),
        ] {
            let text = String::from_utf8_lossy(answer);
            assert_eq!(hear(answer).await, Ok((status, body.to_vec())), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_answer_is_an_error() {
        let reset = HttpError::Net(NetError::Reset);
        let long_head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
        let many_heads = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"X: y\r\n".repeat(1000)].concat();
        for (answer, error) in [
            (&b"d8:intervali1800ee\r\n\r\n"[..], HttpError::Malformed),
            (b"<html>\r\n\r\n", HttpError::Malformed),
            (&long_head, HttpError::Malformed),
            (&many_heads, HttpError::Malformed),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", HttpError::Malformed),
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx", HttpError::Malformed),
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain text", HttpError::Malformed),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc", HttpError::Malformed),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
                HttpError::Malformed,
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", reset.clone()),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", reset.clone()),
            (b"HTTP/1.1 20", reset.clone()),
            (b"", reset),
        ] {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(90)]);
            assert_eq!(hear(answer).await, Err(error), "{shown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_end_is_cut_off() {
        let part = (NOW, vec![b'x'; 1 << 16]);
        let mut parts = vec![(NOW, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
        parts.extend(vec![part; 100]);
        let net = Fake::default().with(addr(PUBLIC), Manner::Answers(parts));
        assert_eq!(get(&net, "http://192.0.2.1/").await, Err(HttpError::BodyTooLong));
    }

    #[tokio::test(start_paused = true)]
    async fn every_kind_of_slowness_ends_in_time() {
        let head = (NOW, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab".to_vec());
        let mut drip = vec![head.clone()];
        drip.extend(vec![(Duration::from_secs(1), b"x".to_vec()); 900]);
        let stall = vec![head, (10 * LIMIT, vec![])];
        for manner in [Manner::Answers(drip), Manner::Answers(stall), Manner::Open, Manner::Silent] {
            let net = Fake::default().with(addr(PUBLIC), manner);
            let began = Instant::now();
            assert_eq!(get(&net, "http://192.0.2.1/").await, Err(HttpError::Net(NetError::TimedOut)));
            assert_eq!(began.elapsed(), LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_address_answers_when_one_is_dead() {
        let net = Fake::default()
            .named("tracker.example", &["2001:db8::1", PUBLIC])
            .with(addr("2001:db8::1"), Manner::Silent)
            .with(addr(PUBLIC), answers(b"HTTP/1.1 200 OK\r\n\r\nok"));
        let began = Instant::now();
        assert_eq!(get(&net, "http://tracker.example/announce").await.unwrap().status, 200);
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn redirects_are_followed_a_few_times() {
        let net = Fake::default()
            .with(addr(PUBLIC), answers(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.2/next\r\n\r\n"))
            .with(addr("192.0.2.2"), answers(b"HTTP/1.1 200 OK\r\n\r\nthere"))
            .with(addr("192.0.2.3"), answers(b"HTTP/1.1 307 Again\r\nLocation: /\r\n\r\n"));
        assert_eq!(&get(&net, "http://192.0.2.1/announce").await.unwrap().body[..], b"there");
        assert_eq!(net.heard()[1].0, "192.0.2.2:80".parse().unwrap());
        assert!(net.heard()[1].1.starts_with("GET /next HTTP/1.1"));
        assert_eq!(get(&net, "http://192.0.2.3/").await, Err(HttpError::TooManyRedirects));
        assert_eq!(net.heard().len(), 2 + 6);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_where_they_may_not_go() {
        let inwards = "redirected from a public to a local address";
        let to = |location: &str| {
            answers(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n").as_bytes())
        };
        for (location, why) in [
            ("http://127.0.0.1/announce", inwards),
            ("http://[::1]/announce", inwards),
            ("http://169.254.169.254/latest/meta-data", inwards),
            ("http://10.0.0.1/announce", inwards),
            ("http://rebound.example/announce", inwards),
            ("file:///etc/passwd", "not a URL"),
            ("http://user:password@192.0.2.2/", "the URL holds a password"),
        ] {
            let net =
                Fake::default().named("rebound.example", &["127.0.0.1"]).with(addr(PUBLIC), to(location));
            assert_eq!(get(&net, "http://192.0.2.1/announce").await, Err(forbidden(why)), "{location}");
            assert_eq!(net.heard().len(), 1, "{location}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_as_good_as_the_address_behind_it() {
        let ok = answers(b"HTTP/1.1 200 OK\r\n\r\n");
        let net = Fake::default()
            .named("inside.example", &["127.0.0.1"])
            .named("mixed.example", &["127.0.0.1", "10.0.0.1"])
            .with(addr("127.0.0.1"), ok.clone())
            .with(addr("10.0.0.1"), ok);
        let this_host = Err(forbidden("this host is asked for announces only"));
        assert_eq!(get(&net, "http://inside.example/shutdown").await, this_host);
        assert_eq!(get(&net, "http://127.0.0.1/shutdown").await, this_host);
        assert_eq!(net.heard(), []);
        // What may be asked of one address is not asked of the other.
        assert_eq!(get(&net, "http://mixed.example/page").await.unwrap().status, 200);
        assert_eq!(net.heard()[0].0, "10.0.0.1:80".parse().unwrap());
        assert_eq!(get(&net, "http://inside.example/announce?x").await.unwrap().status, 200);
        let client = Client::new(net, Tls::from_env().unwrap());
        let by_user = Fetch { url: "http://inside.example/a.torrent", author: Author::User, max_body: 1 };
        assert_eq!(client.get(by_user).await.unwrap().status, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_the_network_keep_their_names() {
        let net = Fake::default().with(addr(PUBLIC), Manner::Refuses);
        assert_eq!(get(&net, "http://192.0.2.1/").await, Err(HttpError::Net(NetError::Refused)));
        assert_eq!(get(&net, "http://192.0.2.9/").await, Err(HttpError::Net(NetError::Unreachable)));
        assert_eq!(get(&net, "http://nowhere.example/").await, Err(HttpError::Net(NetError::NoSuchName)));
        assert_eq!(get(&net, "udp://192.0.2.1/").await, Err(forbidden("neither http nor https")));
    }
}
