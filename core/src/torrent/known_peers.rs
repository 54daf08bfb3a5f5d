//! tmp
use crate::machine::*; use crate::rng::Rng; use alloc::vec::Vec; use core::net::SocketAddr;
#[derive(Debug,Clone,Copy)] pub enum Source { Manual, Tracker, Incoming }
#[derive(Debug)] pub struct KnownPeers { v: Vec<SocketAddr>, all: Vec<SocketAddr> }
impl KnownPeers { pub fn new(_r: Rng)->Self{Self{v:Vec::new(), all:Vec::new()}} pub fn add(&mut self,_n:Timestamp,a:SocketAddr,_s:Source){ if !self.all.contains(&a) {self.v.push(a); self.all.push(a)} }
pub fn next_to_dial(&mut self,_n:Timestamp,_m:usize)->Vec<SocketAddr>{ self.v.pop().into_iter().collect()} pub fn poll_timeout(&self)->Option<Deadline>{None}
pub fn is_banned(&self,_a:SocketAddr)->bool{false} pub fn disconnected(&mut self,_n:Timestamp,_a:SocketAddr){} pub fn failed(&mut self,_n:Timestamp,_a:SocketAddr){} pub fn connected(&mut self,_n:Timestamp,_a:SocketAddr){}
pub fn is_seed(&mut self,_a:SocketAddr){} pub fn is_ourselves(&mut self,_a:SocketAddr){} pub fn ban(&mut self,_a:SocketAddr){} pub fn len(&self)->usize{self.all.len()} }
