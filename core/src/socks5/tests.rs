use super::{
    Action, Command, Destination, Event, Failure, Login, MAX_HEAD_LEN, Name, Negotiation, NotRelayed,
    PATIENCE, Relayed, Reply,
};
use crate::machine::{Machine as _, Outbox, Timestamp};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;
use proptest::prelude::*;

const START: Timestamp = Timestamp::ZERO;

fn addr(text: &str) -> Destination {
    Destination::Addr(text.parse().unwrap())
}

fn name(text: &str, port: u16) -> Destination {
    Destination::Name(Name::new(text).unwrap(), port)
}

/// A talk in which the proxy says these bytes, so many at a time, and no more than is wanted of them.
fn talk(command: Command, login: Option<(&str, &str)>, says: &[u8], step: usize) -> (Vec<Action>, usize) {
    let login = login.map(|(name, password)| Login::new(name, password).unwrap());
    let (mut talk, mut out, mut rest) = (Negotiation::new(command, login), Outbox::new(), says);
    assert_eq!((talk.wanted(), talk.poll_timeout()), (0, None));
    talk.handle_event(START, Event::Opened, &mut out);
    while !rest.is_empty() && talk.wanted() > 0 {
        let (some, others) = rest.split_at(talk.wanted().min(step).min(rest.len()));
        rest = others;
        talk.handle_event(START, Event::Bytes(Bytes::copy_from_slice(some)), &mut out);
    }
    assert_eq!(talk.is_over(), talk.wanted() == 0);
    (out.into(), rest.len())
}

fn connect(says: &[u8]) -> Vec<Action> {
    talk(Command::Connect(addr("192.0.2.1:80")), None, says, usize::MAX).0
}

fn send(bytes: &[u8]) -> Action {
    Action::Send(bytes.to_vec())
}

#[test]
fn a_connection_without_a_login() {
    let (said, rest) = talk(
        Command::Connect(addr("192.0.2.1:80")),
        None,
        // METHOD 0; then VER, REP 0, RSV, ATYP 1, 10.0.0.9:4660. What follows is the remote's.
        b"\x05\x00\x05\x00\x00\x01\x0a\x00\x00\x09\x12\x34remote",
        usize::MAX,
    );
    let request = send(b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50");
    assert_eq!(said, [send(b"\x05\x01\x00"), request, Action::Done(addr("10.0.0.9:4660"))]);
    assert_eq!(rest, 6);
}

#[test]
fn a_login_is_shown_to_whom_wants_one() {
    let connect = || Command::Connect(name("tracker.example", 6969));
    let request = send(b"\x05\x01\x00\x03\x0ftracker.example\x1b\x39");
    let says = b"\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let (said, _) = talk(connect(), Some(("me", "secret")), says, usize::MAX);
    let login = send(b"\x01\x02me\x06secret");
    assert_eq!(said, [send(b"\x05\x02\x00\x02"), login, request.clone(), Action::Done(addr("0.0.0.0:0"))]);
    let (said, _) = talk(connect(), Some(("me", "secret")), b"\x05\x00", usize::MAX);
    assert_eq!(said, [send(b"\x05\x02\x00\x02"), request]);
    assert_eq!(alloc::format!("{:?}", Login::new("me", "secret")), "Some(Login(…))");
}

#[test]
fn a_relay_is_asked_for_without_saying_where_from() {
    let says =
        b"\x05\x00\x05\x00\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x04\x38";
    let (said, _) = talk(Command::Associate, None, says, 1);
    let request = send(b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    assert_eq!(said, [send(b"\x05\x01\x00"), request, Action::Done(addr("[2001:db8::1]:1080"))]);
    let (said, _) = talk(Command::Associate, None, b"\x05\x00\x05\x00\x00\x03\x05relay\x04\x38", 3);
    assert_eq!(said.last(), Some(&Action::Done(name("relay", 1080))));
}

#[test]
fn each_refusal_has_its_sentence() {
    let mut sentences = vec![];
    for code in 1..=9 {
        let said = connect(&[5, 0, 5, code]);
        let Some(Action::Failed(failure @ Failure::Refused(reply))) = said.last() else { panic!("{said:?}") };
        assert_eq!(Reply::of(code), Some(*reply));
        sentences.push(failure.to_string());
    }
    let all = sentences.clone();
    sentences.sort();
    sentences.dedup();
    assert_eq!(sentences.len(), all.len(), "{all:?}");
    assert_eq!(Reply::of(0), None);
}

#[test]
fn what_is_no_proxy_for_us_is_told_apart() {
    for (says, failure) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], Failure::NotSocks5),
        (b"\x04\x00", Failure::NotSocks5),
        (b"\x05\xff", Failure::LoginMissing),
        (b"\x05\x02", Failure::LoginMissing),
        (b"\x05\x01", Failure::NoMethod),
        (b"\x05\x00\x04\x00", Failure::NotSocks5),
        (b"\x05\x00\x05\x00\x00\x02\x00", Failure::NoAddress),
        (b"\x05\x00\x05\x00\x00\x03\x00\x00\x00", Failure::NoAddress),
    ] {
        assert_eq!(connect(says).last(), Some(&Action::Failed(failure)), "{says:?}");
    }
    let login = |says: &[u8]| talk(Command::Associate, Some(("a", "b")), says, 1).0.pop();
    assert_eq!(login(b"\x05\xff"), Some(Action::Failed(Failure::NoMethod)));
    assert_eq!(login(b"\x05\x02\x01\x01"), Some(Action::Failed(Failure::LoginRefused)));
}

