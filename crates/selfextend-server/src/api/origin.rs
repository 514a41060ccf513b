//! Which hosts and origins a request may name.
//!
//! A web page may send requests to any address that its browser reaches, this server on the
//! reader's machine included. The browser then names the page in `Origin`, and the name it looked
//! up in `Host`. `Origin` alone does not protect: a page whose own name is made to resolve to this
//! server (DNS rebinding) has the same origin. So `Host` must be an address of this server,
//! `localhost`, or a name that was allowed.

use super::error::ApiError;
use crate::error::ServerError;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use std::net::IpAddr;

/// Allows every host or origin.
const ANY: &str = "*";

/// The address that a connection reached, as an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub IpAddr);

/// The names and origins that were allowed, in lower case.
#[derive(Debug)]
pub struct AllowList {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Where a request that was let in comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Visitor {
    /// No web page, or one that this server sent.
    Own,
    /// A page of an origin that was allowed, whose browser must be told so.
    Allowed(HeaderValue),
}

impl AllowList {
    /// Checks and keeps what was configured.
    ///
    /// # Errors
    /// A host that is not a name or an address, an origin that is not `scheme://host[:port]`.
    pub fn new(hosts: &[String], origins: &[String]) -> Result<Self, ServerError> {
        let host = |text: &String| {
            let name = parse(text).filter(|authority| authority.port().is_none());
            match (text.as_str(), name) {
                (ANY, _) | (_, Some(_)) => Ok(text.to_ascii_lowercase()),
                _ => Err(ServerError::AllowedHost(text.clone())),
            }
        };
        let origin = |text: &String| {
            let text = text.trim_end_matches('/');
            let is_origin = |uri: &Uri| {
                uri.scheme().is_some() && uri.authority().is_some() && uri.path() == "/"
            };
            if text == ANY || text.parse().as_ref().is_ok_and(is_origin) {
                let text = text.to_ascii_lowercase();
                return Ok(with_port(&text).unwrap_or(text));
            }
            Err(ServerError::AllowedOrigin(text.to_owned()))
        };
        Ok(Self {
            hosts: hosts.iter().map(host).collect::<Result<_, _>>()?,
            origins: origins.iter().map(origin).collect::<Result<_, _>>()?,
        })
    }

    /// Lets in a request that reached the address `local`, or says why not.
    ///
    /// # Errors
    /// A host or an origin that is not allowed.
    pub fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        local: Option<IpAddr>,
    ) -> Result<Visitor, ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(ApiError::bad_request("send one Host header"));
        }
        // Programs may leave Host out; browsers never do.
        let named = host.map(|host| host.to_str().unwrap_or_default());
        let named = named
            .into_iter()
            .chain(uri.authority().map(Authority::as_str));
        for name in named {
            if !self.allows_host(name, local) {
                return Err(ApiError::foreign_host(name));
            }
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(Visitor::Own);
        };
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let host = host.and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| is_same(&text, host)) {
            return Ok(Visitor::Own);
        }
        let text = with_port(&text).unwrap_or(text);
        if self.origins.iter().any(|it| *it == text || it == ANY) {
            return Ok(Visitor::Allowed(origin.clone()));
        }
        Err(ApiError::foreign_origin())
    }

    fn allows_host(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some(authority) = parse(host) else {
            return false;
        };
        let name = authority.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_ours = match address.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || local.map(|it| it.to_canonical()) == Some(address)
            }
            // Browsers resolve these to the machine itself (RFC 6761, section 6.3).
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        };
        is_ours || self.hosts.iter().any(|it| it == name || it == ANY)
    }
}

/// An origin with the port that it leaves out, where its scheme has one.
fn with_port(origin: &str) -> Option<String> {
    let (scheme, authority) = origin.split_once("://")?;
    let port = default_port(scheme)?;
    let authority = parse(authority)?;
    match authority.port() {
        Some(_) => None,
        None => Some(format!("{scheme}://{}:{port}", authority.host())),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Whether a page of an origin was sent by the server that a `Host` header names. Each may leave out
/// the port that its scheme has; the header's scheme is the origin's.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, page)) = origin.split_once("://") else {
        return false;
    };
    let (Some(page), Some(host)) = (parse(page), parse(host)) else {
        return false;
    };
    let port = |authority: &Authority| authority.port_u16().or(default_port(scheme));
    page.host().eq_ignore_ascii_case(host.host()) && port(&page) == port(&host)
}

