//! The cost of a connection on the heap: how often a short one allocates, and what an idle one holds.
//! The test has its own binary, because everything that runs beside it would be counted too.

#[path = "support/heap.rs"]
mod heap;
#[expect(
    dead_code,
    reason = "shared with the tests of the parser, which use the rest"
)]
#[path = "support/hello.rs"]
mod hello;

#[cfg(test)]
mod connection_allocations {
    use std::io::{self, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use portway::app::{self, Output, Running};
    use portway::telemetry::{Form, Format};

    use super::heap::{Asked, asked, grown};
    use super::hello::Builder;

    /// A worker's allocations for one short connection: accept, hello, dial, 1 KiB each way, an
    /// orderly close, a log line. The fraction belongs to histograms, which allocate for many values
    /// at once.
    const ALLOCATIONS: f64 = 13.1;
    /// The bytes of these allocations; 1,632 of them are the future from accept to the relay, and 590 the log line.
    const BYTES: f64 = 3750.0;
    /// Bytes of the blocks that each idle connection holds: its task with the relay, two registrations
    /// with tokio, what is known about it, two references to sockets, and the name.
    const HELD: f64 = 1197.0;
    /// Its share of what the worker holds for all connections: the table of flows, and the values of
    /// one second in histograms.
    const SHARE: f64 = 100.0;

    const SHORT: u32 = 200;
    const IDLE: u32 = 500;
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_connection_costs_the_heap_what_its_budget_says() {
        let fleet = Fleet::start();
        for _ in 0..SHORT {
            fleet.short();
        }
        let before = asked();
        for _ in 0..SHORT {
            fleet.short();
        }
        let after = asked();
        let each = |figure: fn(Asked) -> u64| {
            let sum = u32::try_from(figure(after) - figure(before)).unwrap();
            f64::from(sum) / f64::from(SHORT)
        };
        let (allocations, bytes) = (each(|it| it.allocations), each(|it| it.bytes));
        println!("a short connection: {allocations:.2} allocations of {bytes:.0} bytes");

        let (held, share) = fleet.idle();
        assert!(
            allocations <= ALLOCATIONS && bytes <= BYTES,
            "a short connection: {allocations:.2} allocations of {bytes:.0} bytes; the budget is \
             {ALLOCATIONS} of {BYTES}"
        );
        assert!(
            held <= HELD && share <= SHARE,
            "an idle connection: {held:.0} bytes, and {share:.0} of what all share; the budget is \
             {HELD} and {SHARE}"
        );
    }

    /// portway and a backend. The backend is this thread, so that only portway's allocations count.
    struct Fleet {
        running: Option<Running>,
        listener: SocketAddr,
        backend: TcpListener,
        hello: Vec<u8>,
        lines: Lines,
    }

    impl Fleet {
        fn start() -> Self {
            let backend = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = backend.local_addr().unwrap();
            let toml = format!(
                "workers = 1\nadmin.bind = false\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
                 [backends.fleet]\nendpoints = [\"{address}\"]\n\
                 [routes.fleet]\nserver_names = [\"fleet.example\"]\nbackend = \"fleet\"\n"
            );
            let settings = portway::config::parse(&toml, "routes.toml")
                .unwrap()
                .settings;
            let lines = Lines::default();
            let output = Output {
                connections: Box::new(lines.clone()),
                form: Form::always(Format::Json),
            };
            let running = app::start(settings, output).unwrap();
            Self {
                listener: running.listeners()[0].1,
                running: Some(running),
                backend,
                hello: Builder::new("fleet.example").build(),
                lines,
            }
        }

        /// A connection over which 1 KiB has gone each way: the client's side and the backend's.
        fn established(&self) -> (TcpStream, TcpStream) {
            let mut client = TcpStream::connect(self.listener).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(&self.hello).unwrap();
            let (mut backend, _) = self.backend.accept().unwrap();
            backend.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = [0; 1024];
            let (hello, _) = received.split_at_mut(self.hello.len());
            backend.read_exact(hello).unwrap();
            for (mut from, mut to) in [(&backend, &client), (&client, &backend)] {
                // It begins as a record of TLS does.
                let mut bytes = [0x17; 1024];
                bytes[..6].copy_from_slice(&[22, 3, 3, 3, 251, 2]);
                from.write_all(&bytes).unwrap();
                let mut received = [0; 1024];
                to.read_exact(&mut received).unwrap();
            }
            (client, backend)
        }

        fn short(&self) {
            let logged = self.lines.count();
            let (mut client, mut backend) = self.established();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(backend.read(&mut [0]).unwrap(), 0);
            drop(backend);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            self.lines.wait(logged + 1);
        }

        /// The bytes that each idle connection holds, and its share of what all have in common. Prints
        /// the blocks.
        fn idle(&self) -> (f64, f64) {
            let mut connections = Vec::with_capacity(IDLE as usize);
            let grown = grown(|| connections.extend((0..IDLE).map(|_| self.established())));
            let each = |count: i64| f64::from(i32::try_from(count).unwrap()) / f64::from(IDLE);
            println!("an idle connection holds\n    size  align  blocks");
            let mut held = 0.0;
            for (size, align, count) in grown.blocks {
                println!("{size:8} {align:6} {:7.2}", each(count));
                held += f64::from(u32::try_from(size).unwrap()) * each(count).round();
            }
            let share = each(grown.bytes) - held;
            println!("{held:8.0} bytes, and {share:.0} of what all share");
            (held, share)
        }
    }

    impl Drop for Fleet {
        fn drop(&mut self) {
            if let Some(running) = self.running.take() {
                running.stop();
            }
        }
    }

    /// Counts the lines of the connection log without keeping them.
    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl Lines {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }

        fn wait(&self, count: usize) {
            let end = Instant::now() + PATIENCE;
            while self.count() < count {
                assert!(Instant::now() < end, "no log line within {PATIENCE:?}");
                std::thread::yield_now();
            }
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
            self.0.fetch_add(lines, Ordering::SeqCst);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
