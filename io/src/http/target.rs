//! What a URL asks of whom.

use super::policy::Refusal;
use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery};
use std::net::IpAddr;

/// A URL that can be asked, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    authority: Authority,
    pub(super) port: u16,
    path: PathAndQuery,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Refusal> {
        Self::new(url.parse().map_err(|_| Refusal::NotAUrl)?)
    }

    /// Where `location`, found in an answer from here, leads. RFC 9110 15.4: never to a scheme without protection from one
    /// with it, for what was secret would not stay so.
    pub(super) fn join(&self, location: &str) -> Result<Self, Refusal> {
        // RFC 3986 4.2: absolute, or relative to the scheme, the root or the folder.
        let (scheme, authority) = (if self.https { "https" } else { "http" }, self.authority.as_str());
        let next = if has_scheme(location) {
            Self::parse(location)?
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))?
        } else if location.starts_with('/') {
            Self::parse(&format!("{scheme}://{authority}{location}"))?
        } else if location.starts_with('?') {
            Self::parse(&format!("{scheme}://{authority}{}{location}", self.path.path()))?
        } else {
            let folder = self.path.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{scheme}://{authority}{folder}/{location}"))?
        };
        if self.https && !next.https { Err(Refusal::Downgrade) } else { Ok(next) }
    }

    /// The name or address of the host, without brackets.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The host's address, if it stands in the URL.
    pub(super) fn addr(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// What stands in the `Host` field.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub(super) fn path(&self) -> &PathAndQuery {
        &self.path
    }

    fn new(uri: Uri) -> Result<Self, Refusal> {
        let parts = uri.into_parts();
        let https = match parts.scheme.as_ref().map(|scheme| scheme.as_str()) {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(Refusal::Scheme),
            None => return Err(Refusal::NotAUrl),
        };
        let authority = parts.authority.filter(|a| !a.host().is_empty()).ok_or(Refusal::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(Refusal::Credentials);
        }
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None | Some("") => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| Refusal::NotAUrl)?,
        };
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { https, authority, port, path })
    }
}

/// RFC 3986 3.1: a letter, then letters, digits and three signs, up to a colon.
fn has_scheme(location: &str) -> bool {
    location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{Refusal, Target};

    fn show(target: Result<Target, Refusal>) -> Result<String, Refusal> {
        target.map(|t| format!("{} {} {} {}", t.https, t.host(), t.port, t.path()))
    }

    #[test]
    fn urls_are_taken_apart_or_refused() {
        for (url, expected) in [
            ("http://a.example", Ok("false a.example 80 /")),
            ("HTTPS://a.example/x", Ok("true a.example 443 /x")),
            (
                "http://a.example:6969/announce?info_hash=%FF%00a",
                Ok("false a.example 6969 /announce?info_hash=%FF%00a"),
            ),
            ("http://[::1]:80/announce", Ok("false ::1 80 /announce")),
            ("http://a.example/x#part", Ok("false a.example 80 /x")),
            ("http://me:secret@a.example/", Err(Refusal::Credentials)),
            ("http://127.0.0.1@a.example/", Err(Refusal::Credentials)),
            ("file:///etc/passwd", Err(Refusal::NotAUrl)),
            ("ftp://a.example/", Err(Refusal::Scheme)),
            ("gopher://127.0.0.1:25/x", Err(Refusal::Scheme)),
            ("/announce", Err(Refusal::NotAUrl)),
            ("http://", Err(Refusal::NotAUrl)),
            ("http:///x", Err(Refusal::NotAUrl)),
            ("http://a.example:99999/", Err(Refusal::NotAUrl)),
            ("http://a b/", Err(Refusal::NotAUrl)),
            ("", Err(Refusal::NotAUrl)),
        ] {
            assert_eq!(show(Target::parse(url)), expected.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn redirects_are_relative_to_where_they_come_from() {
        let from = Target::parse("http://a.example:81/x/y?z").unwrap();
        for (location, expected) in [
            ("http://b.example/", Ok("false b.example 80 /")),
            ("https://b.example/", Ok("true b.example 443 /")),
            ("//b.example/q", Ok("false b.example 80 /q")),
            ("/q", Ok("false a.example 81 /q")),
            ("q", Ok("false a.example 81 /x/q")),
            ("?q", Ok("false a.example 81 /x/y?q")),
            ("q?url=http://c/", Ok("false a.example 81 /x/q?url=http://c/")),
            ("file:///etc/passwd", Err(Refusal::NotAUrl)),
            ("javascript:alert(1)", Err(Refusal::NotAUrl)),
        ] {
            assert_eq!(show(from.join(location)), expected.map(str::to_owned), "{location}");
        }
        let safe = Target::parse("https://a.example/").unwrap();
        assert_eq!(safe.join("http://a.example/"), Err(Refusal::Downgrade));
        assert_eq!(show(safe.join("/q")), Ok("true a.example 443 /q".to_owned()));
    }
}
