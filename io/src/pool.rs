//! Buffers for blocks and runs of datagrams. A block is read from the socket into one of them and travels unchanged to the
//! hash and the write; when the last holder lets go of it, on whatever thread, the buffer comes back.

use bytes::Bytes;
use fast_peer_core::lengths::BLOCK_LEN;
use std::sync::{Arc, Mutex, PoisonError};

/// A supply of buffers that are allocated when first needed and kept for reuse, up to a number.
///
/// There is no limit on the buffers in use: read credit bounds those, and a supply that runs dry could hold up the very
/// block that others wait for.
#[derive(Clone, Debug)]
pub(crate) struct Pool<const LEN: usize = BLOCK>(Arc<Shared<LEN>>);

#[derive(Debug)]
struct Shared<const LEN: usize> {
    free: Mutex<Vec<Box<[u8; LEN]>>>,
    keep: usize,
}

/// A buffer that nobody else sees, to be filled.
#[derive(Debug)]
pub(crate) struct Buf<const LEN: usize = BLOCK> {
    /// Taken when the buffer goes back.
    buffer: Option<Box<[u8; LEN]>>,
    home: Arc<Shared<LEN>>,
}

/// A full buffer that goes back when it is dropped.
struct Filled<const LEN: usize> {
    buf: Buf<LEN>,
    len: usize,
}

impl<const LEN: usize> Pool<LEN> {
    /// A pool that keeps up to `keep` unused buffers.
    pub(crate) fn new(keep: usize) -> Self {
        Self(Arc::new(Shared { free: Mutex::default(), keep }))
    }

    /// A buffer. What is in it is old.
    pub(crate) fn take(&self) -> Buf<LEN> {
        let kept = self.0.free().pop();
        Buf { buffer: Some(kept.unwrap_or_else(new_buffer)), home: Arc::clone(&self.0) }
    }
}

impl<const LEN: usize> Shared<LEN> {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8; LEN]>>> {
        // A push or pop that panicked left the list as it was.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const LEN: usize> Buf<LEN> {
    /// All of the buffer.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; LEN] {
        self.buffer.as_mut().expect("only drop takes the buffer out")
    }

    /// Its first `len` bytes, to be shared. The rest of the buffer stays with them.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        assert!(len <= LEN, "what was read fits its buffer");
        Bytes::from_owner(Filled { buf: self, len })
    }
}

impl<const LEN: usize> AsRef<[u8]> for Filled<LEN> {
    fn as_ref(&self) -> &[u8] {
        &self.buf.buffer.as_ref().expect("only drop takes the buffer out")[..self.len]
    }
}

impl<const LEN: usize> Drop for Buf<LEN> {
    fn drop(&mut self) {
        let mut free = self.home.free();
        if free.len() < self.home.keep {
            free.extend(self.buffer.take());
        }
    }
}

/// Zeroed by the allocator, which for fresh memory means by nobody: it costs nothing until it is filled.
fn new_buffer<const LEN: usize>() -> Box<[u8; LEN]> {
    vec![0; LEN].into_boxed_slice().try_into().expect("it has that length")
}

const BLOCK: usize = BLOCK_LEN as usize;

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn a_buffer_comes_back_when_its_last_holder_lets_go() {
        let pool = Pool::<16>::new(1);
        let mut buf = pool.take();
        buf.bytes_mut()[..3].copy_from_slice(b"abc");
        let at = buf.bytes_mut().as_ptr();
        let block = buf.freeze(3);
        let part = block.slice(1..);
        drop(block);
        assert_ne!(pool.take().bytes_mut().as_ptr(), at);
        assert_eq!(&part[..], b"bc");
        // The buffer of the line above holds the one place; without it there is room for this one.
        pool.0.free().clear();
        drop(part);
        assert_eq!(pool.take().bytes_mut().as_ptr(), at);
    }

    #[test]
    fn no_more_are_kept_than_was_said() {
        let pool = Pool::<16>::new(2);
        let taken: Vec<_> = (0..5).map(|_| pool.take()).collect();
        drop(taken);
        assert_eq!(pool.0.free().len(), 2);
    }
}
