//! Checks of endpoints behind a proxy.

use super::*;
use crate::it::fixture::message;

const HEALTH: &str =
    "health = { check = \"tls\", interval = \"1s\", timeout = \"1s\", unhealthy_after = 1 }";
const ALERT_70: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

#[test]
fn a_check_goes_through_the_tunnel_and_an_answer_of_the_endpoint_passes_it() {
    let answer = |_: &str| b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let proxy = Proxy::http(answer, |mut stream| {
        // The hello comes behind the request.
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(&ALERT_70).unwrap();
        read_to_end(&mut stream);
    });
    let portway = Portway::start(&toml(&http(proxy.backend.address()), &[FAR], HEALTH));
    let passed = format!(
        "portway_health_checks_total{{backend=\"es\",endpoint=\"{FAR}\",result=\"passed\"}}"
    );
    within(PATIENCE, "two checks pass", || {
        (portway.count(&passed) >= 2).then_some(())
    });
    let asked = proxy.asked.lock().unwrap();
    let is_for_endpoint = |head: &String| head.starts_with(&format!("CONNECT {FAR} "));
    assert!(asked.iter().all(is_for_endpoint), "{asked:?}");
}

#[test]
fn an_answer_of_the_proxy_is_the_reason_of_a_failed_check() {
    let answer = |_: &str| b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec();
    let proxy = Proxy::http(answer, |_| {});
    let portway = Portway::start(&toml(&http(proxy.backend.address()), &[FAR], HEALTH));
    let unhealthy =
        |line: &Value| message(line).starts_with("an address of the endpoint is unhealthy");
    let line = portway.program.wait(PATIENCE, unhealthy);
    let fields = &line["fields"];
    assert_eq!(fields["endpoint"], FAR, "{line}");
    let reason = fields["reason"].as_str().unwrap();
    assert_eq!(reason, "the proxy answers HTTP/1.1 502 Bad Gateway");
}
