//! The lines of connections that have been open for long: `log.interval`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::Connection;
use crate::telemetry::ConnectionLog;

/// Most lines between two turns of the connections. They take less than a millisecond; a worker that steps ten times a
/// second writes 1,000 of them in it.
const LINES: usize = 100;

/// The connections of a worker that are to get a line. It is empty without `log.interval`.
#[derive(Default)]
pub struct Due {
    queue: RefCell<VecDeque<Weak<Connection>>>,
    /// The last look at the connections.
    looked: Cell<Option<Instant>>,
}

impl Due {
    /// Notes the connections whose interval has passed since the last look. Nothing is kept in a connection for that.
    pub(super) fn look<'c>(
        &self,
        log: &ConnectionLog,
        now: Instant,
        connections: impl ExactSizeIterator<Item = &'c Rc<Connection>>,
    ) {
        let before = self.looked.replace(Some(now));
        let (Some(interval), Some(before)) = (log.interval(), before) else {
            return;
        };
        let mut queue = self.queue.borrow_mut();
        let most = connections.len();
        for connection in connections {
            if has_passed(interval, connection.flow.accepted_at(), [before, now]) {
                // Those before it still wait, perhaps this one too.
                if queue.len() >= most {
                    log.leave_out();
                } else {
                    queue.push_back(Rc::downgrade(connection));
                }
            }
        }
    }

    /// Writes some of the lines that are due. Returns whether others are left.
    pub(super) fn tell(&self, log: &ConnectionLog) -> bool {
        let mut queue = self.queue.borrow_mut();
        let some = queue.len().min(LINES);
        for connection in queue.drain(..some) {
            // It may have ended since.
            if let Some(connection) = connection.upgrade() {
                connection.tell_open(|line| log.log(line));
            }
        }
        if queue.is_empty() {
            queue.shrink_to(LINES);
        }
        !queue.is_empty()
    }
}

/// Whether a multiple of the interval since `start` lies between two moments, the second one included.
fn has_passed(interval: Duration, start: Instant, [before, now]: [Instant; 2]) -> bool {
    let whole = |at: Instant| {
        let age = at.saturating_duration_since(start).as_millis();
        age / interval.as_millis().max(1)
    };
    whole(before) < whole(now)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Arc;

    use super::*;
    use crate::conn::Record;
    use crate::conn::tests::{context, local};
    use crate::net::Accepted;
    use crate::telemetry::lines::Lines;
    use crate::telemetry::{Form, Format, LogRules};

    #[test]
    fn many_lines_that_are_due_at_once_are_written_in_parts_and_none_is_forgotten() {
        local(async {
            let (mut context, taken) = context();
            let (mut reader, writer) = io::pipe().unwrap();
            let lines = Lines::start(Box::new(writer), "log", Arc::default()).unwrap();
            let rules = LogRules {
                interval: Some(Duration::from_secs(10)),
                ..LogRules::default()
            };
            let registry = Arc::clone(&context.registry);
            let log = ConnectionLog::new(lines, Form::always(Format::Json), rules, registry);
            context.log = Arc::new(log);
            let context = Rc::new(context);
            let start = Instant::now();
            let records: Vec<Record> = (0..250)
                .map(|_| {
                    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                    let accepted = Accepted {
                        client: socket.local_addr().unwrap(),
                        socket: socket.into(),
                        at: start,
                    };
                    Record::open(Rc::clone(&context), &accepted, taken.clone())
                })
                .collect();
            let look = |seconds| {
                let connections = context.connections.borrow();
                let each = connections.iter().map(|(_, connection)| connection);
                let now = start + Duration::from_secs(seconds);
                context.due.look(&context.log, now, each);
            };
            look(0);
            look(9);
            assert!(!context.due.tell(&context.log));
            look(10);
            // The next interval passes before the lines of the first are written: there is one of each.
            look(20);
            assert_eq!(context.registry.lines_suppressed.get(), 250);
            let left: Vec<bool> = (0..4).map(|_| context.due.tell(&context.log)).collect();
            assert_eq!(left, [true, true, false, false]);
            // One that ends while it waits has only that line.
            look(30);
            drop(records);
            assert!(context.due.tell(&context.log));
            assert!(context.log.finish(Duration::from_secs(20)));
            drop(context);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let open = text
                .lines()
                .filter(|line| line.contains("\"phase\":\"open\""));
            assert_eq!(open.count(), 250, "{text}");
        });
    }

    #[test]
    fn each_interval_passes_once_however_the_looks_fall() {
        let start = Instant::now();
        let interval = Duration::from_secs(10);
        let passes = |looks: &[u64]| {
            let at = |ms: &u64| start + Duration::from_millis(*ms);
            let pairs = looks.windows(2);
            let mut passes =
                pairs.map(|two| has_passed(interval, start, [at(&two[0]), at(&two[1])]));
            passes.by_ref().filter(|passed| *passed).count()
        };
        let each_second: Vec<u64> = (0..=35).map(|second| second * 1007).collect();
        assert_eq!(passes(&each_second), 3);
        assert_eq!(passes(&[9_999, 10_000, 10_001]), 1);
        // A worker that was stopped for long writes one line, not three.
        assert_eq!(passes(&[9_000, 39_000]), 1);
        assert_eq!(passes(&[0, 9_999]), 0);
    }
}