#[test]
fn silence_and_an_end_are_failures() {
    let (mut talk, mut out) = (Negotiation::new(Command::Associate, None), Outbox::new());
    talk.handle_event(START, Event::Opened, &mut out);
    talk.handle_timeout(START + PATIENCE - Duration::from_micros(1), &mut out);
    assert_eq!(out.len(), 1);
    talk.handle_timeout(START + PATIENCE, &mut out);
    assert_eq!(out.pop_back(), Some(Action::Failed(Failure::TimedOut)));
    talk.handle_event(START + PATIENCE, Event::Ended, &mut out);
    assert_eq!((talk.poll_timeout(), out.len()), (None, 1));

    let mut talk = Negotiation::new(Command::Associate, None);
    talk.handle_event(START, Event::Ended, &mut out);
    assert_eq!(out.pop_back(), Some(Action::Failed(Failure::Ended)));
}

#[test]
fn names_and_logins_have_bounds() {
    let long = "x".repeat(256);
    for bad in ["", "a b", "ä.example", "a\n", "a\0", &long] {
        assert_eq!(Name::new(bad), None, "{bad}");
    }
    assert!(Name::new(&long[1..]).is_some());
    assert!(Login::new("", "x").is_none() && Login::new("x", "").is_none());
    assert!(Login::new(&long, "x").is_none() && Login::new("x", &long).is_none());
    assert!(Login::new(&long[1..], &long[1..]).is_some());
}

#[test]
fn datagrams_by_hand() {
    // RSV, FRAG, ATYP, address, port, data.
    let v4 = b"\x00\x00\x00\x01\xc0\x00\x02\x01\x1a\xe1ping";
    let read = Relayed::parse(v4).unwrap();
    assert_eq!(read, Relayed { peer: addr("192.0.2.1:6881"), data: b"ping" });
    let named = b"\x00\x00\x00\x03\x06router\x1a\xe1";
    assert_eq!(Relayed::parse(named).unwrap(), Relayed { peer: name("router", 6881), data: b"" });
    for (datagram, why) in [
        (&b"\x00\x00\x01\x01\xc0\x00\x02\x01\x1a\xe1ping"[..], NotRelayed::Fragment),
        (b"\x00\x00\x80\x01", NotRelayed::Fragment),
        (b"\x00\x00\x00\x02\xc0\x00\x02\x01\x1a\xe1ping", NotRelayed::Malformed),
        (b"\x00\x00\x00\x03\xffrouter\x1a\xe1", NotRelayed::Malformed),
        (&v4[..9], NotRelayed::Malformed),
        (b"\x00\x00", NotRelayed::Malformed),
        (b"", NotRelayed::Malformed),
    ] {
        assert_eq!(Relayed::parse(datagram), Err(why), "{datagram:?}");
    }
}

fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        any::<SocketAddr>().prop_map(|addr| Destination::Addr(SocketAddr::new(addr.ip(), addr.port()))),
        ("[!-~]{1,255}", any::<u16>()).prop_map(|(text, port)| name(&text, port)),
    ]
}

proptest! {
    #[test]
    fn what_is_relayed_is_read_as_it_was_written(
        peer in destination(),
        data in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut written = vec![];
        Relayed { peer: peer.clone(), data: &data }.encode(&mut written);
        prop_assert!(written.len() <= data.len() + MAX_HEAD_LEN);
        prop_assert_eq!(Relayed::parse(&written), Ok(Relayed { peer, data: &data }));
        for cut in 0..written.len() - data.len() {
            prop_assert_eq!(Relayed::parse(&written[..cut]), Err(NotRelayed::Malformed));
        }
    }

    #[test]
    fn however_the_proxy_cuts_its_words_they_mean_the_same(
        bound in destination(),
        with_login: bool,
        code in 0_u8..10,
        step in 1_usize..9,
    ) {
        let mut says = if with_login { vec![5, 2, 1, 0] } else { vec![5, 0] };
        let mut reply = vec![];
        Relayed { peer: bound, data: b"the remote's" }.encode(&mut reply);
        says.extend([5, code, 0]);
        says.extend(&reply[3..]);
        let login = with_login.then_some(("name", "password"));
        let run = |step| talk(Command::Connect(name("a.example", 1)), login, &says, step);
        prop_assert_eq!(run(step).0, run(usize::MAX).0);
        if code == 0 {
            prop_assert_eq!(run(step).1, "the remote's".len());
        }
    }

    #[test]
    fn nonsense_ends_in_a_failure_or_waits(says: Vec<u8>, step in 1_usize..9, with_login: bool) {
        let login = with_login.then_some(("n", "p"));
        let (said, _) = talk(Command::Associate, login, &says, step);
        let last = said.iter().filter(|it| !matches!(it, Action::Send(_))).count();
        prop_assert!(last <= 1);
    }
}

#[test]
fn a_destination_reads_as_people_write_it() {
    let texts: Vec<String> = [addr("192.0.2.1:1"), addr("[::1]:2"), name("a.example", 3)]
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["192.0.2.1:1", "[::1]:2", "a.example:3"]);
}
