//! Connections: proxies and trusted certificates, as they are set up on this machine.

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy, ProxyProtocol};
use url::Url;

use crate::hub::env::text;
use crate::hub::error::HubError;

/// One agent for each scheme, for each may have a proxy of its own.
pub(super) struct Agents {
    plain: Agent,
    secure: Agent,
}

impl Agents {
    pub(super) fn new(connect: Duration) -> Result<Self, HubError> {
        let roots = roots();
        let agent = |scheme| {
            let tls = TlsConfig::builder().root_certs(roots.clone()).build();
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                // Sizes and ranges are those of the file only if nothing is compressed.
                .accept_encoding("identity")
                .user_agent(concat!("selfextend/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(connect))
                .proxy(proxy(scheme)?)
                .tls_config(tls);
            Ok(config.build().new_agent())
        };
        Ok(Self {
            plain: agent("http")?,
            secure: agent("https")?,
        })
    }

    pub(super) fn of(&self, url: &Url) -> &Agent {
        match url.scheme() {
            "https" => &self.secure,
            _ => &self.plain,
        }
    }
}

/// The certificates that this system trusts (SSL_CERT_FILE and SSL_CERT_DIR name others); on a
/// system without any, those of Mozilla.
fn roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    let certs: Vec<_> = found
        .iter()
        .map(|cert| Certificate::from_der(cert).to_owned())
        .collect();
    if certs.is_empty() {
        RootCerts::WebPki
    } else {
        RootCerts::Specific(Arc::new(certs))
    }
}

/// The proxy for a scheme: of `https_proxy` and the like, in the usual order.
fn proxy(scheme: &str) -> Result<Option<Proxy>, HubError> {
    for name in [format!("{scheme}_proxy"), "all_proxy".to_owned()] {
        for name in [name.clone(), name.to_ascii_uppercase()] {
            if let Some(value) = text(&name)? {
                let without = match text("no_proxy")? {
                    None => text("NO_PROXY")?,
                    found => found,
                };
                let found = read_proxy(&value, without.as_deref().unwrap_or_default());
                return found.map(Some).ok_or(HubError::BadVariable {
                    name,
                    value: hidden(&value),
                    expected: "the address of a proxy, as http://host:port",
                });
            }
        }
    }
    Ok(None)
}

/// The value without what may be a password.
fn hidden(value: &str) -> String {
    let (head, tail) = value.rsplit_once('@').unwrap_or(("", value));
    if head.is_empty() {
        tail.to_owned()
    } else {
        format!("...@{tail}")
    }
}

fn read_proxy(value: &str, without: &str) -> Option<Proxy> {
    // A bare host:port is a proxy spoken to in HTTP.
    let whole = match value.contains("://") {
        true => value.to_owned(),
        false => format!("http://{value}"),
    };
    let url = Url::parse(&whole).ok()?;
    let protocol = ProxyProtocol::try_from(url.scheme()).ok()?;
    let mut proxy = Proxy::builder(protocol).host(url.host_str()?);
    if let Some(port) = url.port() {
        proxy = proxy.port(port);
    }
    let plain = |text: &str| percent_decoded(text);
    if !url.username().is_empty() {
        proxy = proxy.username(&plain(url.username()));
        proxy = proxy.password(&plain(url.password().unwrap_or_default()));
    }
    for host in without
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
    {
        proxy = proxy.no_proxy(host);
        // A name stands for the names below it too.
        if host != "*" && !host.starts_with('.') {
            proxy = proxy.no_proxy(&format!(".{host}"));
        }
    }
    proxy.build().ok()
}

fn percent_decoded(text: &str) -> String {
    // As the query of a form, but for the plus.
    let text = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    pairs
        .next()
        .map_or(String::new(), |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_as_other_programs_read_them() {
        let without = "localhost, .inner,example.org";
        let proxy = read_proxy("http://me:p%40ss@proxy.example:8080", without).unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 8080));
        assert_eq!(proxy.username(), Some("me"));
        assert_eq!(proxy.password(), Some("p@ss"));
        for (address, direct) in [
            ("http://localhost/x", true),
            ("https://a.inner/x", true),
            ("https://example.org/x", true),
            ("https://cdn.example.org/x", true),
            ("https://notexample.org/x", false),
            ("https://huggingface.co/x", false),
        ] {
            assert_eq!(
                proxy.is_no_proxy(&address.parse().unwrap()),
                direct,
                "{address}"
            );
        }
        assert_eq!(read_proxy("proxy:3128", "").unwrap().port(), 3128);
        for bad in ["gopher://proxy:1", "http://", "a b"] {
            assert!(read_proxy(bad, "").is_none(), "{bad}");
        }
        assert_eq!(hidden("http://me:secret@proxy:1x"), "...@proxy:1x");
    }
}
