//! One talk with a proxy.

use super::destination::Destination;
use super::failure::{Failure, Reply};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::time::Duration;

/// What a proxy is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A relay for datagrams. It learns where we send from when we do (RFC 1928 section 7).
    Associate,
    /// A connection.
    Connect(Destination),
}

/// Who we are to the proxy (RFC 1929). It travels as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    name: String,
    password: String,
}

impl Login {
    /// Nothing if either is empty or longer than [`MAX_LOGIN_LEN`] bytes.
    pub fn new(name: &str, password: &str) -> Option<Self> {
        let fits = |text: &str| (1..=MAX_LOGIN_LEN).contains(&text.len());
        (fits(name) && fits(password))
            .then(|| Self { name: String::from(name), password: String::from(password) })
    }
}

/// Nothing of it gets into a log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These bytes came: 1 to [`Negotiation::wanted`] of them.
    Bytes(Bytes),
    /// The stream ended or broke.
    Ended,
    /// The stream is open.
    Opened,
}

/// What to do. [`Done`](Self::Done) and [`Failed`](Self::Failed) are the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The proxy did it: here it sends from, or here is its relay.
    Done(Destination),
    /// It came to nothing; the stream is of no use.
    Failed(Failure),
    /// Send bytes.
    Send(Vec<u8>),
}

/// One talk with a proxy, by which it does one thing.
///
/// ```text
///  Opening ─opened─▶ Greeting ──── no login wanted ────▶ Asking ─reply─▶ done
///                       └─ name and password ─▶ LoggingIn ─ok─┘
///  a refusal, nonsense, the end of the stream, or PATIENCE since the opening ─▶ failed
/// ```
///
/// It takes no byte beyond its own: what follows the last reply is the remote's.
#[derive(Debug)]
pub struct Negotiation {
    command: Command,
    login: Option<Login>,
    state: State,
    /// What came of the message that is being read: 262 bytes at most.
    input: Vec<u8>,
    give_up_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Greeting,
    LoggingIn,
    Opening,
    Over,
}

impl Negotiation {
    /// A talk to be. A proxy is shown the login if it wants one.
    pub fn new(command: Command, login: Option<Login>) -> Self {
        Self { command, login, state: State::Opening, input: Vec::new(), give_up_at: None }
    }

    /// How many bytes may be read now: those of which it is sure that they are for it. Zero when it waits for none.
    pub fn wanted(&self) -> usize {
        let whole = match self.state {
            State::Opening | State::Over => 0,
            State::Greeting | State::LoggingIn => 2,
            State::Asking => match self.input.get(3..).map(Destination::len) {
                Some(Ok(Some(len))) => 3 + len,
                // Every address has a fifth byte.
                _ => 5,
            },
        };
        whole.saturating_sub(self.input.len())
    }

    /// Whether the proxy has let us in, so that what fails now is more likely the remote's fault than the proxy's.
    pub fn has_asked(&self) -> bool {
        self.state == State::Asking
    }

    /// Whether it has said its last.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn on_opened(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.state = State::Greeting;
        self.give_up_at = Some(now + PATIENCE);
        let methods: &[u8] = if self.login.is_some() { &[NO_LOGIN, PASSWORD] } else { &[NO_LOGIN] };
        let mut greeting = Vec::from([VERSION, methods.len() as u8]);
        greeting.extend_from_slice(methods);
        out.push_back(Action::Send(greeting));
    }

    fn on_bytes(&mut self, bytes: &[u8], out: &mut Outbox<Action>) {
        assert!(bytes.len() <= self.wanted(), "no more is read than was wanted");
        self.input.extend_from_slice(bytes);
        match (self.state, &self.input[..]) {
            (State::Greeting, [version, ..]) if *version != VERSION => self.fail(Failure::NotSocks5, out),
            (State::Greeting, [_, method]) => match (*method, self.login.clone()) {
                (NO_LOGIN, _) => self.ask(out),
                (PASSWORD, Some(login)) => self.log_in(&login, out),
                (PASSWORD, None) | (NO_METHOD, None) => self.fail(Failure::LoginMissing, out),
                _ => self.fail(Failure::NoMethod, out),
            },
            // RFC 1929: the version of this part is 1, but some proxies say 5 here, and the other byte is what counts.
            (State::LoggingIn, [_, 0]) => self.ask(out),
            (State::LoggingIn, [_, _]) => self.fail(Failure::LoginRefused, out),
            (State::Asking, [version, ..]) if *version != VERSION => self.fail(Failure::NotSocks5, out),
            (State::Asking, [_, code, rest @ ..]) => {
                if let Some(reply) = Reply::of(*code) {
                    // What follows may be cut short.
                    return self.fail(reply.into(), out);
                }
                let Some(address) = rest.get(1..) else { return };
                match Destination::parse(address) {
                    Ok(Some((bound, _))) => {
                        self.end();
                        out.push_back(Action::Done(bound));
                    }
                    Ok(None) => {}
                    Err(_) => self.fail(Failure::NoAddress, out),
                }
            }
            _ => {}
        }
    }

    fn log_in(&mut self, login: &Login, out: &mut Outbox<Action>) {
        self.state = State::LoggingIn;
        self.input.clear();
        let mut request = Vec::from([1]);
        for text in [&login.name, &login.password] {
            request.push(u8::try_from(text.len()).expect("neither is longer than 255 bytes"));
            request.extend(text.bytes());
        }
        out.push_back(Action::Send(request));
    }

    fn ask(&mut self, out: &mut Outbox<Action>) {
        self.state = State::Asking;
        self.input.clear();
        let (code, to) = match &self.command {
            Command::Associate => (ASSOCIATE, &Destination::Addr(([0, 0, 0, 0], 0).into())),
            Command::Connect(to) => (CONNECT, to),
        };
        let mut request = Vec::from([VERSION, code, 0]);
        to.encode(&mut request);
        out.push_back(Action::Send(request));
    }

    fn fail(&mut self, failure: Failure, out: &mut Outbox<Action>) {
        self.end();
        out.push_back(Action::Failed(failure));
    }

    fn end(&mut self) {
        (self.state, self.give_up_at) = (State::Over, None);
        self.input = Vec::new();
    }
}

impl Machine for Negotiation {
    type Event = Event;
    type Action = Action;

    /// Out of turn, an event changes nothing.
    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match (event, self.state) {
            (_, State::Over) => {}
            (Event::Bytes(bytes), _) => self.on_bytes(&bytes, out),
            (Event::Ended, _) => self.fail(Failure::Ended, out),
            (Event::Opened, State::Opening) => self.on_opened(now, out),
            (Event::Opened, _) => {}
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.fail(Failure::TimedOut, out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.give_up_at.map(|at| Deadline { at, why: "the proxy does not answer" })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(bound) => write!(f, "done: {bound}"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            // It may hold the password.
            Self::Send(bytes) => write!(f, "send len={}", bytes.len()),
        }
    }
}

/// How long a proxy may take for it all. It connects for us meanwhile, and a host that does not answer takes long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest name or password: each length is written in one byte (RFC 1929).
pub const MAX_LOGIN_LEN: usize = 255;

const VERSION: u8 = 5;

const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
