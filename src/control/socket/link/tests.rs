//! Both ends of a link, and how each reacts to a peer that is silent or sends something else.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::*;
use crate::telemetry::Registry;

/// Runs a test on a clock that advances only while everything waits.
fn local(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let builder = builder.enable_all().start_paused(true);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

/// A link, and the other end of its connection.
fn link() -> (Link, UnixStream) {
    let (own, other) = UnixStream::pair().unwrap();
    (Link::new(own), other)
}

/// Asks the predecessor for its page. Returns the page, and how long that took.
async fn ask(link: &Link) -> (Option<Bytes>, Duration) {
    let begun = Instant::now();
    let (asker, answer) = oneshot::channel();
    drop(link.questions().send(asker));
    let page = timeout(FIGURES_TIMEOUT, answer).await;
    (page.ok().and_then(Result::ok), begun.elapsed())
}

/// A whole answer.
fn answer(page: &[u8]) -> Vec<u8> {
    let length = u32::try_from(page.len()).unwrap().to_be_bytes();
    [&[PAGE], &length[..], page].concat()
}

/// Everything that has arrived, without waiting.
fn come(stream: &UnixStream) -> String {
    let mut bytes = [0; 256];
    let count = stream.try_read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn the_predecessor_answers_with_its_page() {
    local(async {
        let registry = Registry::new();
        registry.listener("agents").accepted.add(3);
        let (own, other) = UnixStream::pair().unwrap();
        let link = Link::new(own);
        Successor::new(other, Arc::clone(&registry)).only_show();
        for _ in 0..2 {
            let (page, took) = ask(&link).await;
            let page = String::from_utf8(page.unwrap().to_vec()).unwrap();
            assert!(
                page.contains("accepted_total{listener=\"agents\"} 3\n"),
                "{page}"
            );
            assert!(took < FIGURES_TIMEOUT, "{took:?}");
        }
    });
}

#[test]
fn two_who_ask_at_once_share_one_question() {
    local(async {
        let (link, mut other) = link();
        let predecessor = async {
            other.readable().await.unwrap();
            for byte in answer(b"a page") {
                other.write_all(&[byte]).await.unwrap();
                yield_now().await;
            }
        };
        let (one, two, ()) = tokio::join!(ask(&link), ask(&link), predecessor);
        assert_eq!(one.0.as_deref(), Some(&b"a page"[..]));
        assert_eq!(one.0, two.0);
        assert_eq!(come(&other), "figures\n");
    });
}

#[test]
fn a_predecessor_that_does_not_answer_delays_three_scrapes_and_no_more_until_it_answers() {
    local(async {
        let (link, mut other) = link();
        for _ in 0..TRIES {
            assert_eq!(ask(&link).await, (None, FIGURES_TIMEOUT));
        }
        for _ in 0..100 {
            assert_eq!(ask(&link).await, (None, Duration::ZERO));
        }
        // Questions that it does not read do not pile up.
        assert_eq!(come(&other), "figures\n");
        // Nobody waits for a late answer, but it shows that the predecessor answers again.
        other.write_all(&answer(b"late")).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let predecessor = async {
            other.readable().await.unwrap();
            other.write_all(&answer(b"in time")).await.unwrap();
        };
        let ((page, _), ()) = tokio::join!(ask(&link), predecessor);
        assert_eq!(page.as_deref(), Some(&b"in time"[..]));
    });
}

#[test]
fn an_incomplete_page_is_not_an_answer_and_the_end_after_it_is_noticed() {
    local(async {
        let whole = answer(b"a page");
        let prefixes = (0..whole.len()).map(|end| whole[..end].to_vec());
        let too_long = [&[PAGE, 0xff, 0xff, 0xff, 0xff][..], &[b'a'; 999]].concat();
        for said in prefixes.chain([too_long, b"?".to_vec(), b"??b".to_vec()]) {
            let (mut link, mut other) = link();
            other.write_all(&said).await.unwrap();
            assert_eq!(ask(&link).await.0, None, "{said:?}");
            assert!(!link.questions().is_closed(), "{said:?}");
            drop(other);
            link.questions().closed().await;
            assert_eq!(link.ask_back().await, Asked::Ended, "{said:?}");
        }
    });
}

#[test]
fn the_predecessor_notices_the_end_of_the_link_at_once_while_a_question_is_open() {
    local(async {
        let (link, mut other) = link();
        let questions = link.questions();
        let (asker, answered) = oneshot::channel();
        questions.send(asker).unwrap();
        other.readable().await.unwrap();
        let begun = Instant::now();
        drop(link);
        let mut said = String::new();
        other.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "figures\n");
        assert!(answered.await.is_err());
        questions.closed().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_predecessor_that_comes_back_while_a_question_is_open_is_heard_behind_its_page() {
    local(async {
        let (mut link, mut other) = link();
        let (asker, answered) = oneshot::channel();
        link.questions().send(asker).unwrap();
        let said = [answer(b"a page"), vec![BACK]].concat();
        other.write_all(&said).await.unwrap();
        assert_eq!(link.ask_back().await, Asked::Back);
        assert_eq!(answered.await.unwrap(), &b"a page"[..]);
    });
}

#[test]
fn a_successor_that_does_not_read_its_page_holds_nothing_up() {
    local(async {
        let registry = Registry::new();
        for name in 0..20 {
            drop(registry.endings(&format!("{name:0>20000}"), None));
        }
        let (mut own, other) = UnixStream::pair().unwrap();
        let mut successor = Successor::new(other, Arc::clone(&registry));
        own.write_all(b"figures\nanother word\nfigures\nclosed 127.0.0.1:1\n")
            .await
            .unwrap();
        assert!(matches!(successor.word().await, Word::Closed(_)));
        // The page is still being sent, and the next messages arrive all the same.
        let word = timeout(Duration::from_secs(1), successor.word()).await;
        assert!(word.is_err(), "{word:?}");
        own.write_all(b"return\n").await.unwrap();
        assert!(matches!(successor.word().await, Word::Return));
        // A process that then comes back says so after the page.
        spawn_local(successor.tell_back());
        let mut said = Vec::new();
        own.read_to_end(&mut said).await.unwrap();
        let page = &said[5..said.len() - 1];
        assert!(page.len() > 1 << 20, "the page is too short for this test");
        assert_eq!(said, [answer(page), vec![BACK]].concat());
    });
}

#[test]
fn a_link_to_a_predecessor_that_has_ended_holds_no_descriptor() {
    local(async {
        let (link, other) = link();
        drop(other);
        while link.writing.lock().is_some() {
            yield_now().await;
        }
    });
}
