//! What a run did, line by line.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::{EnvFilter, fmt};

/// The lines of one run: what each host's session was told and what it decided, what went through its sockets, and
/// what the scenario did. Equal seeds give equal traces.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Vec<u8>>>);

impl Trace {
    /// Does something on this thread and notes it all.
    pub(super) fn of<R>(&self, act: impl FnOnce() -> R) -> R {
        let writer = self.clone();
        let subscriber = fmt::Subscriber::builder()
            .with_env_filter(EnvFilter::new(WHAT))
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            // The lines of a session have their own, virtual time.
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, act)
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Trace {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// turmoil's part is a span with the name of the host whose turn it is.
const WHAT: &str = "error,turmoil::sim=info,fast_peer_io::driver=trace,sim::hosts=trace";
