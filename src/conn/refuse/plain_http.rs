//! The answers to clients that speak plain HTTP at a listener for TLS.

/// The answer to a client that speaks plain HTTP: its user sees what is wrong.
pub(super) const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 59\r\n\
    Connection: close\r\n\r\n\
    This port speaks TLS, not plain HTTP: use an https:// URL.\n";

/// The answer to a client that uses portway as an HTTP proxy. Go, and so every agent, shows only the words
/// after the status. curl shows the status of a CONNECT, and the body of any other answer. A 405 needs `Allow`
/// (RFC 9110 section 15.5.6).
pub(super) const NOT_A_PROXY: &[u8] = b"HTTP/1.1 405 portway is not an HTTP proxy: \
    remove proxy_url, HTTPS_PROXY or HTTP_PROXY from this client's settings\r\n\
    Allow:\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 103\r\n\
    Connection: close\r\n\r\n\
    portway is not an HTTP proxy: \
    remove proxy_url, HTTPS_PROXY or HTTP_PROXY from this client's settings.\n";
