//! One connection to a peer, from handshake to close.
