//! The command as its users meet it: processes, files, exit codes, and sockets of this machine only.

mod download;
mod support;
mod swarm;
mod trackerless;
mod usage;
