//! Waking one task of the same thread.

use std::cell::Cell;
use std::task::{Context, Waker};

/// Where one task waits for others of its thread to tell it that something changed.
#[derive(Default)]
pub(super) struct Wakeup(Cell<Option<Waker>>);

impl Wakeup {
    /// The task of `cx` waits from now on.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let known = self.0.take().filter(|waker| waker.will_wake(cx.waker()));
        self.0.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
    }

    /// Nobody waits until the next [`wait`](Self::wait): the task is awake, and looks at everything before that.
    pub(super) fn awake(&self) {
        self.0.take();
    }

    /// Wakes the task that waits, once.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}
