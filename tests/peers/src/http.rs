//! As much of HTTP as it takes to ask a client or a tracker how it is doing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Everything before the body.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Asks for `path`.
pub fn get(server: SocketAddr, path: &str) -> Result<Response> {
    exchange(server, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n"))
}

/// Sends `body` to `path`. `headers` holds whole lines, each with its line end.
pub fn post(server: SocketAddr, path: &str, headers: &str, body: &str) -> Result<Response> {
    let length = body.len();
    exchange(
        server,
        &format!("POST {path} HTTP/1.0\r\nHost: {server}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"),
    )
}

/// Escapes bytes for a query.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Turns back what [`escape`] does.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = escaped.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

fn exchange(server: SocketAddr, request: &str) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "an answer without an end of its head");
    }
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    let mut response = Response { status, head, body: Vec::new() };
    // Without a length the body ends with the connection. With one it doesn't: qBittorrent keeps connections open.
    let length = response.header("Content-Length").map_or(Ok(u64::MAX), str::parse)?;
    reader.take(length).read_to_end(&mut response.body)?;
    Ok(response)
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_turns_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&bytes)), bytes);
        assert_eq!(escape(b"a b/\xff"), "a%20b%2F%FF");
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(unescape("100%"), b"100%");
        assert_eq!(unescape("%zz"), b"%zz");
    }
}