/// A host and perhaps a port, without a user.
fn parse(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    (!text.contains('@')).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hosts: &[&str], origins: &[&str]) -> Result<AllowList, ServerError> {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        AllowList::new(&owned(hosts), &owned(origins))
    }

    fn check(list: &AllowList, host: Option<&str>, origin: Option<&str>) -> Option<Visitor> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let local = Some("192.168.1.5".parse().unwrap());
        list.check(&Uri::from_static("/"), &headers, local).ok()
    }

    #[test]
    fn names_that_others_can_point_here_are_refused() {
        let list = list(&["Chat.example.org"], &[]).unwrap();
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "192.168.1.5:8080",
            "chat.example.org",
            "CHAT.example.org.:443",
        ] {
            assert_eq!(check(&list, Some(host), None), Some(Visitor::Own), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "sub.chat.example.org",
            "192.168.1.6:8080",
            "10.0.0.1",
            "evil.example@localhost",
            "localhost@evil.example",
            "evil.example#localhost",
            "",
            "0x7f.1",
            "[::2]",
        ] {
            assert_eq!(check(&list, Some(host), None), None, "{host}");
        }
        assert_eq!(check(&list, None, None), Some(Visitor::Own));
    }

    #[test]
    fn absolute_targets_and_second_hosts_are_no_way_round() {
        let list = list(&[], &[]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let foreign = Uri::from_static("http://evil.example/v1/models");
        assert!(list.check(&foreign, &headers, None).is_err());
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(list.check(&Uri::from_static("/"), &headers, None).is_err());
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_allowed() {
        let list = list(&[], &["https://app.example/"]).unwrap();
        let host = Some("127.0.0.1:8080");
        assert_eq!(
            check(&list, host, Some("http://127.0.0.1:8080")),
            Some(Visitor::Own)
        );
        let allowed = check(&list, host, Some("https://app.example"));
        assert_eq!(
            allowed,
            Some(Visitor::Allowed(HeaderValue::from_static(
                "https://app.example"
            )))
        );
        for origin in [
            "http://evil.example",
            "http://app.example",
            "https://app.example:444",
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:80801",
        ] {
            assert_eq!(check(&list, host, Some(origin)), None, "{origin}");
        }
        assert_eq!(check(&list, None, Some("http://127.0.0.1:8080")), None);
        // A port that the scheme has need not be written.
        for (host, origin, own) in [
            ("localhost:80", "http://localhost", true),
            ("localhost", "http://localhost:80", true),
            ("localhost:443", "https://localhost", true),
            ("localhost", "https://LOCALHOST:443", true),
            ("localhost:80", "https://localhost", false),
            ("localhost:443", "http://localhost", false),
            ("localhost:81", "http://localhost", false),
        ] {
            let found = check(&list, Some(host), Some(origin));
            assert_eq!(found == Some(Visitor::Own), own, "{host} {origin}");
        }
        for origin in ["https://app.example", "https://app.example:443"] {
            let found = check(&list, host, Some(origin));
            assert!(matches!(found, Some(Visitor::Allowed(_))), "{origin}");
        }
    }

    #[test]
    fn a_star_allows_all_and_what_is_malformed_is_refused_at_the_start() {
        let all = list(&["*"], &["*"]).unwrap();
        assert!(check(&all, Some("evil.example"), Some("http://evil.example")).is_some());
        assert!(check(&all, Some("evil.example"), Some("http://other.example")).is_some());
        for host in ["http://a", "a/b", "a:80", "", "a@b"] {
            assert!(list(&[host], &[]).is_err(), "{host}");
        }
        for origin in ["a", "a.example:80", "http://", "http://a/b", ""] {
            assert!(list(&[], &[origin]).is_err(), "{origin}");
        }
    }
}
