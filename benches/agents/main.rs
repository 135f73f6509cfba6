//! A fleet of agents behind one portway: `cargo bench --bench agents`.
//!
//! Each agent holds a check-in, silent in both directions, and opens a data connection every few seconds, which it
//! closes after it has idled. Some agents give a check-in up. In the end portway is killed and started again, and all
//! agents come back. Each answer names its server and repeats the token of its request, so a lost, mixed up or
//! changed answer is counted.
//!
//! With `--upgrades COUNT` there is no takeover and no kill: portway is upgraded again and again (`portway upgrade`), beside
//! `--downloads` that pause and `--beats`, senders on connections of their own.
//!
//! Agents, servers and portway are three processes, so that their memory and CPU time can be told apart.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress and a table are what it is for"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures for people have few digits"
)]
#![expect(
    unreachable_pub,
    reason = "nothing is reachable from outside of a program"
)]

mod agent;
mod counts;
mod portway;
#[path = "../process/mod.rs"]
mod process;
mod server;
mod tls;
mod upgrades;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::agent::Fleet;
use crate::counts::{Counts, Phase};
use crate::portway::Portway;
use crate::server::Servers;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measure portway with a fleet of agents that poll, send data, give up and come back
#[derive(Debug, Parser)]
#[command(name = "agents", max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    shape: Shape,
    /// How often another portway takes over, before the kill
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    takeovers: usize,
    /// How often portway is upgraded, in place of takeovers and kill
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    upgrades: usize,
    /// The pause after each upgrade
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pause: f64,
    /// How long the fleet is watched between its start and the kill
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    seconds: f64,
    /// Comes from cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Serve,
}

/// The behaviour of the agents, with time compressed.
#[derive(Clone, Copy, Debug, Args)]
struct Shape {
    /// How many agents there are
    #[arg(long, value_name = "COUNT", default_value_t = 5000)]
    agents: usize,
    /// How long a check-in is held; a real one for five minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    poll: f64,
    /// The time between two data connections of one agent; real agents need 10 to 20 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    data: f64,
    /// How long a data connection idles before its agent closes it
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    idle: f64,
    /// The part of the check-ins that the agent gives up
    #[arg(long, value_name = "PART", default_value_t = 0.05)]
    cancel: f64,
    /// How many downloads of 16 MiB run all the time, each with pauses
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    downloads: usize,
    /// How many senders send a batch each second, as Beats do to Logstash, on a connection that they renew
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    beats: usize,
    /// The time within which all agents connect, at first and after the kill
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    within: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match options.command {
        Some(Command::Serve) => server::serve(),
        None => run(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    raise_descriptors()?;
    let servers = Servers::start()?;
    let portway = Portway::start(servers.addresses(), None)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(options, portway, &servers))
}

async fn watch(options: &Options, mut portway: Portway, servers: &Servers) -> Result<()> {
    let Shape { agents, within, .. } = options.shape;
    let counts = Arc::new(Counts::default());
    let fleet = Fleet::new(options.shape, servers, portway.address(), &counts)?;
    println!("{agents} agents connect within {within} s");
    let (begun, used) = (Instant::now(), portway.cpu()?);
    fleet.start();
    counts.until_all_hold(agents).await?;
    let up = begun.elapsed();
    let connections = counts.connections();
    println!(
        "all check-ins are held after {:.1} s: {:.0} connections/s, CPU of portway {:.2} ms a connection",
        up.as_secs_f64(),
        connections as f64 / up.as_secs_f64(),
        (portway.cpu()? - used) * 1e3 / connections as f64,
    );

    println!("the fleet works for {} s", options.seconds);
    let (before, used, begun) = (counts.snapshot(), portway.cpu()?, Instant::now());
    sleep(Duration::from_secs_f64(options.seconds)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = portway.cpu()? - used;
    counts.show_since(&before, seconds);
    let memory = portway.memory()?;
    println!(
        "portway: {:.1} % of a core, {:.1} MB in all, {} connections open, {:.0} bytes for each agent",
        100.0 * cpu / seconds,
        memory as f64 / 1e6,
        portway.active().await?,
        memory as f64 / agents as f64,
    );

    if options.upgrades > 0 {
        let pause = Duration::from_secs_f64(options.pause);
        let times = (options.upgrades, pause);
        upgrades::run(&mut portway, times, &options.shape, &counts).await?;
        println!(
            "{} downloads whole, {} batches of beats",
            counts.whole(),
            counts.acknowledged()
        );
        drop(portway);
        return counts.verdict();
    }
    for _ in 0..options.takeovers {
        portway = succeed(portway, &counts).await?;
    }

    killed(portway, servers, &counts, &options.shape).await
}

/// Kills portway, starts it again, and waits until all agents are back.
async fn killed(
    portway: Portway,
    servers: &Servers,
    counts: &Counts,
    &Shape { agents, within, .. }: &Shape,
) -> Result<()> {
    println!(
        "portway is killed, and started again at once; the agents come back within {within} s"
    );
    counts.enter(Phase::Killed);
    let begun = Instant::now();
    let portway = portway.restart(servers.addresses())?;
    counts.until_none_is_left_of_the_killed(agents).await?;
    println!(
        "all check-ins are held again after {:.1} s; {} were cut, {} connects failed meanwhile",
        begun.elapsed().as_secs_f64(),
        counts.cut(),
        counts.refused(),
    );
    counts.enter(Phase::Whole);
    sleep(Duration::from_secs(5)).await;
    println!("local ports of this machine: {}", portway::local_ports()?);
    drop(portway);
    counts.verdict()
}

/// Lets another portway take over, and shows what the fleet noticed.
async fn succeed(portway: Portway, counts: &Counts) -> Result<Portway> {
    let (before, begun) = (counts.disturbed(), Instant::now());
    let next = portway.succeed().await?;
    let now = counts.disturbed();
    println!(
        "another portway took over; the old one ended after {:.0} s: {} connections were closed between two check-ins, \
         {} requests were lost; the new one has {:.1} MB",
        begun.elapsed().as_secs_f64(),
        now[0] - before[0],
        now[1] - before[1],
        next.memory()? as f64 / 1e6,
    );
    Ok(next)
}

/// Each connection has a descriptor in the agents, two in portway and one in the servers.
fn raise_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
