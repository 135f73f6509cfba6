//! Names that clients ask for, over reloads.

use super::*;
use crate::backend::{self, Denied, Wish};
use crate::tls::ServerName;

const SERVERS: [&str; 1] = ["192.0.2.53:53"];
const OTHER_SERVERS: [&str; 1] = ["192.0.2.54:53"];

fn asked() -> Arc<Endpoint> {
    let target = Target::Asked { port: Some(443) };
    Endpoint::new(target, stats(), std::time::Instant::now())
}

/// Asks as a client does: always the same one, with one share of look-ups.
fn find(endpoint: &Endpoint, name: &str) -> Result<backend::Found, Denied> {
    let name = ServerName::parse(name.as_bytes()).unwrap();
    let wish = Wish {
        name: &name,
        port: 443,
        client: "198.51.100.9".parse().unwrap(),
    };
    let names = endpoint.names().unwrap();
    names.find(Some(443), &wish, std::time::Instant::now())
}

/// The name, once its look-up has ended.
async fn look_up(endpoint: &Endpoint, name: &str) -> Arc<backend::Name> {
    match find(endpoint, name).unwrap() {
        backend::Found::Now(name) => name,
        backend::Found::Soon(name, answer) => settled(name, answer).await,
    }
}

async fn settled(
    name: Arc<backend::Name>,
    mut answer: watch::Receiver<backend::State>,
) -> Arc<backend::Name> {
    answer.wait_for(backend::State::is_settled).await.unwrap();
    name
}

/// Looks a name up and reaches it.
async fn reach(endpoint: &Endpoint, name: &str) -> Arc<backend::Name> {
    let name = look_up(endpoint, name).await;
    endpoint.names().unwrap().reached(&name);
    name
}

/// Whether a client gets the name without a wait.
fn is_known(endpoint: &Endpoint, name: &str) -> bool {
    matches!(find(endpoint, name), Ok(backend::Found::Now(_)))
}

