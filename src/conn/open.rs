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
        let mut has_ended_ones = true;
        for connection in connections {
            if has_passed(interval, connection.flow.accepted_at(), [before, now]) {
                if queue.len() >= most && has_ended_ones {
                    queue.retain(|due| due.strong_count() > 0);
                    has_ended_ones = false;
                }
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
        let mut written = 0;
        while written < LINES
            && let Some(connection) = queue.pop_front()
        {
            // One that has ended since costs nothing beside its end.
            if let Some(connection) = connection.upgrade() {
                connection.tell_open(|line| log.log(line));
                written += 1;
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
    use crate::conn::tests::{context, local};
    use crate::conn::{Context, Record};
    use crate::net::Accepted;
    use crate::snapshot::Taken;
    use crate::telemetry::lines::Lines;
    use crate::telemetry::{Form, Format, LogRules};

    /// A worker whose connections get a line every 10 seconds, and a clock for it.
    struct Worker {
        context: Rc<Context>,
        taken: Taken,
        start: Instant,
        reader: io::PipeReader,
    }

    impl Worker {
        fn start() -> Self {
            let (mut context, taken) = context();
            let (reader, writer) = io::pipe().unwrap();
            let lines = Lines::start(Box::new(writer), "log", Arc::default()).unwrap();
            let rules = LogRules {
                interval: Some(Duration::from_secs(10)),
                ..LogRules::default()
            };
            let registry = Arc::clone(&context.registry);
            let log = ConnectionLog::new(lines, Form::always(Format::Json), rules, registry);
            context.log = Arc::new(log);
            Self {
                context: Rc::new(context),
                taken,
                start: Instant::now(),
                reader,
            }
        }

        /// Opens connections.
        fn open(&self, count: usize) -> Vec<Record> {
            let open = |_| {
                let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let accepted = Accepted {
                    client: socket.local_addr().unwrap(),
                    socket: socket.into(),
                    at: self.start,
                };
                Record::open(Rc::clone(&self.context), &accepted, self.taken.clone())
            };
            (0..count).map(open).collect()
        }

        /// Looks at the connections so many seconds after they began.
        fn look(&self, seconds: u64) {
            let connections = self.context.connections.borrow();
            let each = connections.iter().map(|(_, connection)| connection);
            let now = self.start + Duration::from_secs(seconds);
            self.context.due.look(&self.context.log, now, each);
        }

        fn tell(&self) -> bool {
            self.context.due.tell(&self.context.log)
        }

        fn left_out(&self) -> u64 {
            self.context.registry.lines_suppressed.get()
        }

        /// The number of lines of open connections.
        fn written(self) -> usize {
            assert!(self.context.log.finish(Duration::from_secs(20)));
            let mut reader = self.reader;
            drop(self.context);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let lines = text.lines();
            lines
                .filter(|line| line.contains("\"phase\":\"open\""))
                .count()
        }
    }

    #[test]
    fn many_lines_that_are_due_at_once_are_written_in_parts_and_none_is_forgotten() {
        local(async {
            let worker = Worker::start();
            let records = worker.open(250);
            worker.look(0);
            worker.look(9);
            assert!(!worker.tell());
            worker.look(10);
            // The next interval passes before the lines of the first are written: there is one of each.
            worker.look(20);
            assert_eq!(worker.left_out(), 250);
            let left: Vec<bool> = (0..4).map(|_| worker.tell()).collect();
            assert_eq!(left, [true, true, false, false]);
            // Those that end while they wait have only that line.
            worker.look(30);
            drop(records);
            assert!(!worker.tell());
            assert_eq!(worker.written(), 250);
        });
    }

    #[test]
    fn connections_that_have_ended_take_no_line_of_others() {
        local(async {
            let worker = Worker::start();
            let ended = worker.open(150);
            worker.look(0);
            worker.look(10);
            drop(ended);
            let records = worker.open(80);
            // The lines of ends that are alike are summed up.
            let before = worker.left_out();
            worker.look(20);
            assert_eq!(worker.left_out(), before);
            assert!(!worker.tell());
            drop(records);
            assert_eq!(worker.written(), 80);
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
