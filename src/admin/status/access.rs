//! Decides which clients may see the pages that show names and addresses of clients.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};

use crate::config::StatusPages;

/// The headers in which a browser says whose page has caused a request, and what becomes of the answer.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Why a request for such a page is denied: the status, and a sentence that names the key. `client` is the address at the
/// other end of the socket: a header such as X-Forwarded-For could be anybody's.
pub(in crate::admin) fn denial<B>(
    pages: &StatusPages,
    client: IpAddr,
    request: &Request<B>,
) -> Option<(StatusCode, String)> {
    let client = client.to_canonical();
    if !pages.clients.has(client) {
        let sentence = format!(
            "admin.status_clients in routes.toml does not have your address, {client}: add its network to see this page\n"
        );
        return Some((StatusCode::FORBIDDEN, sentence));
    }
    if request.method() != Method::GET {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()));
    }
    // A page of another site can make its own name lead here (DNS rebinding), but not the name in the request.
    let is_ours = host(request).is_some_and(|host| is_ours(pages, &host));
    if !is_ours {
        let sentence = "ask for this page by an IP address or as localhost, or write the name in your URL into \
                        admin.hosts in routes.toml\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, sentence.to_owned()));
    }
    is_of_another_site(request).then(|| {
        let sentence =
            "a page of another site has asked for this through your browser; open it yourself\n";
        (StatusCode::FORBIDDEN, sentence.to_owned())
    })
}

/// Whether a page of another site asks through the browser of somebody who may see this one. That page cannot read the
/// answer, but it could ask without end. A link to this page is fine.
fn is_of_another_site<B>(request: &Request<B>) -> bool {
    let value = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_of_another = matches!(value(FETCH_SITE), Some(b"cross-site" | b"same-site"));
    is_of_another && value(FETCH_DEST) != Some(b"document")
}

/// The host that a request asks for; that of its target wins over the header (RFC 9112 section 3.2.2).
fn host<B>(request: &Request<B>) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.host().to_owned());
    }
    let mut headers = request.headers().get_all(HOST).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return None;
    };
    let authority: Authority = header.to_str().ok()?.parse().ok()?;
    Some(authority.host().to_owned())
}

fn is_ours(pages: &StatusPages, host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_address = bare.unwrap_or(host).parse::<IpAddr>().is_ok();
    let mut hosts = pages.hosts.iter();
    is_address
        || host.eq_ignore_ascii_case("localhost")
        || hosts.any(|own| own.as_str().eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ServerName;

    fn pages() -> StatusPages {
        StatusPages {
            clients: ["10.0.0.0/8", "::1/128"]
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            hosts: vec![ServerName::parse(b"portway-1.internal").unwrap()],
        }
    }

    fn denied(client: &str, method: &str, uri: &str, host: Option<&str>) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request
            .header("x-forwarded-for", "10.0.0.1")
            .body(())
            .unwrap();
        let denial = denial(&pages(), client.parse().unwrap(), &request);
        denial.map(|(status, _)| status.as_u16())
    }

    fn with_host(host: &str) -> Option<u16> {
        denied("10.1.2.3", "GET", "/status", Some(host))
    }

    #[test]
    fn only_the_networks_of_the_key_see_the_pages_whatever_a_header_says() {
        assert_eq!(with_host("10.0.0.1:9355"), None);
        for client in ["192.0.2.1", "127.0.0.1", "::2"] {
            assert_eq!(
                denied(client, "GET", "/status", Some("10.0.0.1")),
                Some(403)
            );
        }
        for client in ["::1", "::ffff:10.0.0.1"] {
            assert_eq!(denied(client, "GET", "/status", Some("10.0.0.1")), None);
        }
        let nobody = StatusPages::default();
        let request = Request::builder()
            .header(HOST, "127.0.0.1")
            .body(())
            .unwrap();
        let (status, sentence) = denial(&nobody, "127.0.0.1".parse().unwrap(), &request).unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(sentence.contains("admin.status_clients") && sentence.contains("127.0.0.1"));
    }

    #[test]
    fn the_host_is_an_address_localhost_or_in_the_file() {
        let fine = [
            "127.0.0.1",
            "127.0.0.1:9355",
            "[::1]:9355",
            "[::1]",
            "localhost",
            "LocalHost:9355",
            "portway-1.internal",
            "Portway-1.Internal:80",
        ];
        for host in fine {
            assert_eq!(with_host(host), None, "{host}");
        }
        let wrong = [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "portway-2.internal",
            "",
            "a b",
            "[::1",
            "127.1",
            "0x7f.1",
            "user@evil.example",
            "localhost@evil.example",
        ];
        for host in wrong {
            assert_eq!(with_host(host), Some(421), "{host:?}");
        }
        assert_eq!(denied("10.1.2.3", "GET", "/status", None), Some(421));
        let absolute = "http://evil.example/status";
        assert_eq!(
            denied("10.1.2.3", "GET", absolute, Some("127.0.0.1")),
            Some(421)
        );
    }

    #[test]
    fn a_page_of_another_site_can_link_to_the_page_but_not_fetch_it() {
        let of = |site: &str, dest: &str| {
            let request = Request::builder()
                .header(HOST, "127.0.0.1")
                .header(FETCH_SITE, site)
                .header(FETCH_DEST, dest);
            let request = request.body(()).unwrap();
            let denial = denial(&pages(), "10.1.2.3".parse().unwrap(), &request);
            denial.map(|(status, _)| status.as_u16())
        };
        for site in ["none", "same-origin", "cross-site", "same-site"] {
            assert_eq!(of(site, "document"), None, "{site}");
        }
        assert_eq!(of("same-origin", "empty"), None);
        for site in ["cross-site", "same-site"] {
            for dest in ["empty", "image", "script", "iframe"] {
                assert_eq!(of(site, dest), Some(403), "{site} {dest}");
            }
        }
    }

    #[test]
    fn two_hosts_are_none() {
        let request = Request::builder()
            .header(HOST, "127.0.0.1")
            .header(HOST, "evil.example");
        let request = request.body(()).unwrap();
        let denial = denial(&pages(), "10.1.2.3".parse().unwrap(), &request);
        assert_eq!(denial.map(|(status, _)| status.as_u16()), Some(421));
    }

    #[test]
    fn a_page_is_only_read() {
        for method in ["POST", "HEAD", "OPTIONS", "PUT"] {
            assert_eq!(
                denied("10.1.2.3", method, "/status", Some("127.0.0.1")),
                Some(405)
            );
        }
    }
}