/// More names than one client may have looked up at once.
fn many() -> Vec<String> {
    (0..12).map(|number| format!("n{number}.test")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_names_of_an_endpoint_that_a_reload_removes_are_answered_as_long_as_somebody_holds_it()
{
    let (dns, endpoint) = (Dns::default(), asked());
    dns.set("one.test", &["192.0.2.1"]);
    dns.set("two.test", &["192.0.2.2"]);
    let given = bearers(std::slice::from_ref(&endpoint));
    let mut names = dns.start_bearers(&given, &[]);
    reach(&endpoint, "one.test").await;
    names.update(&[], Vec::new());
    assert!(is_known(&endpoint, "one.test"));
    let two = look_up(&endpoint, "two.test").await;
    assert_eq!(addresses(two.endpoint()), ["192.0.2.2:443"]);
    // An address that becomes our own meanwhile is not dialled.
    names.update(&[], vec!["192.0.2.2:443".parse().unwrap()]);
    assert!(addresses(two.endpoint()).is_empty());
    // If it comes back, it is the same one.
    names.update(&given, Vec::new());
    assert!(is_known(&endpoint, "one.test"));
    let tasks = names.tasks.len();
    names.update(&[], Vec::new());
    drop((given, endpoint));
    for _ in 0..tasks {
        names.tasks.join_next().await.unwrap().unwrap();
    }
    names.update(&[], Vec::new());
    assert!(names.asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn names_that_were_reached_stay_known_when_a_reload_changes_listeners_or_networks() {
    let (dns, endpoint) = (Dns::default(), asked());
    let mut names = dns.start_bearers(&bearers(std::slice::from_ref(&endpoint)), &[]);
    for name in many() {
        dns.set(&name, &["192.0.2.1", "198.51.100.1"]);
        reach(&endpoint, &name).await;
        dns.hang(&name);
    }
    let own = || vec!["[::1]:443".parse().unwrap()];
    names.update(&bearers(std::slice::from_ref(&endpoint)), own());
    assert!(many().iter().all(|name| is_known(&endpoint, name)));
    let narrow = [bearer(&endpoint, &["192.0.2.0/24"], &[])];
    names.update(&narrow, own());
    assert!(many().iter().all(|name| is_known(&endpoint, name)));
    // They are looked up again, because they may have addresses that were left out before.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(dns.asked("n0.test").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn invariant_10_a_reload_takes_from_known_names_the_addresses_that_it_forbids() {
    let (dns, endpoint) = (Dns::default(), asked());
    let wide = [bearer(&endpoint, &["192.0.2.0/24"], &[])];
    let mut names = dns.start_bearers(&wide, &[]);
    dns.set("one.test", &["192.0.2.1", "192.0.2.129"]);
    let one = reach(&endpoint, "one.test").await;
    assert_eq!(addresses(one.endpoint()).len(), 2);
    // A look-up under way is judged by the rules at the time of its answer.
    let Ok(backend::Found::Soon(two, answer)) = find(&endpoint, "two.test") else {
        panic!("two.test is not known");
    };
    sleep(Duration::from_millis(1)).await;
    assert_eq!(dns.asked("two.test").len(), 1);
    dns.hang("one.test");
    let narrow = [bearer(&endpoint, &["192.0.2.0/25"], &[])];
    names.update(&narrow, Vec::new());
    assert_eq!(addresses(one.endpoint()), ["192.0.2.1:443"]);
    dns.set("two.test", &["192.0.2.1", "192.0.2.129"]);
    let two = settled(two, answer).await;
    assert_eq!(addresses(two.endpoint()), ["192.0.2.1:443"]);
    // Our own addresses are taken away too, and a client waits for others.
    names.update(&narrow, vec!["192.0.2.1:443".parse().unwrap()]);
    for name in [&one, &two] {
        assert!(addresses(name.endpoint()).is_empty());
        let why = name.endpoint().unresolved().unwrap();
        assert_eq!(why.reason, ResolveFailure::Loop);
    }
    assert!(!is_known(&endpoint, "one.test"));
    // An address that was left out is found once it is permitted again.
    dns.set("one.test", &["192.0.2.1", "192.0.2.129"]);
    names.update(&wide, Vec::new());
    let one = look_up(&endpoint, "one.test").await;
    assert_eq!(addresses(one.endpoint()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_another_resolver_known_names_wait_for_its_answer_and_count_for_no_client() {
    let (dns, endpoint) = (Dns::default(), asked());
    let given = |servers: [&str; 1]| [bearer(&endpoint, &[], &servers)];
    let mut names = dns.start_bearers(&given(SERVERS), &[]);
    for name in many() {
        dns.set(&format!("{name}@{}", SERVERS[0]), &["192.0.2.1"]);
        reach(&endpoint, &name).await;
    }
    names.update(&given(OTHER_SERVERS), Vec::new());
    let waiting = many().into_iter().map(|name| match find(&endpoint, &name) {
        Ok(backend::Found::Soon(found, answer)) => (name, settled(found, answer)),
        Ok(backend::Found::Now(_)) => panic!("{name} has the answer of the first resolver"),
        Err(denied) => panic!("{name}: {denied}"),
    });
    for (number, (name, answer)) in waiting.collect::<Vec<_>>().into_iter().enumerate() {
        // If the new resolver fails, the last answer stays.
        let other = format!("{name}@{}", OTHER_SERVERS[0]);
        let expected = if number == 0 {
            dns.set_down(&other);
            ["192.0.2.1:443"]
        } else {
            dns.set(&other, &["192.0.2.2"]);
            ["192.0.2.2:443"]
        };
        assert_eq!(addresses(answer.await.endpoint()), expected, "{name}");
    }
    assert!(many().iter().all(|name| is_known(&endpoint, name)));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_hangs_goes_on_at_the_resolver_of_a_reload() {
    let (dns, endpoint) = (Dns::default(), asked());
    let given = |servers: [&str; 1]| [bearer(&endpoint, &[], &servers)];
    let mut names = dns.start_bearers(&given(SERVERS), &[]);
    let Ok(backend::Found::Soon(one, answer)) = find(&endpoint, "one.test") else {
        panic!("one.test is not known");
    };
    seconds(1).await;
    names.update(&given(OTHER_SERVERS), Vec::new());
    dns.set("one.test@192.0.2.53:53", &["192.0.2.1"]);
    let begun = Instant::now();
    dns.set("one.test@192.0.2.54:53", &["192.0.2.2"]);
    let one = settled(one, answer).await;
    assert_eq!(addresses(one.endpoint()), ["192.0.2.2:443"]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
