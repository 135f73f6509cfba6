//! The answers of an HTTP proxy to a CONNECT request.

/// A status and its reason phrase. Go, and so every agent, shows a person nothing but the phrase; curl shows nothing
/// but the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The fault and the remedy, in one line of ASCII.
    pub phrase: &'static str,
}

impl Reply {
    /// The tunnel is open (RFC 9110 section 9.3.6).
    pub const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

    /// The listener or the routes exclude the client.
    pub const CLIENT_DENIED: Self = Self {
        status: 403,
        phrase: "portway does not admit this client: its address is not in allow_clients, or not in the clients of a route",
    };

    /// No route takes the target.
    pub const TARGET_DENIED: Self = Self {
        status: 403,
        phrase: "portway has no route for this host and port: compare the URL with the routes of portway",
    };

    /// The whole answer. A 405 needs `Allow` (RFC 9110 section 15.5.6), and a 407 says by which scheme a client may
    /// authenticate (section 15.5.8).
    pub fn text(self) -> String {
        let Self { status, phrase } = self;
        let field = match status {
            405 => "Allow: CONNECT\r\n",
            407 => "Proxy-Authenticate: Basic realm=\"portway\"\r\n",
            _ => "",
        };
        format!(
            "HTTP/1.1 {status} {phrase}\r\n{field}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }
}
