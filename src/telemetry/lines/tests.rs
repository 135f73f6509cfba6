use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::{GATHER, Lines, QUEUE};

const LONG: Duration = Duration::from_secs(20);

fn start(output: impl Write + Send + 'static) -> (Lines, Arc<AtomicU64>) {
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines::start(Box::new(output), "test", Arc::clone(&dropped)).unwrap();
    (lines, dropped)
}

fn piped() -> (PipeReader, Lines, Arc<AtomicU64>) {
    let (reader, writer) = io::pipe().unwrap();
    let (lines, dropped) = start(writer);
    (reader, lines, dropped)
}

#[test]
fn lines_come_out_whole_in_order_and_without_waiting_for_more() {
    let (reader, lines, dropped) = piped();
    let mut reader = BufReader::new(reader);
    for n in 0..100 {
        lines.send(format!("line {n}\n").into_bytes());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("line {n}\n"));
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

/// Counts the writes.
struct Counting(Arc<AtomicU64>);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_come_together_share_a_write() {
    const LINES: u64 = 1000;
    let writes = Arc::new(AtomicU64::new(0));
    let (lines, _) = start(Counting(Arc::clone(&writes)));
    let began = Instant::now();
    for n in 0..LINES {
        lines.send(format!("line {n}\n").into_bytes());
        // So much time that the writer could take each by itself.
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_micros(50) {
            std::thread::yield_now();
        }
    }
    assert!(lines.finish(LONG));
    // However slow the machine is, the writer gathers before each of them.
    let times = began.elapsed().as_millis() / GATHER.as_millis();
    let writes = writes.load(Ordering::Relaxed);
    assert!(
        u128::from(writes) <= times + 1,
        "{writes} writes, {times} times to gather"
    );
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_time() {
    let (mut reader, lines, dropped) = piped();
    let sent = 3 * QUEUE;
    let began = Instant::now();
    for n in 0..sent {
        lines.send(format!("{n:099}\n").into_bytes());
    }
    assert!(began.elapsed() < LONG, "sending waited");
    let lost = dropped.load(Ordering::Relaxed);
    assert!(lost > 0, "nothing was lost though nobody reads");
    assert!(
        !lines.finish(Duration::from_millis(50)),
        "finished though nobody reads"
    );
    // Once the reader is back, all that was not counted as lost comes.
    let ends = std::thread::spawn(move || {
        let finished = lines.finish(LONG);
        drop(lines);
        finished
    });
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(ends.join().unwrap());
    let came = read.len() as u64 / 100;
    assert_eq!(came + dropped.load(Ordering::Relaxed), sent as u64);
}

#[test]
fn a_reader_that_is_gone_costs_every_line_and_nothing_else() {
    let (reader, lines, dropped) = piped();
    drop(reader);
    for _ in 0..10 {
        lines.send(b"line\n".to_vec());
    }
    assert!(lines.finish(LONG));
    assert_eq!(dropped.load(Ordering::Relaxed), 10);
}

#[test]
fn a_full_disk_costs_every_line_and_nothing_else() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (lines, dropped) = start(full);
    lines.send(b"one\n".to_vec());
    lines.send(b"two\n".to_vec());
    assert!(lines.finish(LONG));
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

/// Takes as much as the script says, then fails, then takes all.
struct Script {
    steps: Vec<io::Result<usize>>,
    written: mpsc::Sender<Vec<u8>>,
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = self.steps.pop().unwrap_or(Ok(bytes.len()))?;
        self.written.send(bytes[..step].to_vec()).unwrap();
        Ok(step)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_was_cut_short_does_not_run_into_the_next() {
    let (written, reader) = mpsc::channel();
    let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let (lines, dropped) = start(Script {
        steps: vec![full(), full(), Ok(2)],
        written,
    });
    for line in ["first\n", "second\n", "third\n"] {
        lines.send(line.into());
        assert!(lines.finish(LONG));
    }
    drop(lines);
    let all: Vec<u8> = reader.iter().flatten().collect();
    assert_eq!(String::from_utf8(all).unwrap(), "fi\nthird\n");
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

#[test]
fn an_output_that_says_not_now_is_asked_again() {
    let (written, reader) = mpsc::channel();
    let (lines, dropped) = start(Script {
        steps: vec![
            Err(io::Error::from(io::ErrorKind::Interrupted)),
            Ok(3),
            Err(io::Error::from(io::ErrorKind::WouldBlock)),
        ],
        written,
    });
    lines.send(b"line\n".to_vec());
    assert!(lines.finish(LONG));
    drop(lines);
    let all: Vec<u8> = reader.iter().flatten().collect();
    assert_eq!(all, b"line\n");
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn finish_gives_up_on_a_full_queue_when_its_time_is_over() {
    let (reader, lines, _) = piped();
    for _ in 0..2 * QUEUE {
        lines.send(vec![b'x'; 100]);
    }
    let began = Instant::now();
    assert!(!lines.finish(Duration::from_millis(50)));
    assert!(began.elapsed() < LONG);
    drop(reader);
}
