//! Crowds that misbehave, beside one client that does not: `cargo bench --bench crowds`.
//!
//! Half hellos, slow readers, clients without a route, a row of short connections (loads L5, L6, L10, L11 and L13), and
//! somebody who loads the page of the status again and again.
//! For each crowd a table shows how long the neighbour's connections take with and without it, and the memory of portway.
//! Clients and backends are one process, portway another one.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table is what it is for"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures for people have few digits"
)]
#![expect(
    unreachable_pub,
    reason = "nothing is reachable from outside of a program"
)]

mod backend;
mod crowd;
#[expect(dead_code, reason = "shared with tests, which use the rest")]
#[path = "../../tests/support/hello.rs"]
mod hello;
mod neighbour;
mod portway;
#[path = "../process/mod.rs"]
mod process;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, LocalOptions};

use crate::crowd::Crowd;
use crate::neighbour::{Neighbour, Times};
use crate::portway::{Portway, Size};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measure portway and a neighbour beside crowds that misbehave
#[derive(Debug, Parser)]
#[command(name = "crowds", max_term_width = 100)]
struct Options {
    /// Only this crowd
    #[arg(long)]
    only: Option<Kind>,
    /// How long the neighbour is measured, alone and beside each crowd
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// How many half hellos there are at a time
    #[arg(long, value_name = "COUNT", default_value_t = 5000)]
    half_hellos: usize,
    /// How many clients read slowly
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    slow_readers: usize,
    /// How many connections are idle while somebody looks at the page
    #[arg(long, value_name = "COUNT", default_value_t = 9000)]
    idle: usize,
    /// How many short connections follow each other
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    row: u64,
    /// Comes from cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A kind of crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Each sends half a hello and waits; those that end are replaced
    HalfHellos,
    /// Each reads a kilobyte a second of an endless answer
    SlowReaders,
    /// Each asks for a name of its own that has no route, from one of 65,000 addresses
    Strangers,
    /// Short connections, 64 at a time
    Row,
    /// Idle connections, and one browser that loads the page of the status ten times per second
    Onlooker,
}

impl Kind {
    /// How many are there at a time.
    const fn size(self, options: &Options) -> usize {
        match self {
            Self::HalfHellos => options.half_hellos,
            Self::SlowReaders => options.slow_readers,
            Self::Strangers | Self::Row => 64,
            Self::Onlooker => options.idle + 1,
        }
    }

    /// How many connect per second, if that is bounded.
    const fn rate(self) -> Option<f64> {
        match self {
            // Without a bound they would take all of both processors, and the figures of the neighbour would be those of a
            // machine that is too small.
            Self::Strangers => Some(20_000.0),
            // The kernel uses a local port again after a second or two, and has 28,232 of them.
            Self::Row => Some(10_000.0),
            Self::HalfHellos | Self::SlowReaders | Self::Onlooker => None,
        }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let kinds = Kind::value_variants().iter().copied();
    for kind in kinds.filter(|kind| options.only.is_none_or(|only| only == *kind)) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(measure(kind, options))?;
    }
    Ok(())
}

/// Measures the neighbour alone, beside the crowd, and what is left of the crowd behind it.
async fn measure(kind: Kind, options: &Options) -> Result<()> {
    let (echo, endless) = backend::start()?;
    let portway = Portway::start(echo, endless)?;
    let window = Duration::from_secs(options.seconds);
    let neighbour = Neighbour::new(portway.address());
    // The first connections warm caches up.
    neighbour.connect(Duration::from_secs(1)).await;
    let alone = neighbour.connect(window).await;
    let before = portway.size().await?;

    let count = kind.size(options);
    let crowd = Crowd::start(kind, count, (portway.address(), portway.admin()));
    crowd.until_there().await?;
    let (since, begun) = (
        Instant::now(),
        (crowd.ended(), portway.cpu()?, portway.lines()),
    );
    let beside = match kind {
        Kind::Row => beside_a_row(&neighbour, &crowd, options.row).await?,
        Kind::HalfHellos | Kind::SlowReaders | Kind::Strangers => neighbour.connect(window).await,
        Kind::Onlooker => beside_an_onlooker(&neighbour, &crowd, window).await?,
    };
    let with = portway.size().await?;
    let (ended, cpu, lines) = (
        crowd.ended() - begun.0,
        portway.cpu()? - begun.1,
        portway.lines() - begun.2,
    );
    // Of an onlooker, also the time in which it does not look.
    let seconds = since.elapsed().as_secs_f64();
    // While slow readers are new, the kernel fills gigabytes of buffers for them.
    let later = match kind {
        Kind::SlowReaders => Some(neighbour.connect(window).await),
        Kind::HalfHellos | Kind::Strangers | Kind::Row | Kind::Onlooker => None,
    };
    // The crowd needs the processors too, so a part of what the neighbour loses is not due to portway.
    let direct = match kind {
        Kind::Strangers => Some(Neighbour::new(echo).connect(window).await),
        Kind::HalfHellos | Kind::SlowReaders | Kind::Row | Kind::Onlooker => None,
    };
    crowd.stop()?;
    let after = portway.quiet().await?;

    println!("{kind:?}: {count} at a time");
    println!(
        "  {:.0} connections of the crowd end per second, with {:.0} lines per second in the log; CPU {:.1} % of a core",
        ended as f64 / seconds,
        lines as f64 / seconds,
        100.0 * cpu / seconds,
    );
    tell(
        &[
            ("alone", Some(&alone)),
            ("beside", Some(&beside)),
            ("beside, later", later.as_ref()),
            ("beside, without portway", direct.as_ref()),
        ],
        &[("before", &before), ("beside", &with), ("after", &after)],
    );
    println!("  in all: {}", after.outcomes());
    Ok(())
}

/// Prints the times of the neighbour that were measured, and the sizes of portway.
fn tell(neighbours: &[(&str, Option<&Times>)], sizes: &[(&str, &Size)]) {
    for (when, times) in neighbours {
        if let Some(times) = times {
            println!("  the neighbour {when}: {times}");
        }
    }
    for (when, size) in sizes {
        println!("  portway {when}: {size}");
    }
}

/// Measures the neighbour until so many connections of the crowd have ended. Fails if that takes too long: several end in
/// a millisecond even on a busy machine.
async fn beside_a_row(neighbour: &Neighbour, crowd: &Crowd, row: u64) -> Result<Times> {
    let longest = Duration::from_mins(1) + Duration::from_millis(row);
    let begun = Instant::now();
    let is_done = || crowd.ended() >= row;
    let is_over = || is_done() || begun.elapsed() > longest;
    let times = neighbour.connect_until(is_over).await;
    if is_done() {
        Ok(times)
    } else {
        Err(crowd.late(longest).into())
    }
}

/// Measures the neighbour beside idle connections while nobody looks, and then while somebody does: in turn, because the
/// machine may be slower at one time than at another. Returns the times beside the onlooker.
async fn beside_an_onlooker(
    neighbour: &Neighbour,
    crowd: &Crowd,
    window: Duration,
) -> Result<Times> {
    const TURNS: u32 = 10;
    let [mut without, mut with] = [Times::default(), Times::default()];
    for _ in 0..TURNS {
        without.add(neighbour.connect(window / TURNS).await);
        crowd.look(true);
        with.add(neighbour.connect(window / TURNS).await);
        crowd.look(false);
    }
    let pages = crowd.pages();
    println!("  the neighbour while nobody looks: {without}");
    println!("  {:.1} pages per second", pages as f64 / with.seconds);
    if pages == 0 {
        return Err("nobody has seen a page".into());
    }
    Ok(with)
}
