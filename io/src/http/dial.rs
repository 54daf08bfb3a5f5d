//! Connecting to a name that has several addresses, some of which may be dead (RFC 8305).

use crate::net::Net;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Opens a stream to whichever of `addrs` answers first. Each is tried when the one before failed or was silent for a
/// while; the families take turns. An error is that of the first address that failed.
pub(super) async fn dial<N: Net>(net: &N, addrs: &[IpAddr], port: u16) -> io::Result<(N::Stream, IpAddr)> {
    let mut waiting = interleave(addrs).into_iter();
    let mut open: Vec<(IpAddr, Attempt<'_, N::Stream>)> = vec![];
    let mut first_error = None;
    let mut next = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        loop {
            let (mut winner, mut failed) = (None, false);
            open.retain_mut(|(addr, connect)| match connect.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => {
                    winner.get_or_insert((stream, *addr));
                    false
                }
                Poll::Ready(Err(error)) => {
                    first_error.get_or_insert(error);
                    failed = true;
                    false
                }
                Poll::Pending => true,
            });
            if let Some(winner) = winner {
                return Poll::Ready(Ok(winner));
            }
            if !open.is_empty() && !failed && next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(addr) => {
                    open.push((addr, Box::pin(net.connect(SocketAddr::new(addr, port)))));
                    next.as_mut().reset(Instant::now() + STAGGER);
                }
                None if open.is_empty() => {
                    let error = first_error.take();
                    return Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into())));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

type Attempt<'n, S> = Pin<Box<dyn Future<Output = io::Result<S>> + 'n>>;

/// The addresses in their order, but with the families in turn as long as there are both.
fn interleave(addrs: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addrs.first() else { return vec![] };
    let (mut a, mut b): (Vec<IpAddr>, Vec<IpAddr>) =
        addrs.iter().partition(|addr| addr.is_ipv6() == first.is_ipv6());
    a.reverse();
    b.reverse();
    let mut out = Vec::with_capacity(addrs.len());
    while out.len() < addrs.len() {
        out.extend(a.pop());
        out.extend(b.pop());
    }
    out
}

/// RFC 8305 section 5 recommends 250 ms.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::{STAGGER, dial, interleave};
    use crate::net::fake::{Fake, Manner};
    use std::io::ErrorKind;
    use std::net::IpAddr;
    use tokio::time::Instant;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let order = ["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"].map(addr);
        assert_eq!(interleave(&order), ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"].map(addr));
        assert_eq!(interleave(&[]), [] as [IpAddr; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_up_the_next_for_a_moment_only() {
        let net =
            Fake::default().with(addr("2001:db8::1"), Manner::Silent).with(addr("192.0.2.1"), Manner::Open);
        let began = Instant::now();
        let (_, winner) = dial(&net, &[addr("2001:db8::1"), addr("192.0.2.1")], 80).await.unwrap();
        assert_eq!((winner, began.elapsed()), (addr("192.0.2.1"), STAGGER));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_leads_to_the_next_at_once() {
        let addrs = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(addr);
        let net = Fake::default()
            .with(addrs[0], Manner::Silent)
            .with(addrs[1], Manner::Refuses)
            .with(addrs[2], Manner::Open);
        let began = Instant::now();
        let (_, winner) = dial(&net, &addrs, 80).await.unwrap();
        assert_eq!((winner, began.elapsed()), (addrs[2], STAGGER));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failing_is_the_first_error() {
        let net = Fake::default().with(addr("192.0.2.1"), Manner::Refuses);
        let error = dial(&net, &[addr("192.0.2.1"), addr("192.0.2.9")], 80).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(dial(&net, &[], 80).await.err().unwrap().kind(), ErrorKind::NotFound);
    }
}
